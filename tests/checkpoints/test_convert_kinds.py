# SPDX-License-Identifier: Apache-2.0
"""Every kind of checkpoint becomes ours: names, shapes, order of classes, settings, leftovers."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from src.base.errors import UserError
from src.checkpoints import backbones, families
from src.checkpoints.foreign.conversion import ConversionOptions
from src.checkpoints.foreign.kinds import convert
from src.checkpoints.foreign.parameters import backbone_shapes, detector_shapes
from src.checkpoints.foreign.reading import Source
from src.checkpoints.foreign.table import conversion_lines
from src.FasterRcnn.names import BACKBONES
from src.model_utils.config import load_config
from src.model_utils.configuration.schema import SETTABLE
from tests.helpers import foreign_checkpoints as foreign
from tests.helpers.paths import RESOURCES

BACKBONE = {
    50: "resnet_v1.5_50",
    101: "resnet_v1_101",
    152: "resnet_v1_152",
    18: "resnet_v1.5_18",
    34: "resnet_v1.5_34",
    "resnext50_32x4d": "resnext_50_32x4d",
    "resnext101_32x8d": "resnext_101_32x8d",
    "resnext101_64x4d": "resnext_101_64x4d",
    "wide_resnet50_2": "wide_resnet_50_2",
}
COCO = families.COCO_NAMES


def wanted(**changes):
    return ConversionOptions(**{"class_names": COCO, **changes})


def converted(arrays, extra=None, name="file.pth", **changes):
    return convert(Source(Path(name), dict(arrays), extra or {}), wanted(**changes))


@pytest.fixture(autouse=True)
def no_file_is_read(monkeypatch):
    monkeypatch.setattr(Source, "sha256", lambda self: "0" * 64)


def check_backbone(result, arrays, pairs):
    """Samples: our name without `backbone.` -> the file's."""
    for ours, theirs in pairs.items():
        np.testing.assert_array_equal(result.arrays[f"backbone.{ours}"], arrays[theirs], ours)


# ------------------------------------------------------------------ what this project's network has


def test_the_listed_parameters_are_the_networks():
    shapes = json.loads((RESOURCES / "ancestor_r50_params.json").read_text())
    assert {n: list(s) for n, s in detector_shapes("resnet_v1.5_50", 81).items()} == shapes


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_listed_parameters_are_the_built_networks(backbone):
    from src.detector import build_detector

    config = load_config(["--device_target", "CPU"]).replace(
        backbone=backbone, img_width=64, img_height=64, coco_classes=["a", "b"]
    )
    built = {p.name: tuple(p.shape) for p in build_detector(config).get_parameters()}
    assert built == detector_shapes(backbone, 3)


def test_families_name_only_keys_of_the_configuration():
    defaults = load_config([])
    for family, settings in families.FAMILIES.items():
        assert settings.keys() <= set(SETTABLE), family
        assert defaults.replace(**settings).box_convention == settings["box_convention"]
    assert defaults.class_names == COCO
    assert families.COCO_IDS["stop sign"] == 13 and families.COCO_IDS["toothbrush"] == 90
    assert families.FAMILIES["model_zoo"]["pad_before_normalize"] is True
    zoo = [k for k, v in families.FAMILIES["model_zoo"].items() if defaults.to_dict()[k] != v]
    # The defaults are the zoo's else; its padding is what `auto` means for legacy boxes.
    assert zoo == ["pad_before_normalize", "clip_to_canvas", "padding"]


# ------------------------------------------------------------------ classifiers


@pytest.mark.parametrize(
    "depth, kind",
    [
        *((depth, "torchvision") for depth in BACKBONE),
        *((depth, kind) for depth in (50, 101, 18) for kind in ("mindcv", "zoo")),
    ],
)
def test_classifiers(depth, kind):
    head, projection, norm = {
        "torchvision": ("fc", "downsample", foreign.TORCH_NORM),
        "mindcv": ("classifier", "down_sample", foreign.MINDSPORE_NORM),
        "zoo": ("end_point", "down_sample_layer", foreign.MINDSPORE_NORM),
    }[kind]
    arrays = foreign.fill(foreign.resnet(depth, projection=projection, norm=norm))
    arrays |= {f"{head}.weight": np.ones((10, 2048), np.float32), f"{head}.bias": np.ones(10)}
    if kind == "zoo":
        arrays |= {"moments.conv1.weight": np.ones((64, 3, 7, 7)), "global_step": np.ones(1)}
    result = converted(arrays)
    assert {n: a.shape for n, a in result.arrays.items()} == backbone_shapes(BACKBONE[depth])
    check_backbone(
        result,
        arrays,
        {
            "layer3.1.conv2.weight": "layer3.1.conv2.weight",
            "layer2.0.conv_down_sample.weight": f"layer2.0.{projection}.0.weight",
            "layer2.0.bn_down_sample.moving_variance": f"layer2.0.{projection}.1.{norm[3]}",
            "bn1.beta": f"bn1.{norm[1]}",
            "layer4.1.bn2.moving_mean": f"layer4.1.bn2.{norm[2]}",
        },
    )
    assert result.class_names is None
    assert result.settings["backbone"] == BACKBONE[depth]
    assert result.settings["stem_pool"] == ("symmetric" if kind == "torchvision" else "same")
    assert ([f"{head}.weight", f"{head}.bias"], "the classifier") in result.dropped
    text = "\n".join(conversion_lines(result, {}))
    assert f"{head}.weight" in text and "none left over" in text


@pytest.mark.parametrize("depth", [18, 34])
def test_classifiers_of_basic_blocks_in_the_model_zoo(depth):
    """Their normalisation is called bn1d and bn2d, and they alone pad as torchvision does."""
    arrays = {
        re.sub(r"(layer.*\.bn\d)\.", r"\1d.", name): array
        for name, array in foreign.fill(
            foreign.resnet(depth, projection="down_sample_layer", norm=foreign.MINDSPORE_NORM)
        ).items()
    }
    result = converted(arrays)
    assert {n: a.shape for n, a in result.arrays.items()} == backbone_shapes(BACKBONE[depth])
    check_backbone(result, arrays, {"layer2.0.bn2.gamma": "layer2.0.bn2d.gamma"})
    assert result.settings["stem_pool"] == "symmetric"


def test_a_classifier_for_the_other_fifty():
    arrays = foreign.fill(foreign.resnet(50))
    assert (
        converted(arrays, settings={"backbone": "resnet_v1_50"}).settings["backbone"]
        == "resnet_v1_50"
    )
    with pytest.raises(UserError, match="does not fit file.pth, which holds a ResNet-50"):
        converted(arrays, settings={"backbone": "resnet_v1_101"})
    with pytest.raises(UserError, match="does not fit file.pth, which holds a ResNet-50"):
        converted(arrays, settings={"backbone": "resnext_50_32x4d"})


@pytest.mark.parametrize("folded", [True, False])
def test_detectron2_backbones(folded):
    arrays = foreign.fill(foreign.detectron2_resnet(50, ""))
    arrays["stem.fc.weight"] = np.ones((1000, 2048), np.float32)
    result = converted(foreign.fold_norms(arrays) if folded else arrays)
    assert result.settings["backbone"] == ("resnet_v1_50" if folded else "resnet_v1.5_50")
    assert result.settings["channel_order"] == ("bgr" if folded else "rgb")
    check_backbone(
        result,
        arrays,
        {
            "conv1.weight": "stem.conv1.weight",
            "layer1.0.bn_down_sample.gamma": "res2.0.shortcut.norm.weight",
        },
    )


# ------------------------------------------------------------------ torchvision's detector


def check_heads(result, arrays, cls, reg, fc, outputs, shift):
    """`outputs`: the file's rows of the background and the classes; reg's begin at `shift`."""
    rows = list(outputs)
    unused = [row for row in range(len(arrays[f"{cls}.bias"])) if row not in rows]
    assert result.settings["unused_outputs"] == len(unused)
    scores = [rows[0], *unused, *rows[1:]]
    np.testing.assert_array_equal(
        result.arrays["rcnn.cls_scores.weight"], arrays[f"{cls}.weight"][scores].T
    )
    np.testing.assert_array_equal(
        result.arrays["rcnn.cls_scores.bias"], arrays[f"{cls}.bias"][scores]
    )
    deltas = [4 * (row - shift) + side for row in rows[1:] for side in range(4)]
    np.testing.assert_array_equal(
        result.arrays["rcnn.reg_scores.weight"], arrays[f"{reg}.weight"][deltas].T
    )
    np.testing.assert_array_equal(
        result.arrays["rcnn.reg_scores.bias"], arrays[f"{reg}.bias"][deltas]
    )
    np.testing.assert_array_equal(
        result.arrays["rcnn.shared_fc_0.weight"], arrays[f"{fc}.weight"].T
    )


TORCHVISION_BOX = (
    "roi_heads.box_predictor.cls_score",
    "roi_heads.box_predictor.bbox_pred",
    "roi_heads.box_head.fc6",
)
COCO_OUTPUTS = [0, *(i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))]


@pytest.mark.parametrize(
    "depth, old", [(50, False), (50, True), (101, True), (18, False), ("resnext50_32x4d", False)]
)
def test_torchvision_detector(depth, old):
    arrays = foreign.fill(foreign.torchvision(depth, old=old))
    result = converted(arrays)
    shapes = detector_shapes(BACKBONE[depth], 81, unused_outputs=10)
    assert {n: a.shape for n, a in result.arrays.items()} == shapes
    check_heads(result, arrays, *TORCHVISION_BOX, COCO_OUTPUTS, 0)
    check_backbone(
        result,
        arrays,
        {
            "layer2.0.conv_down_sample.weight": "backbone.body.layer2.0.downsample.0.weight",
            "layer1.1.bn2.gamma": "backbone.body.layer1.1.bn2.weight",
        },
    )
    dot = "" if old else ".0"
    for ours, theirs in {
        "fpn_neck.lateral_convs_list.3.weight": f"backbone.fpn.inner_blocks.3{dot}.weight",
        "fpn_neck.fpn_convs_list.1.bias": f"backbone.fpn.layer_blocks.1{dot}.bias",
        "rpn_with_loss.rpn_convs_list.0.rpn_conv.weight": "rpn.head.conv.weight"
        if old
        else "rpn.head.conv.0.0.weight",
        "rpn_with_loss.rpn_convs_list.0.rpn_reg.bias": "rpn.head.bbox_pred.bias",
    }.items():
        np.testing.assert_array_equal(result.arrays[ours], arrays[theirs])
    assert result.class_names == COCO
    assert result.settings["backbone"] == BACKBONE[depth]
    # Old names with 91 outputs are how COCO_V1 was published; it exists for ResNet-50 only.
    assert result.settings["bn_eps"] == (0.0 if old and depth == 50 else 1e-5)
    assert any("bn_eps" in line for line in result.assumed)


def test_the_names_are_those_of_torchvisions_own_list():
    shapes = json.loads((RESOURCES / "torchvision_r50_params.json").read_text())
    assert {n: list(s) for n, s in foreign.torchvision().items()} == shapes


@pytest.fixture(scope="module")
def small():
    """Detectors of three classes."""
    return {
        "torchvision": foreign.fill(foreign.torchvision(outputs=4)),
        "detectron2": foreign.fill(foreign.detectron2(outputs=4)),
        "mmdetection": foreign.fill(foreign.mmdetection(outputs=4)),
        "mmdetection_1": foreign.fill(foreign.mmdetection(outputs=4, version=1)),
    }


NAMES = ("red", "green", "blue")
BOX = {
    "torchvision": TORCHVISION_BOX,
    "detectron2": (*TORCHVISION_BOX[:2], "roi_heads.box_head.fc1"),
    "mmdetection": tuple(
        f"roi_head.bbox_head.{name}" for name in ("fc_cls", "fc_reg", "shared_fcs.0")
    ),
    "mmdetection_1": tuple(f"bbox_head.{name}" for name in ("fc_cls", "fc_reg", "shared_fcs.0")),
}
OUTPUTS = {
    "torchvision": (0, 1, 2, 3),
    "mmdetection_1": (0, 1, 2, 3),
    "detectron2": (3, 0, 1, 2),
    "mmdetection": (3, 0, 1, 2),
}


@pytest.mark.parametrize("kind", BOX)
def test_own_classes_in_the_files_order(small, kind):
    arrays = small[kind]
    result = converted(arrays, class_names=NAMES, names_given=True)
    assert result.class_names == NAMES
    assert {n: a.shape for n, a in result.arrays.items()} == detector_shapes("resnet_v1.5_50", 4)
    check_heads(result, arrays, *BOX[kind], OUTPUTS[kind], 0)


@pytest.mark.parametrize("kind", BOX)
@pytest.mark.parametrize("names", [("red",), tuple("abcd")])
def test_another_number_of_classes_is_refused(small, kind, names):
    with pytest.raises(UserError, match="give the 3 names in the file's order"):
        converted(small[kind], class_names=names, names_given=True)
    with pytest.raises(UserError, match="3 classes whose names it does not hold.*--coco_classes"):
        converted(small[kind])


def test_coco_classes_are_picked_by_name_in_the_configurations_order():
    arrays = foreign.fill(foreign.torchvision())
    names = ("dog", "person", "toothbrush")
    result = converted(arrays, class_names=names, names_given=True)
    check_heads(result, arrays, *TORCHVISION_BOX, (0, 18, 1, 90), 0)
    assert any("88" not in row.note and "87 other outputs kept" in row.note for row in result.rows)
    ninety = tuple(f"class {n}" for n in range(90))
    result = converted(arrays, class_names=ninety, names_given=True)
    check_heads(result, arrays, *TORCHVISION_BOX, range(91), 0)


@pytest.mark.parametrize(
    "name, digest, eps",
    [
        ("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", "", 0.0),
        ("a.pth", "258fb6c6ab", 0.0),
        ("a.pth", "358fb6c6", 1e-5),
    ],
)
def test_the_published_torchvision_file_has_eps_0(monkeypatch, name, digest, eps):
    monkeypatch.setattr(Source, "sha256", lambda self: digest)
    arrays = foreign.fill(foreign.torchvision())
    assert converted(arrays, name=name).settings["bn_eps"] == eps
    assert converted(arrays, name=name, settings={"bn_eps": 0.5}).settings["bn_eps"] == 0.5


# ------------------------------------------------------------------ detectron2 and mmdetection


def pixels(order="bgr", caffe=True):
    mean, std = [123.675, 116.28, 103.53], [1.0] * 3 if caffe else [58.395, 57.12, 57.375]
    arrays = np.array([mean, std], np.float32)[:, :: -1 if order == "bgr" else 1]
    return {"pixel_mean": arrays[0].reshape(3, 1, 1), "pixel_std": arrays[1].reshape(3, 1, 1)}


@pytest.mark.parametrize(
    "more, folded, changes, backbone, order, std",
    [
        ({}, True, {}, "resnet_v1_50", "bgr", 1.0),
        ({}, False, {}, "resnet_v1.5_50", "rgb", 58.395),
        (pixels("bgr"), False, {}, "resnet_v1_50", "bgr", 1.0),
        (pixels("rgb", caffe=False), False, {}, "resnet_v1.5_50", "rgb", 58.395),
        (pixels("bgr", caffe=False), False, {}, "resnet_v1.5_50", "bgr", 57.375),
        (pixels("rgb"), True, {}, "resnet_v1_50", "rgb", 1.0),
        ({}, True, {"style": "torch"}, "resnet_v1.5_50", "rgb", 58.395),
        ({}, False, {"style": "caffe"}, "resnet_v1_50", "bgr", 1.0),
        ({}, False, {"settings": {"backbone": "resnet_v1_50"}}, "resnet_v1_50", "rgb", 58.395),
    ],
)
def test_detectron2_styles(more, folded, changes, backbone, order, std):
    arrays = foreign.fill(foreign.detectron2()) | more | foreign.cell_anchors()
    if folded:
        foreign.fold_norms(arrays)
    result = converted(arrays, **changes)
    settings = result.settings
    assert (settings["backbone"], settings["channel_order"]) == (backbone, order)
    assert settings["pixel_std"][0] == pytest.approx(std)
    assert settings["pixel_mean"][0] == pytest.approx(103.53 if order == "bgr" else 123.675)
    assert settings["roi_align_aligned"] is True and settings["anchor_rounding"] is False
    assert settings["roi_layer"]["sample_num"] == 0
    assert settings["box_convention"] == "modern" and settings["stem_pool"] == "symmetric"
    check_heads(result, arrays, *BOX["detectron2"], (80, *range(80)), 0)
    check_backbone(
        result,
        arrays,
        {
            "bn1.gamma": "backbone.bottom_up.stem.conv1.norm.weight",
            "layer4.2.conv3.weight": "backbone.bottom_up.res5.2.conv3.weight",
            "layer2.0.bn_down_sample.beta": "backbone.bottom_up.res3.0.shortcut.norm.bias",
        },
    )
    for ours, theirs in {
        "fpn_neck.lateral_convs_list.0.weight": "backbone.fpn_lateral2.weight",
        "fpn_neck.fpn_convs_list.3.bias": "backbone.fpn_output5.bias",
        "rpn_with_loss.rpn_convs_list.0.rpn_cls.weight": "proposal_generator.rpn_head"
        ".objectness_logits.weight",
    }.items():
        np.testing.assert_array_equal(result.arrays[ours], arrays[theirs])


CAFFE2_STD = [57.375, 57.12, 58.395]


@pytest.mark.parametrize(
    "folded, more, order, std",
    [
        (True, {}, "bgr", CAFFE2_STD),
        (False, {}, "rgb", CAFFE2_STD[::-1]),
        (False, pixels("bgr", caffe=False), "bgr", CAFFE2_STD),
    ],
)
def test_detectron2_resnext_is_caffes_and_strides_in_the_3x3(folded, more, order, std):
    arrays = foreign.fill(foreign.detectron2("resnext101_32x8d")) | more
    result = converted(foreign.fold_norms(arrays) if folded else arrays)
    settings = result.settings
    assert settings["backbone"] == "resnext_101_32x8d"
    assert (settings["channel_order"], settings["pixel_std"]) == (order, pytest.approx(std))
    check_backbone(
        result, arrays, {"layer3.22.conv2.weight": "backbone.bottom_up.res4.22.conv2.weight"}
    )
    if folded:
        classifier = foreign.fill(foreign.detectron2_resnet("resnext101_32x8d", ""))
        settings = converted(foreign.fold_norms(classifier)).settings
        assert (settings["channel_order"], settings["pixel_std"]) == ("bgr", CAFFE2_STD)


def test_detectron2_101_needs_its_own_backbone(monkeypatch):
    arrays = foreign.fold_norms(foreign.fill(foreign.detectron2(101)))
    assert converted(arrays).settings["backbone"] == "resnet_v1_101_caffe"
    others = {name: plan for name, plan in BACKBONES.items() if name != "resnet_v1_101_caffe"}
    monkeypatch.setattr(backbones, "BACKBONES", others)
    with pytest.raises(UserError, match="ResNet-101 with the stride in the first 1x1"):
        converted(arrays)
    assert converted(arrays, style="torch").settings["backbone"] == "resnet_v1_101"


def test_detectron2_with_other_anchors_is_refused():
    arrays = foreign.fill(foreign.detectron2()) | foreign.cell_anchors()
    arrays["proposal_generator.anchor_generator.cell_anchors.2"] *= 1.5
    with pytest.raises(UserError, match="cell_anchors.2 holds other anchors"):
        converted(arrays)


@pytest.mark.parametrize(
    "depth, version", [(50, 1), (50, 2), (152, 2), (34, 2), ("resnext101_64x4d", 2)]
)
def test_mmdetection(depth, version):
    arrays = foreign.fill(foreign.mmdetection(depth, version=version))
    result = converted(arrays, {"meta": {"epoch": 12}})
    outputs = range(81) if version == 1 else (80, *range(80))
    check_heads(
        result, arrays, *BOX["mmdetection_1" if version == 1 else "mmdetection"], outputs, 0
    )
    settings = result.settings
    assert settings["backbone"] == BACKBONE[depth]
    assert settings["box_convention"] == ("legacy" if version == 1 else "modern")
    assert settings["anchor_rounding"] is (version == 1)
    assert settings["pad_before_normalize"] is False and result.class_names == COCO
    np.testing.assert_array_equal(
        result.arrays["fpn_neck.fpn_convs_list.2.weight"], arrays["neck.fpn_convs.2.conv.weight"]
    )
    assert any("num_batches_tracked" in name for names, _ in result.dropped for name in names)


@pytest.mark.parametrize(
    "meta, names",
    [
        ({"CLASSES": NAMES}, NAMES),
        ({"dataset_meta": {"classes": list(NAMES)}}, NAMES),
        ({"CLASSES": ["one", 2, "three"]}, None),
    ],
)
def test_mmdetection_names_its_classes(small, meta, names):
    if names is None:
        with pytest.raises(UserError, match="names it does not hold"):
            converted(small["mmdetection"], {"meta": meta})
        return
    assert converted(small["mmdetection"], {"meta": meta}).class_names == names
    picked = converted(
        small["mmdetection"], {"meta": meta}, class_names=("blue", "red"), names_given=True
    )
    check_heads(picked, small["mmdetection"], *BOX["mmdetection"], (3, 2, 0), 0)


CAFFE_CONFIG = """
img_norm_cfg = dict(mean=[103.530, 116.280, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False)
model = dict(backbone=dict(type='ResNet', depth=50, style='caffe'))
"""


@pytest.mark.parametrize("key", ["config", "cfg"])
def test_mmdetection_says_its_style(small, key):
    meta = {"meta": {key: CAFFE_CONFIG, "CLASSES": NAMES}}
    settings = converted(small["mmdetection"], meta).settings
    assert settings["backbone"] == "resnet_v1_50" and settings["channel_order"] == "bgr"
    assert settings["pixel_mean"] == [103.53, 116.28, 123.675]
    assert settings["pixel_std"] == [1.0, 1.0, 1.0]
    other = CAFFE_CONFIG.replace("caffe", "pytorch").replace("to_rgb=False", "bgr_to_rgb=True")
    settings = converted(small["mmdetection"], {"meta": {key: other, "CLASSES": NAMES}}).settings
    assert settings["backbone"] == "resnet_v1.5_50" and settings["channel_order"] == "rgb"


# ------------------------------------------------------------------ the model zoo's detectors


@pytest.mark.parametrize("spelling", ["down_sample_layer", "conv_down_sample", "fpn_ncek"])
def test_model_zoo_detectors(spelling):
    arrays = foreign.fill(detector_shapes("resnet_v1.5_50", 81))
    expected = dict(arrays)
    if spelling == "down_sample_layer":
        arrays = {
            n.replace("conv_down_sample", "down_sample_layer.0").replace(
                "bn_down_sample", "down_sample_layer.1"
            ): a
            for n, a in arrays.items()
        }
    elif spelling == "fpn_ncek":
        arrays = {n.replace("fpn_neck", "fpn_ncek"): a for n, a in arrays.items()}
    state = {
        f"{kind}.{name}": a for kind in ("moments", "accum", "stat") for name, a in arrays.items()
    }
    state |= {"global_step": np.ones(1), "learning_rate": np.ones(9), "momentum": np.ones(1)}
    result = converted(arrays | state)
    assert result.arrays.keys() == expected.keys()
    assert all(np.array_equal(result.arrays[name], a) for name, a in expected.items())
    assert result.settings["box_convention"] == "legacy" and result.settings["clip_to_canvas"]
    assert result.settings["pad_before_normalize"] and result.class_names == COCO
    ((names, why),) = result.dropped
    assert len(names) == len(state) and why == "state of the optimizer"


# ------------------------------------------------------------------ what does not fit


@pytest.mark.parametrize("kind", ["torchvision", "detectron2", "mmdetection", "mmdetection_1"])
def test_leftovers_on_either_side_are_errors(small, kind):
    options = {"class_names": NAMES, "names_given": True}
    more = small[kind] | {"roi_heads.mask_head.mask_fcn1.weight": np.ones((4, 4), np.float32)}
    with pytest.raises(UserError, match="1 parameter has no place .*mask_fcn1.weight"):
        converted(more, **options)
    for name in small[kind]:
        if "layer2.1.bn1" in name or "res3.1.conv1.norm" in name or "anchor_deltas" in name:
            fewer = {n: a for n, a in small[kind].items() if n != name}
            if "num_batches" in name:
                continue
            with pytest.raises(UserError, match="missing|has no"):
                converted(fewer, **options)
    name = next(n for n in small[kind] if n.endswith("1.conv2.weight"))
    wrong = small[kind] | {name: np.ones((64, 2, 3, 3), np.float32)}
    with pytest.raises(UserError, match=r"conv2.weight is \(64, 2, 3, 3\)"):
        converted(wrong, **options)


def test_other_networks_are_refused(small):
    wider = foreign.fill(foreign.resnet(50))
    wider["layer1.0.conv2.weight"] = np.ones((256, 256, 3, 3), np.float32)
    with pytest.raises(UserError, match="256 channels; what can be converted is ResNet-50, "):
        converted(wider)
    shallow = {n: a for n, a in foreign.fill(foreign.resnet(50)).items() if "layer3.5" not in n}
    with pytest.raises(UserError, match="5 bottleneck blocks in the third stage"):
        converted(shallow)
    with pytest.raises(UserError, match="of no known kind .it holds dense.weight"):
        converted({"dense.weight": np.ones((3, 3), np.float32)})
    odd = dict(small["detectron2"])
    for part in ("weight", "bias"):
        name = f"roi_heads.box_predictor.bbox_pred.{part}"
        odd[name] = odd[name][:8]
    with pytest.raises(UserError, match="has 8 box deltas for 3 classes, where 4 for each or 4 fo"):
        converted(odd, class_names=NAMES, names_given=True)


def test_two_spellings_of_one_parameter_are_refused():
    arrays = foreign.fill(foreign.torchvision())
    arrays["rpn.head.conv.bias"] = arrays["rpn.head.conv.0.0.bias"]
    with pytest.raises(UserError, match="under two names"):
        converted(arrays)


def test_own_checkpoints_are_not_converted_again():
    with pytest.raises(UserError, match="of this project already"):
        convert(Source(Path("a.ckpt"), {}, meta={"backbone": "x"}), wanted())


@pytest.mark.parametrize(
    "kind, name, shape",
    [
        ("torchvision", "roi_heads.box_predictor.cls_score.weight", (3, 1024)),
        ("torchvision", "roi_heads.box_predictor.cls_score.bias", ()),
        ("torchvision", "roi_heads.box_predictor.bbox_pred.bias", ()),
        ("torchvision", "roi_heads.box_predictor.bbox_pred.weight", ()),
        ("detectron2", "pixel_std", (0,)),
    ],
)
def test_odd_shapes_are_one_line(small, kind, name, shape):
    arrays = {**small[kind], name: np.ones(shape, np.float32)}
    with pytest.raises(UserError, match="expected|would have to become|instead of 3"):
        converted(arrays, class_names=NAMES, names_given=True)
