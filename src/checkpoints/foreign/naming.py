# SPDX-License-Identifier: Apache-2.0
"""What other programs call the parameters of this project's networks."""

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

_TORCH_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_NORM = re.compile(r"(.*\.)?bn(\d|_down_sample)\.(\w+)")

# Our layers outside the backbone; those of one kind have a number behind them.
LATERAL, SMOOTH = "fpn_neck.lateral_convs_list", "fpn_neck.fpn_convs_list"
_RPN = "rpn_with_loss.rpn_convs_list.0"
RPN_CONV, RPN_CLS, RPN_REG = f"{_RPN}.rpn_conv", f"{_RPN}.rpn_cls", f"{_RPN}.rpn_reg"
RPN_STACK = f"{RPN_CONV}.stack"  # where there are several
BOX_CONV, BOX_DENSE = "rcnn.shared_convs", "rcnn.shared_fc"
BOX_CLS, BOX_REG = "rcnn.cls_scores", "rcnn.reg_scores"
_PARTS = re.compile(
    rf"({LATERAL}|{SMOOTH}|{RPN_CONV}|{BOX_CONV}|{BOX_DENSE})"
    r"(?:[._](\d+))?(?:\.(conv|norm))?\.(\w+)"
)


class Place(NamedTuple):
    """What a program calls layers of one kind.

    Attributes:
        name: with `{}` for the number, where there are several.
        first: the number of the first one.
        step: what is between a number and the next.
    """

    name: str
    first: int = 0
    step: int = 1

    def at(self, number: int) -> str:
        """Return the name of a layer.

        Args:
            number: counted from 0.
        """
        return self.name.format(self.first + number * self.step)


@dataclass(frozen=True)
class Naming:
    """One program's names.

    Attributes:
        backbone: what stands before the backbone's names.
        layers: our layer outside the backbone -> its place.
        norms: our layer with normalisation behind it -> the place of that.
        inner: our name of a backbone's parameter, without `backbone.` -> the program's.
        kinds: our kind of a normalisation's parameter -> the program's; others are called alike.
    """

    backbone: str
    layers: Mapping[str, Place]
    norms: Mapping[str, Place] = field(default_factory=dict)
    inner: Callable[[str], str] = str
    kinds: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, name: str) -> str:
        """Return the program's name of our parameter `name`."""
        if name.startswith("backbone."):
            return self.backbone + self.inner(name.removeprefix("backbone."))
        parts = _PARTS.fullmatch(name)
        if not parts:
            layer, _, kind = name.rpartition(".")
            return f"{self.layers[layer].name}.{kind}"
        layer, number, part, kind = parts.groups()
        if part == "norm":
            return f"{self.norms[layer].at(int(number))}.{self.kinds.get(kind, kind)}"
        if layer == RPN_CONV and number:
            layer = RPN_STACK
        return f"{self.layers[layer].at(int(number or 0))}.{kind}"

    def count(self, layer: str, names: Container[str]) -> int:
        """Return how many layers of a kind there are.

        Args:
            layer: a key of `layers`.
            names: of the parameters of a file.
        """
        number = 0
        while layer in self.layers and f"{self.layers[layer].at(number)}.weight" in names:
            number += 1
        return number


def _torch(name: str) -> str:
    """A backbone's name in torchvision: layer1.0.bn1.gamma -> layer1.0.bn1.weight."""
    norm = _NORM.fullmatch(name)
    if norm:
        name = f"{norm[1] or ''}bn{norm[2]}.{_TORCH_NORM[norm[3]]}"
    name = name.replace("conv_down_sample.", "downsample.0.")
    return name.replace("bn_down_sample.", "downsample.1.")


def _detectron2(name: str) -> str:
    """A backbone's name in detectron2: layer1.0.bn1.gamma -> res2.0.conv1.norm.weight."""
    norm = _NORM.fullmatch(name)
    if norm:
        name = f"{norm[1] or ''}conv{norm[2]}.norm.{_TORCH_NORM[norm[3]]}"
    name = name.replace("conv_down_sample.", "shortcut.")
    stage = re.match(r"layer(\d)", name)
    return f"res{int(stage[1]) + 1}{name[stage.end() :]}" if stage else f"stem.{name}"


TORCHVISION = Naming(
    "backbone.body.",
    {
        LATERAL: Place("backbone.fpn.inner_blocks.{}.0"),
        SMOOTH: Place("backbone.fpn.layer_blocks.{}.0"),
        RPN_CONV: Place("rpn.head.conv.0.0"),
        RPN_STACK: Place("rpn.head.conv.{}.0"),
        RPN_CLS: Place("rpn.head.cls_logits"),
        RPN_REG: Place("rpn.head.bbox_pred"),
        BOX_CONV: Place("roi_heads.box_head.{}.0"),
        BOX_DENSE: Place("roi_heads.box_head.fc{}", 6),
        BOX_CLS: Place("roi_heads.box_predictor.cls_score"),
        BOX_REG: Place("roi_heads.box_predictor.bbox_pred"),
    },
    {
        LATERAL: Place("backbone.fpn.inner_blocks.{}.1"),
        SMOOTH: Place("backbone.fpn.layer_blocks.{}.1"),
        BOX_CONV: Place("roi_heads.box_head.{}.1"),
    },
    _torch,
    _TORCH_NORM,
)


def torchvision(convs: int) -> Naming:
    """Return torchvision's names; a box head with convolutions numbers all that is in it.

    Args:
        convs: of the box head.
    """
    if not convs:
        return TORCHVISION
    # Behind the convolutions it flattens, and ReLU follows each dense layer.
    dense = Place("roi_heads.box_head.{}", convs + 1, 2)
    return replace(TORCHVISION, layers={**TORCHVISION.layers, BOX_DENSE: dense})


DETECTRON2 = Naming(
    "backbone.bottom_up.",
    {
        LATERAL: Place("backbone.fpn_lateral{}", 2),
        SMOOTH: Place("backbone.fpn_output{}", 2),
        RPN_CONV: Place("proposal_generator.rpn_head.conv"),
        RPN_STACK: Place("proposal_generator.rpn_head.conv.conv{}"),
        RPN_CLS: Place("proposal_generator.rpn_head.objectness_logits"),
        RPN_REG: Place("proposal_generator.rpn_head.anchor_deltas"),
        BOX_CONV: Place("roi_heads.box_head.conv{}", 1),
        BOX_DENSE: Place("roi_heads.box_head.fc{}", 1),
        BOX_CLS: Place("roi_heads.box_predictor.cls_score"),
        BOX_REG: Place("roi_heads.box_predictor.bbox_pred"),
    },
    {
        LATERAL: Place("backbone.fpn_lateral{}.norm", 2),
        SMOOTH: Place("backbone.fpn_output{}.norm", 2),
        BOX_CONV: Place("roi_heads.box_head.conv{}.norm", 1),
    },
    _detectron2,
    _TORCH_NORM,
)


def _mmdetection(prefix: str) -> Naming:
    """GroupNorm is called gn there; `mmdetection_spelling` makes bn of it."""
    return Naming(
        "backbone.",
        {
            LATERAL: Place("neck.lateral_convs.{}.conv"),
            SMOOTH: Place("neck.fpn_convs.{}.conv"),
            RPN_CONV: Place("rpn_head.rpn_conv"),
            RPN_STACK: Place("rpn_head.rpn_conv.{}.conv"),
            RPN_CLS: Place("rpn_head.rpn_cls"),
            RPN_REG: Place("rpn_head.rpn_reg"),
            BOX_CONV: Place(prefix + "bbox_head.shared_convs.{}.conv"),
            BOX_DENSE: Place(prefix + "bbox_head.shared_fcs.{}"),
            BOX_CLS: Place(prefix + "bbox_head.fc_cls"),
            BOX_REG: Place(prefix + "bbox_head.fc_reg"),
        },
        {
            LATERAL: Place("neck.lateral_convs.{}.bn"),
            SMOOTH: Place("neck.fpn_convs.{}.bn"),
            BOX_CONV: Place(prefix + "bbox_head.shared_convs.{}.bn"),
        },
        _torch,
        _TORCH_NORM,
    )


def mmdetection_spelling(name: str) -> str:
    """Return the one name of a normalisation in mmdetection's neck and heads.

    Args:
        name: as a file has it.
    """
    return re.sub(r"(_convs\.\d+)\.gn\.", r"\1.bn.", name)


MMDETECTION = _mmdetection("roi_head.")
MMDETECTION_1 = _mmdetection("")
# Of its backbone in `file.canonical_name`'s spelling.
MINDSPORE_LAB = Naming(
    "backbone.bottom_up.",
    {
        LATERAL: Place("backbone.lateral_convs.{}.conv.0"),
        SMOOTH: Place("backbone.fpn_convs.{}.conv.0"),
        RPN_CONV: Place("rpn_head.rpn_feat.rpn_conv"),
        RPN_CLS: Place("rpn_head.rpn_feat.rpn_rois_score"),
        RPN_REG: Place("rpn_head.rpn_feat.rpn_rois_delta"),
        BOX_DENSE: Place("bbox_head.head.fc{}", 6),
        BOX_CLS: Place("bbox_head.bbox_cls"),
        BOX_REG: Place("bbox_head.bbox_delta"),
    },
    {
        LATERAL: Place("backbone.lateral_convs.{}.conv.1"),
        SMOOTH: Place("backbone.fpn_convs.{}.conv.1"),
    },
)
TORCH_CLASSIFIER = Naming("", {}, {}, _torch)
DETECTRON2_BACKBONE = Naming("", {}, {}, _detectron2)
