# SPDX-License-Identifier: Apache-2.0
"""The names of the network: one table, and those that must say the same."""

import ast
import re
import subprocess
import sys

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from src.checkpoints.families import DEPTHS, plain_resnet
from src.checkpoints.foreign.parameters import backbone_shapes
from src.FasterRcnn.backbones import build_backbone
from src.FasterRcnn.bbox_assign_sample import ANCHOR_FILTERS
from src.FasterRcnn.box_losses import BOX_LOSSES
from src.FasterRcnn.names import (
    BACKBONES,
    BOX_CONVENTIONS,
    HARD,
    LOSS_NAMES,
    STAGE_CHANNELS,
    Backbone,
    Losses,
    total_loss,
)
from src.FasterRcnn.nms import SUPPRESSIONS
from src.FasterRcnn.norms import NORMS
from src.FasterRcnn.resnet import STEM_POOLS, Bottleneck
from src.FasterRcnn.soft_nms import DECAYS
from src.model_utils.config import DEFAULT_CONFIG
from src.model_utils.configuration.yaml_files import read_documents
from tests.helpers.paths import REPO


@pytest.mark.parametrize(
    "key, names",
    [
        ("backbone", BACKBONES),
        ("box_convention", BOX_CONVENTIONS),
        ("norm", NORMS),
        ("stem_pool", STEM_POOLS),
        ("anchor_filter", ANCHOR_FILTERS),
        ("rpn_box_loss", BOX_LOSSES),
        ("rcnn_box_loss", BOX_LOSSES),
        ("test_nms", SUPPRESSIONS),
        ("test_nms_kind", (HARD, *DECAYS)),
    ],
)
def test_the_choices_of_the_configuration_are_those_of_the_network(key, names):
    choices = read_documents(str(DEFAULT_CONFIG))[2]
    assert choices[key] == list(names)


def test_the_launchers_know_every_backbone():
    text = (REPO / "scripts" / "common.sh").read_text(encoding="utf-8")
    listed = re.search(r"^BACKBONES=\((.*)\)$", text, re.MULTILINE)[1].split()
    assert sorted(listed) == sorted(BACKBONES)


def test_the_benchmark_of_torchvision_means_the_same_networks():
    text = (REPO / "benchmarks" / "peers" / "torchvision_worker.py").read_text(encoding="utf-8")
    named = ast.literal_eval(re.search(r"^_BACKBONES = (\{.*?^\})", text, re.M | re.S)[1])
    assert named and all(BACKBONES[ours].torchvision == theirs for ours, theirs in named.items())


def test_what_follows_from_the_table():
    assert DEPTHS == {6: 50, 23: 101, 36: 152}
    assert plain_resnet(6, "torch") == "resnet_v1.5_50"
    assert plain_resnet(23, "caffe") == "resnet_v1_101_caffe"
    assert plain_resnet(36, "caffe") is None
    assert BACKBONES["resnet_v1_101"].widths == (64, 128, 256, 512)
    assert all(len(plan.blocks) == len(STAGE_CHANNELS) for plan in BACKBONES.values())


def test_the_names_load_nothing_else():
    code = "import sys, src.FasterRcnn.names; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "src.FasterRcnn.names" in loaded
    assert not {"mindspore", "numpy", "yaml"} & set(loaded)
    assert [name for name in loaded if name.startswith("src.FasterRcnn.")] == [
        "src.FasterRcnn.names"
    ]


def test_the_total_is_the_sum_of_the_stages():
    losses = Losses(*np.arange(1.0, 7.0))
    assert total_loss(losses) == total_loss(tuple(losses)) == losses.rpn_loss + losses.rcnn_loss
    assert LOSS_NAMES[:2] == ("rpn_loss", "rcnn_loss") and LOSS_NAMES[-1] == "rcnn_reg_loss"


def test_a_grouped_backbone_needs_its_row_alone(monkeypatch):
    """ResNeXt-50 32x4d: the shapes of torchvision's resnext50_32x4d."""
    monkeypatch.setitem(BACKBONES, "resnext", Backbone(50, (3, 4, 6, 3), groups=32, base_width=4))
    assert BACKBONES["resnext"].widths == (128, 256, 512, 1024)
    assert plain_resnet(6, "torch") == "resnet_v1.5_50"
    network = build_backbone(
        "resnext", norm="frozen_bn", eps=1e-5, frozen_stages=0, stem_pool="symmetric"
    )
    shapes = {f"backbone.{p.name}": tuple(p.shape) for p in network.get_parameters()}
    assert shapes == backbone_shapes("resnext")
    assert shapes["backbone.layer1.0.conv2.weight"] == (128, 4, 3, 3)


@pytest.mark.parametrize("fold", [False, True])
def test_groups_are_convolved_apart(fold):
    ms.set_seed(1)
    block = Bottleneck(16, 16, 16, 1, "frozen_bn", 1e-5, fold, groups=4)
    image = np.random.default_rng(0).normal(size=(1, 16, 5, 6)).astype(np.float32)
    weight = block.conv2.weight.asnumpy()
    dense = Bottleneck(16, 16, 16, 1, "frozen_bn", 1e-5, fold)
    for name, parameter in block.parameters_dict().items():
        if name != "conv2.weight":
            dense.parameters_dict()[name].set_data(Tensor(parameter.asnumpy()))
    spread = np.zeros((16, 16, 3, 3), np.float32)
    for output in range(16):
        first = output // 4 * 4
        spread[output, first : first + 4] = weight[output]
    dense.conv2.weight.set_data(Tensor(spread))
    found, expected = (cell(Tensor(image)).asnumpy() for cell in (block, dense))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
