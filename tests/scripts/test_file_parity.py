# SPDX-License-Identifier: Apache-2.0
"""The comparison from files to boxes: who is paired with whom, what the table says of it."""

import numpy as np
import pytest

from benchmarks.peers.backbones import DETECTRON2_BACKBONES, TORCHVISION_BACKBONES
from src.base.errors import UserError
from src.FasterRcnn.names import BACKBONES
from src.inference import Found
from tests import file_parity, tensor_parity
from tests.helpers.recipe import make_weight

NAMES = ["output 1", "output 2"]


def theirs(height, width, boxes, scores, labels):
    return {"height": height, "width": width, "boxes": boxes, "scores": scores, "labels": labels}


def ours(boxes, scores, labels):
    return Found(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(labels, np.int32),
    )


BOXES = [[0, 0, 100, 100], [200, 0, 300, 100]]
LANDSCAPE = theirs(480, 640, BOXES, [0.9, 0.4], [1, 2])
PORTRAIT = theirs(640, 480, BOXES, [0.9, 0.4], [1, 2])


def test_each_box_is_a_partner_once_and_of_its_class():
    twice = theirs(480, 640, [BOXES[0], BOXES[0]], [0.5, 0.9], [1, 1])
    one = ours([BOXES[0], BOXES[0]], [0.8, 0.9], [1, 2])
    np.testing.assert_allclose(file_parity.pairs_of(twice, one), [[0, np.inf], [1, 0.1]], rtol=1e-5)
    nothing = file_parity.pairs_of(LANDSCAPE, ours([], [], []))
    np.testing.assert_array_equal(nothing, [[0, np.inf]] * 2)
    assert file_parity.pairs_of(theirs(1, 1, [], [], []), one).shape == (0, 2)


@pytest.mark.parametrize(
    "found, shares, missed",
    [
        (ours(BOXES, [0.9, 0.4], [1, 2]), ("100.00%", "100.00%", "1.0000"), 0),
        (ours(BOXES, [0.9, 0.43], [1, 2]), ("100.00%", "50.00%", "1.0000"), 1),
        (ours(BOXES[:1], [0.9], [1]), ("50.00%", "50.00%", "0.5000"), 1),
    ],
)
def test_the_table(capsys, found, shares, missed):
    one = ours(BOXES, [0.9, 0.4], [1, 2])
    both = {"a": LANDSCAPE, "b": PORTRAIT}
    assert file_parity.compare(both, {"a": one, "b": found}, NAMES, "torchvision") == missed
    landscape, portrait = capsys.readouterr().out.splitlines()[2:4]
    assert landscape.split()[:3] == ["landscape", "1", "2"] and "MISSED" not in landscape
    assert tuple(portrait.split()[3:6]) == shares and ("MISSED" in portrait) == bool(missed)


def test_the_recipe_knows_detectron2s_names():
    names = {
        "proposal_generator.rpn_head.anchor_deltas.weight": "proposal_generator.rpn.head.bbox_pred."
        "weight",
        "backbone.bottom_up.res2.0.conv3.norm.weight": "backbone.bottom_up.res2.0.bn3.weight",
    }
    for name, known in names.items():
        weights = file_parity.recipe_weights({name: [12]})
        np.testing.assert_array_equal(weights[name], make_weight(known, [12]))


def test_basic_blocks_end_small_as_bottlenecks_do():
    """A residual branch whose end is not small grows from block to block, until scores are 1."""
    name = "backbone.body.layer1.0.bn2.weight"
    for others, low, high in ((["layer1.0.conv3.weight"], 0.6, 1), ([], 0.1, 0.3)):
        shapes = {name: [64]} | {other: [4] for other in others}
        values = file_parity.recipe_weights(shapes)[name]
        assert low <= values.min() and values.max() <= high


def test_peers_name_backbones_that_there_are(tmp_path):
    assert {*TORCHVISION_BACKBONES, *DETECTRON2_BACKBONES} <= BACKBONES.keys()
    with pytest.raises(UserError, match="--backbone resnet_v1_50: torchvision has resnet_v1.5_50,"):
        file_parity.main(["--images", str(tmp_path), "--backbone", "resnet_v1_50"])
    with pytest.raises(UserError, match="--backbone vgg: detectron2 has resnet_v1_50,"):
        tensor_parity.main(["--peer", "detectron2", "--backbone", "vgg"])


def test_pixels_of_caffe2s_resnext_are_divided():
    assert file_parity.has_undivided_pixels("detectron2", "resnet_v1_50")
    assert not file_parity.has_undivided_pixels("detectron2", "resnext_101_32x8d")
    assert not file_parity.has_undivided_pixels("torchvision", "resnet_v1_101")
