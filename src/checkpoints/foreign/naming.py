# SPDX-License-Identifier: Apache-2.0
"""What other programs call the parameters of this project's networks."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_TORCH_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_NORM = re.compile(r"(.*\.)?bn(\d|_down_sample)\.(\w+)")
_NUMBERED = re.compile(r"(fpn_neck\.\w+)\.(\d)\.(\w+)")


@dataclass(frozen=True)
class Naming:
    """One program's names.

    Attributes:
        backbone: what stands before the backbone's names.
        heads: our layer outside the backbone -> its name; the pyramid's hold `{}` for the number of
            the level, counted from `first_level`.
        first_level: 0, or 2 where levels are called P2 to P5.
        caffe_stages: stages are `res2` to `res5` and normalisation belongs to its convolution
            (detectron2); otherwise `layer1` to `layer4` and `bn1`.
    """

    backbone: str
    heads: Mapping[str, str]
    first_level: int = 0
    caffe_stages: bool = False

    def __call__(self, name: str) -> str:
        """Return the program's name of our parameter `name`."""
        if name.startswith("backbone."):
            inner = name.removeprefix("backbone.")
            inner = _detectron2(inner) if self.caffe_stages else _torch(inner)
            return self.backbone + inner
        numbered = _NUMBERED.fullmatch(name)
        if numbered:
            layer = self.heads[numbered[1]].format(int(numbered[2]) + self.first_level)
            return f"{layer}.{numbered[3]}"
        layer, _, kind = name.rpartition(".")
        return f"{self.heads[layer]}.{kind}"


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


_RPN, _FPN = "rpn_with_loss.rpn_convs_list.0", "fpn_neck"
TORCHVISION = Naming(
    "backbone.body.",
    {
        f"{_FPN}.lateral_convs_list": "backbone.fpn.inner_blocks.{}.0",
        f"{_FPN}.fpn_convs_list": "backbone.fpn.layer_blocks.{}.0",
        f"{_RPN}.rpn_conv": "rpn.head.conv.0.0",
        f"{_RPN}.rpn_cls": "rpn.head.cls_logits",
        f"{_RPN}.rpn_reg": "rpn.head.bbox_pred",
        "rcnn.shared_fc_0": "roi_heads.box_head.fc6",
        "rcnn.shared_fc_1": "roi_heads.box_head.fc7",
        "rcnn.cls_scores": "roi_heads.box_predictor.cls_score",
        "rcnn.reg_scores": "roi_heads.box_predictor.bbox_pred",
    },
)
DETECTRON2 = Naming(
    "backbone.bottom_up.",
    {
        f"{_FPN}.lateral_convs_list": "backbone.fpn_lateral{}",
        f"{_FPN}.fpn_convs_list": "backbone.fpn_output{}",
        f"{_RPN}.rpn_conv": "proposal_generator.rpn_head.conv",
        f"{_RPN}.rpn_cls": "proposal_generator.rpn_head.objectness_logits",
        f"{_RPN}.rpn_reg": "proposal_generator.rpn_head.anchor_deltas",
        "rcnn.shared_fc_0": "roi_heads.box_head.fc1",
        "rcnn.shared_fc_1": "roi_heads.box_head.fc2",
        "rcnn.cls_scores": "roi_heads.box_predictor.cls_score",
        "rcnn.reg_scores": "roi_heads.box_predictor.bbox_pred",
    },
    first_level=2,
    caffe_stages=True,
)


def _mmdetection(prefix: str) -> Naming:
    return Naming(
        "backbone.",
        {
            f"{_FPN}.lateral_convs_list": "neck.lateral_convs.{}.conv",
            f"{_FPN}.fpn_convs_list": "neck.fpn_convs.{}.conv",
            f"{_RPN}.rpn_conv": "rpn_head.rpn_conv",
            f"{_RPN}.rpn_cls": "rpn_head.rpn_cls",
            f"{_RPN}.rpn_reg": "rpn_head.rpn_reg",
            "rcnn.shared_fc_0": f"{prefix}bbox_head.shared_fcs.0",
            "rcnn.shared_fc_1": f"{prefix}bbox_head.shared_fcs.1",
            "rcnn.cls_scores": f"{prefix}bbox_head.fc_cls",
            "rcnn.reg_scores": f"{prefix}bbox_head.fc_reg",
        },
    )


MMDETECTION = _mmdetection("roi_head.")
MMDETECTION_1 = _mmdetection("")
TORCH_CLASSIFIER = Naming("", {})
DETECTRON2_BACKBONE = Naming("", {}, caffe_stages=True)
