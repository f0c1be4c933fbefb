# SPDX-License-Identifier: Apache-2.0
"""What follows from the configuration's keys: derived values, and combinations that cannot be.

Every function takes the values of all keys of `schema.RULES`, each one checked by itself.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from ...base.file_names import one_form
from ...FasterRcnn.names import (
    BACKBONES,
    CANVAS,
    HARD,
    LEGACY,
    MODERN,
    NO_NORM,
    NORM_GROUPS,
    ROI_STRIDES,
    STEM_CHANNELS,
    STRIDES,
    TIGHT,
    feature_shapes,
)
from ...images.geometry import ResizeRule

Values = Mapping[str, Any]

AUTO = "auto"
# What `auto` means in each box convention: the rules of the programs that count so.
BY_CONVENTION: dict[str, dict[str, str]] = {
    "low_quality_target": {LEGACY: "best_of", MODERN: "max_overlap"},
    "low_quality_stage2": {LEGACY: "match", MODERN: "ignore"},
    "rpn_loss_divisor": {LEGACY: "expected", MODERN: "sampled"},
    "roi_level_formula": {LEGACY: "mmdetection", MODERN: "torchvision"},
    "padding": {LEGACY: CANVAS, MODERN: TIGHT},
}


class ConfigLike(Protocol):
    """A `Config`, for the modules below it: keys and what follows from them are attributes."""

    def __getattr__(self, name: str) -> Any:
        """Return the value of a key."""

    def __iter__(self) -> Iterator[str]:
        """Yield the keys."""

    def origin(self, key: str) -> str:
        """Say where a key's value came from.

        Args:
            key: a key of the configuration.
        """


def trains_batch_norm(config: ConfigLike) -> bool:
    """Return whether a layer somewhere in the network takes statistics of its batches.

    Args:
        config: uses norm, fpn_norm and rcnn_head.
    """
    return "bn" in (config.norm, config.fpn_norm, config.rcnn_head["norm"])


def resolved(config: ConfigLike, key: str) -> Any:
    """Return a key's value, of `auto` what it means with this box_convention.

    Args:
        config: the configuration.
        key: any key; those of `BY_CONVENTION` can be `auto`.
    """
    value = getattr(config, key)
    if key in BY_CONVENTION and value == AUTO:
        return BY_CONVENTION[key][config.box_convention]
    return value


def as_auto(values: Values) -> dict[str, Any]:
    """Return the values, with `auto` where they are what `auto` means: the inverse of `resolved`.

    Args:
        values: some keys and their values; without a box_convention, all stay as they are.
    """
    convention = values.get("box_convention", "")
    return {
        key: AUTO if BY_CONVENTION.get(key, {}).get(convention) == value else value
        for key, value in values.items()
    }


def lowest_score(config: ConfigLike) -> float:
    """Return the score below which the detector gives nothing: Soft-NMS lowers scores.

    Args:
        config: uses test_score_thr and the keys of NMS.
    """
    key = "test_score_thr" if config.test_nms_kind == HARD else "test_nms_min_score"
    return float(getattr(config, key))


def canvas_sizes(values: Values) -> tuple[tuple[int, int], ...]:
    """Return (height, width) of the network's input shapes.

    Args:
        values: the keys of `ResizeSettings`.
    """
    return ResizeRule.from_values(values).canvases


def _feature_shapes(values: Values) -> tuple[tuple[int, int], ...]:
    """(height, width) of P2 to P6 on the largest canvas."""
    return feature_shapes(*ResizeRule.from_values(values).largest)


def num_anchors(values: Values) -> int:
    """Anchors at one position of a feature map.

    Args:
        values: anchor_scales and anchor_ratios, at least.
    """
    return len(values["anchor_scales"]) * len(values["anchor_ratios"])


def num_bboxes(values: Values) -> int:
    """Anchors of one image over all levels.

    Args:
        values: those and the keys of `ResizeSettings`, at least.
    """
    return num_anchors(values) * sum(height * width for height, width in _feature_shapes(values))


# Attributes of a Config besides its keys. All but class_names are the model zoo's keys too, where a
# given value must be the computed one.
DERIVED: dict[str, Callable[[Values], Any]] = {
    "num_classes": lambda v: len(v["coco_classes"]),
    "class_names": lambda v: tuple(map(one_form, v["coco_classes"][1:])),
    "canvas_sizes": canvas_sizes,
    "feature_shapes": _feature_shapes,
    "num_anchors": num_anchors,
    "num_bboxes": num_bboxes,
    "num_bboxes_stage2": lambda v: v["rpn_proposal_max_num"],
    "roi_sample_num": lambda v: v["num_expected_pos_stage2"] + v["num_expected_neg_stage2"],
    "resnet_block": lambda v: BACKBONES[v["backbone"]].blocks,
    "resnet_in_channels": lambda v: (STEM_CHANNELS, *BACKBONES[v["backbone"]].channels[:-1]),
    "resnet_out_channels": lambda v: BACKBONES[v["backbone"]].channels,
    "fpn_in_channels": lambda v: BACKBONES[v["backbone"]].channels,
    "fpn_num_outs": lambda v: len(STRIDES),
    "rpn_in_channels": lambda v: v["fpn_out_channels"],
    "rpn_cls_out_channels": lambda v: 1,
    "roi_align_out_channels": lambda v: v["fpn_out_channels"],
    "roi_align_featmap_strides": lambda v: ROI_STRIDES,
    "num_expected_total_stage2": lambda v: v["num_expected_neg_stage2"],
    "rcnn_in_channels": lambda v: v["fpn_out_channels"],
    "rcnn_num_layers": lambda v: v["rcnn_head"]["dense"],
}

# (lower, upper, why): the first key's value must not be above the second's.
_ORDERED = (
    ("neg_iou_thr", "pos_iou_thr", "an anchor cannot be a negative and a positive"),
    ("neg_iou_thr_stage2", "pos_iou_thr_stage2", "a proposal cannot be a negative and a positive"),
    ("num_expected_pos", "num_expected_neg", "which counts the positives too"),
    ("num_expected_pos_stage2", "num_expected_neg_stage2", "which counts the positives too"),
)

# Boxes of an image that enter one NMS: its table holds every pair, 1.6 GB for so many.
_MOST_NMS_BOXES = 40_000


def contradiction(values: Values) -> tuple[tuple[str, ...], str] | None:
    """The first combination of values that cannot be.

    Args:
        values: all keys of a configuration.

    Returns:
        None, or the keys that do not go together and what is wrong with the first one's value.
    """
    v = values
    classes = len(v["coco_classes"])
    if v["num_classes"] is not None and v["num_classes"] != classes:
        return ("num_classes", "coco_classes"), (
            f"contradicts coco_classes, which are {classes} with background; take num_classes out"
        )
    if v["anchor_strides"] != STRIDES:
        return ("anchor_strides",), (
            f"contradicts the network, whose strides are {list(STRIDES)}; take the key out"
        )
    for lower, upper, why in _ORDERED:
        if v[lower] > v[upper]:
            return (lower, upper), f"is above {upper} {v[upper]}, {why}; lower it or raise {upper}"
    if not v["test_pre_nms_num"] and _possible_detections(v) > _MOST_NMS_BOXES:
        return ("test_pre_nms_num",), (
            f"lets {_possible_detections(v)} boxes of an image into one NMS, which can take "
            f"{_MOST_NMS_BOXES}; give a number, such as 2000, or raise test_score_thr"
        )
    for name in ("test_pre_nms_num", "rpn_nms_pre", "rpn_proposal_nms_pre"):
        if v[name] > _MOST_NMS_BOXES:
            return (name,), f"is more boxes than NMS can take; give at most {_MOST_NMS_BOXES}"
    wrong = _wrong_heads(v)
    if wrong:
        return wrong
    side = _shortest_anchor(v)
    legacy = v["box_convention"] == LEGACY  # counts pixels: from 2 to 2 is one
    if v["anchor_rounding"] and (side < 1 or (side == 1 and not legacy)):
        return ("anchor_scales", "anchor_ratios", "anchor_rounding"), (
            f"makes anchors with a side of {side:g} px, which rounding can bring to nothing; raise "
            "it, or set anchor_rounding to False"
        )
    for name in ("train_data_type", "val_data_type"):
        if v[name].startswith("/") or ".." in v[name].split("/"):
            return (name,), "is not a folder inside coco_root; give its name, such as train2017"
    if v["lr_type"] == "cosine_restarts" and v["restart_period"] > v["epoch_size"]:
        return ("restart_period", "epoch_size"), (
            f"is longer than the run, of epoch_size {v['epoch_size']}; lower it, or take lr_type "
            "cosine"
        )
    return _wrong_augmentation(v)


def _wrong_heads(v: Values) -> tuple[tuple[str, ...], str] | None:
    """What of neck and heads does not go together; see `contradiction`."""
    head, width = v["rcnn_head"], v["fpn_out_channels"]
    if head["norm"] != NO_NORM and not head["convs"]:
        return (
            "rcnn_head",
        ), f"has norm {head['norm']} but no convs to have it; give convs, or norm none"
    for key, norm in (("fpn_norm", v["fpn_norm"]), ("rcnn_head", head["norm"])):
        if norm == "gn" and width % NORM_GROUPS:
            return (key, "fpn_out_channels"), (
                f"asks for GroupNorm in {NORM_GROUPS} groups, which fpn_out_channels {width} is no "
                f"multiple of; give {width // NORM_GROUPS * NORM_GROUPS or NORM_GROUPS}, or bn"
            )
    return None


def _wrong_augmentation(v: Values) -> tuple[tuple[str, ...], str] | None:
    """What of the augmentations does not go together; see `contradiction`."""
    low, high = v["scale_jitter"]
    if low > high:
        return ("scale_jitter",), "is no range; give the smaller factor first"
    steps = v["augmentations"]
    if steps.count("resize") != 1:
        return ("augmentations",), "has to have resize once, which brings a picture to its canvas"
    repeated = [step for step in steps if steps.count(step) > 1]
    if repeated:
        return ("augmentations",), f"has {repeated[0]} twice; take one out"
    if "expand" in steps and steps.index("expand") > steps.index("resize"):
        return ("augmentations",), "has expand after resize, when a canvas is full; put it before"
    return None


def _shortest_anchor(values: Values) -> float:
    """The shortest side of any anchor, px, before rounding."""
    ratios = values["anchor_ratios"]
    root = min(min(ratios), 1 / max(ratios)) ** 0.5
    return STRIDES[0] * min(values["anchor_scales"]) * root


def _possible_detections(values: Values) -> int:
    """(RoI, class) pairs of all views that can be above the score threshold: scores sum up to 1."""
    classes, threshold = len(values["coco_classes"]) - 1, values["test_score_thr"]
    views = len(values["test_scales"]) * (1 + values["test_flip"])
    rois = views * values["rpn_max_num"]
    return rois * (min(classes, int(1 / threshold)) if threshold else classes)
