# SPDX-License-Identifier: Apache-2.0
"""Detectors whose neck and heads are of another form than the usual one, there and back."""

import json
from pathlib import Path

import numpy as np
import pytest

from src.base.errors import UserError
from src.checkpoints.families import COCO_NAMES
from src.checkpoints.foreign.conversion import ConversionOptions
from src.checkpoints.foreign.description import make_meta
from src.checkpoints.foreign.kinds import convert
from src.checkpoints.foreign.parameters import HeadForm, detector_shapes
from src.checkpoints.foreign.reading import Source
from src.checkpoints.foreign.table import conversion_lines
from src.checkpoints.foreign.to_torchvision import to_torchvision
from src.model_utils.config import load_config
from tests.helpers import foreign_checkpoints as foreign
from tests.helpers.paths import RESOURCES

V2 = HeadForm("bn", 2, convs=4, dense=1, norm="bn")
GN = HeadForm("gn", 2, convs=2, dense=2, norm="gn", class_agnostic=True)
RPN = "rpn_with_loss.rpn_convs_list.0"


@pytest.fixture(autouse=True)
def no_file_is_read(monkeypatch):
    monkeypatch.setattr(Source, "sha256", lambda self: "0" * 64)


def converted(arrays, **changes):
    options = ConversionOptions(**{"class_names": COCO_NAMES, **changes})
    return convert(Source(Path("file.pth"), dict(arrays)), options)


def shapes_of(arrays):
    return {name: array.shape for name, array in arrays.items()}


def same(result, arrays, pairs):
    """Our names -> the file's; matrices are transposed."""
    for ours, theirs in pairs.items():
        array = result.arrays[ours]
        np.testing.assert_array_equal(array.T if array.ndim == 2 else array, arrays[theirs], ours)


def test_the_names_of_version_2_are_torchvisions_own():
    shapes = json.loads((RESOURCES / "torchvision_v2_params.json").read_text())
    assert {n: list(s) for n, s in foreign.torchvision_v2().items()} == shapes


def test_torchvision_version_2():
    arrays = foreign.fill(foreign.torchvision_v2())
    result = converted(arrays)
    expected = detector_shapes("resnet_v1.5_50", 81, unused_outputs=10, form=V2)
    assert shapes_of(result.arrays) == expected and list(result.arrays) == list(expected)
    same(
        result,
        arrays,
        {
            "fpn_neck.lateral_convs_list.3.conv.weight": "backbone.fpn.inner_blocks.3.0.weight",
            "fpn_neck.fpn_convs_list.1.norm.gamma": "backbone.fpn.layer_blocks.1.1.weight",
            "fpn_neck.fpn_convs_list.1.norm.moving_variance": "backbone.fpn.layer_blocks.1.1"
            ".running_var",
            f"{RPN}.rpn_conv.1.bias": "rpn.head.conv.1.0.bias",
            "rcnn.shared_convs.2.conv.weight": "roi_heads.box_head.2.0.weight",
            "rcnn.shared_convs.3.norm.beta": "roi_heads.box_head.3.1.bias",
            "rcnn.shared_fc_0.weight": "roi_heads.box_head.5.weight",
        },
    )
    settings = result.settings
    assert settings["fpn_norm"] == "bn" and settings["rpn_conv_depth"] == 2
    assert settings["rcnn_head"] == {"convs": 4, "dense": 1, "norm": "bn"}
    assert settings["rcnn_class_agnostic"] is False and settings["bn_eps"] == 1e-5
    assert "setting: rpn_conv_depth 2" in "\n".join(conversion_lines(result, {}))
    assert load_config([]).replace(**settings).rcnn_head == settings["rcnn_head"]


@pytest.mark.parametrize("kinds", [foreign.TORCH_NORM[:2], foreign.TORCH_NORM], ids=["gn", "bn"])
def test_class_agnostic_detectron2_with_norms(kinds):
    arrays = foreign.fill(foreign.detectron2_heads(kinds))
    result = converted(arrays)
    form = GN if len(kinds) == 2 else GN._replace(fpn_norm="bn", norm="bn")
    assert shapes_of(result.arrays) == detector_shapes("resnet_v1.5_50", 81, form=form)
    assert HeadForm.of_settings(result.settings) == form
    same(
        result,
        arrays,
        {
            "fpn_neck.lateral_convs_list.0.norm.gamma": "backbone.fpn_lateral2.norm.weight",
            "fpn_neck.fpn_convs_list.3.conv.weight": "backbone.fpn_output5.weight",
            f"{RPN}.rpn_conv.0.weight": "proposal_generator.rpn_head.conv.conv0.weight",
            "rcnn.shared_convs.1.norm.beta": "roi_heads.box_head.conv2.norm.bias",
            "rcnn.shared_fc_1.weight": "roi_heads.box_head.fc2.weight",
            "rcnn.reg_scores.weight": "roi_heads.box_predictor.bbox_pred.weight",
        },
    )
    assert any(row.note.endswith("the same box for all classes") for row in result.rows)
    few = converted(arrays, class_names=("dog", "person"), names_given=True)
    assert few.arrays["rcnn.reg_scores.bias"].shape == (4,)
    assert few.arrays["rcnn.cls_scores.bias"].shape == (81,)


@pytest.mark.parametrize("norm", ["bn", "gn"])
def test_mmdetections_heads_with_convolutions(norm):
    arrays = foreign.fill(foreign.mmdetection_heads(norm))
    result = converted(arrays)
    form = HeadForm(norm, 1, convs=4, dense=1, norm=norm)
    assert shapes_of(result.arrays) == detector_shapes("resnet_v1.5_50", 81, form=form)
    pairs = {
        "fpn_neck.lateral_convs_list.2.norm.beta": f"neck.lateral_convs.2.{norm}.bias",
        "rcnn.shared_convs.1.norm.gamma": f"roi_head.bbox_head.shared_convs.1.{norm}.weight",
        "rcnn.shared_fc_0.weight": "roi_head.bbox_head.shared_fcs.0.weight",
    }
    same(result, arrays, pairs)


def test_mindspore_lab():
    arrays = foreign.fill(foreign.mindspore_lab())
    more = {"moments.bbox_head.bbox_cls.bias": np.ones(81), "learning_rate": np.ones(1)}
    result = converted(arrays | more)
    assert shapes_of(result.arrays) == detector_shapes("resnet_v1.5_50", 81)
    same(
        result,
        arrays,
        {
            "backbone.layer1.2.bn2.moving_mean": "backbone.bottom_up.layer1.2.bn2.moving_mean",
            "backbone.layer2.0.conv_down_sample.weight": "backbone.bottom_up.layer2.0.down_sample.0"
            ".weight",
            "fpn_neck.fpn_convs_list.1.bias": "backbone.fpn_convs.1.conv.0.bias",
            f"{RPN}.rpn_cls.weight": "rpn_head.rpn_feat.rpn_rois_score.weight",
            "rcnn.shared_fc_1.weight": "bbox_head.head.fc7.weight",
            "rcnn.reg_scores.weight": "bbox_head.bbox_delta.weight",
        },
    )
    theirs = arrays["bbox_head.bbox_cls.bias"]  # the background is the last
    np.testing.assert_array_equal(result.arrays["rcnn.cls_scores.bias"], np.roll(theirs, 1))
    settings = result.settings
    assert settings["fpn_upsample"] == "bilinear" and settings["stem_pool"] == "same"
    assert settings["pad_before_normalize"] is True and settings["anchor_rounding"] is False
    assert settings["box_convention"] == "modern" and result.class_names == COCO_NAMES
    assert any("second NMS" in line for line in result.assumed)


def test_what_no_box_head_has_is_refused():
    arrays = foreign.fill(foreign.torchvision_v2())
    arrays["roi_heads.box_predictor.bbox_pred.bias"] = np.zeros(8, np.float32)
    with pytest.raises(UserError, match="8 box deltas for 91 classes, where 4 for each or 4 for"):
        converted(arrays)
    for part in ("weight", "bias"):
        del arrays[f"roi_heads.box_head.5.{part}"]
    with pytest.raises(UserError, match="has 0 shared dense layers, where 1 or 2 are expected"):
        converted(arrays)


def _own(arrays, **settings):
    """A conversion's checkpoint, with other settings."""
    result = converted(arrays)
    result.settings.update(settings)
    meta = make_meta(result, load_config([]))
    return Source(Path("own.ckpt"), result.arrays, meta=meta)


def test_back_to_version_2():
    arrays = foreign.fill(foreign.torchvision_v2())
    back = to_torchvision(_own(arrays))
    kept = {n: a for n, a in arrays.items() if not n.endswith("num_batches_tracked")}
    assert shapes_of(back.arrays) == shapes_of(kept)
    for name, array in kept.items():
        if "box_predictor" not in name:
            np.testing.assert_array_equal(back.arrays[name], array, name)
    assert back.assumed[0].startswith("for fasterrcnn_resnet50_fpn_v2(num_classes=91);")


def test_one_box_for_all_classes_is_written_for_each():
    arrays = foreign.fill(foreign.torchvision())
    for kind in ("weight", "bias"):
        arrays[f"roi_heads.box_predictor.bbox_pred.{kind}"] = arrays[
            f"roi_heads.box_predictor.bbox_pred.{kind}"
        ][8:12]
    back = to_torchvision(_own(arrays)).arrays
    for kind in ("weight", "bias"):
        name = f"roi_heads.box_predictor.bbox_pred.{kind}"
        boxes = back[name].reshape(91, 4, -1)
        np.testing.assert_array_equal(boxes[1], arrays[name].reshape(4, -1))
        np.testing.assert_array_equal(boxes[90], boxes[1])
        assert not boxes[[0, 12]].any()


@pytest.mark.parametrize(
    "changes, found",
    [
        ({"fpn_norm": "gn"}, "has fpn_norm gn, rpn_conv_depth 1"),
        ({"rcnn_head": {"convs": 4, "dense": 2, "norm": "none"}}, "rcnn_head {convs: 4, dense: 2"),
        ({"fpn_upsample": "bilinear"}, "norm: none}, fpn_upsample bilinear, but torchvision"),
    ],
)
def test_what_torchvision_does_not_have_is_refused(changes, found):
    with pytest.raises(UserError, match=r"or fpn_norm bn, rpn_conv_depth 2, rcnn_head") as caught:
        to_torchvision(_own(foreign.fill(foreign.torchvision()), **changes))
    assert found in str(caught.value)
