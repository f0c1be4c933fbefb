# SPDX-License-Identifier: Apache-2.0
"""The names of the network: one table, and those that must say the same."""

import ast
import re
import subprocess
import sys

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, ops

from src.checkpoints.backbones import backbone_named, form_of_plan, form_of_shapes, title_of
from src.checkpoints.foreign.parameters import backbone_shapes
from src.FasterRcnn.backbones import build_backbone
from src.FasterRcnn.bbox_assign_sample import ANCHOR_FILTERS
from src.FasterRcnn.box_losses import BOX_LOSSES
from src.FasterRcnn.names import (
    BACKBONES,
    BOX_CONVENTIONS,
    HARD,
    LOSS_NAMES,
    NUM_STAGES,
    Losses,
    total_loss,
)
from src.FasterRcnn.nms import SUPPRESSIONS
from src.FasterRcnn.norms import NORMS
from src.FasterRcnn.resnet import STEM_POOLS, BasicBlock, Bottleneck
from src.FasterRcnn.soft_nms import DECAYS
from src.model_utils.config import DEFAULT_CONFIG
from src.model_utils.configuration.yaml_files import read_documents
from tests.helpers.network_helpers import fill_by_recipe
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
    text = (REPO / "scripts" / "arguments.sh").read_text(encoding="utf-8")
    listed = re.search(r"^BACKBONES=\(([^)]*)\)$", text, re.MULTILINE)[1].split()
    assert sorted(listed) == sorted(BACKBONES)


def test_the_benchmark_of_torchvision_means_the_same_networks():
    text = (REPO / "benchmarks" / "peers" / "backbones.py").read_text(encoding="utf-8")
    table = re.search(r"^TORCHVISION_BACKBONES = (\{.*?^\})", text, re.M | re.S)[1]
    named = ast.literal_eval(table)
    assert named and all(BACKBONES[ours].torchvision == theirs for ours, theirs in named.items())


def test_what_follows_from_the_table():
    assert BACKBONES["resnet_v1_101"].widths == (64, 128, 256, 512)
    assert BACKBONES["resnet_v1_101"].channels == (256, 512, 1024, 2048)
    assert BACKBONES["resnet_v1.5_34"].channels == (64, 128, 256, 512)
    assert BACKBONES["resnext_50_32x4d"].widths == (128, 256, 512, 1024)
    assert BACKBONES["wide_resnet_50_2"].widths == (128, 256, 512, 1024)
    assert all(len(plan.blocks) == NUM_STAGES for plan in BACKBONES.values())
    titles = [plan.title for plan in BACKBONES.values()]
    assert titles[:5] == ["ResNet-50", "ResNet-50", "ResNet-101", "ResNet-152", "ResNet-101"]
    assert {"ResNet-18", "ResNeXt-101 64x4d", "wide ResNet-50"} <= set(titles)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_is_known_by_its_shapes_and_style(name):
    plan, shapes = BACKBONES[name], backbone_shapes(name)
    form = form_of_shapes(shapes.get)
    assert form == form_of_plan(plan) and title_of(form) == plan.title
    assert backbone_named(form, plan.style) == name


def test_what_style_means_to_the_blocks():
    forms = {name: form_of_plan(plan) for name, plan in BACKBONES.items()}
    assert backbone_named(forms["resnet_v1_152"], "caffe") is None
    assert backbone_named(forms["wide_resnet_50_2"], "caffe") is None
    for name in ("resnext_101_32x8d", "resnet_v1.5_18"):
        assert backbone_named(forms[name], "caffe") == name
    assert str(forms["resnext_101_32x8d"]) == (
        "23 bottleneck blocks in the third stage, 32 groups of 8 channels"
    )
    assert form_of_shapes({"backbone.layer3.0.conv1.weight": (1, 1, 1, 1)}.get) is None


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


@pytest.mark.parametrize("name", ["resnext_50_32x4d", "resnet_v1.5_18", "wide_resnet_50_2"])
def test_the_listed_shapes_are_the_cells(name):
    network = build_backbone(
        name, norm="frozen_bn", eps=1e-5, frozen_stages=0, stem_pool="symmetric"
    )
    shapes = {f"backbone.{p.name}": tuple(p.shape) for p in network.get_parameters()}
    assert shapes == backbone_shapes(name)
    kernel = {
        "resnext_50_32x4d": (128, 4, 3, 3),
        "resnet_v1.5_18": (64, 64, 3, 3),
        "wide_resnet_50_2": (128, 128, 3, 3),
    }
    assert shapes["backbone.layer1.0.conv2.weight"] == kernel[name]


@pytest.mark.parametrize("stride, outputs", [(1, 8), (2, 16)])
def test_a_basic_block_is_two_convolutions_and_what_goes_past_them(stride, outputs):
    block = BasicBlock(8, outputs, outputs, stride, "frozen_bn", 1e-5)
    fill_by_recipe(block)
    x = Tensor(np.random.default_rng(0).normal(size=(1, 8, 6, 10)).astype(np.float32))
    inner = ops.relu(block.bn1(block.conv1(x)))
    past = block.bn_down_sample(block.conv_down_sample(x)) if block.has_projection else x
    expected = ops.relu(block.bn2(block.conv2(inner)) + past).asnumpy()
    assert block.has_projection == (stride == 2)
    assert [conv.kernel_size for conv in (block.conv1, block.conv2)] == [(3, 3)] * 2
    found = block(x).asnumpy()
    assert found.shape == (1, outputs, 6 // stride, 10 // stride)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


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
