# SPDX-License-Identifier: Apache-2.0
"""The parameters of this project's networks: their names and shapes, without building one."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ...FasterRcnn.names import BACKBONES, NO_NORM, NUM_STAGES, STEM_CHANNELS

Shapes = dict[str, tuple[int, ...]]

PYRAMID = NUM_STAGES  # lateral and smoothing convolutions
_BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_NORMS = {NO_NORM: ("bias",), "bn": _BATCH_NORM, "gn": _BATCH_NORM[:2]}
_CHANNELS, _HIDDEN, _OUT_SIZE = 256, 1024, 7


class HeadForm(NamedTuple):
    """The form of neck and heads.

    Attributes:
        fpn_norm, rpn_conv_depth: the configuration's keys.
        convs, dense, norm: the parts of rcnn_head.
        class_agnostic: rcnn_class_agnostic.
    """

    fpn_norm: str = NO_NORM
    rpn_conv_depth: int = 1
    convs: int = 0
    dense: int = 2
    norm: str = NO_NORM
    class_agnostic: bool = False

    def settings(self) -> dict[str, Any]:
        """Return the configuration's keys and values."""
        return {
            "fpn_norm": self.fpn_norm,
            "rpn_conv_depth": self.rpn_conv_depth,
            "rcnn_head": {"convs": self.convs, "dense": self.dense, "norm": self.norm},
            "rcnn_class_agnostic": self.class_agnostic,
        }

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> "HeadForm":
        """Return the form that settings ask for.

        Args:
            settings: configuration key -> value; a key that is missing counts as its default.
        """
        usual = cls()
        return cls(
            settings.get("fpn_norm", usual.fpn_norm),
            settings.get("rpn_conv_depth", usual.rpn_conv_depth),
            **settings.get("rcnn_head", {}),
            class_agnostic=settings.get("rcnn_class_agnostic", usual.class_agnostic),
        )


USUAL_FORM = HeadForm()


def backbone_shapes(backbone: str) -> Shapes:
    """Return name -> shape of a backbone's parameters, in the network's order.

    Args:
        backbone: a key of `names.BACKBONES`.
    """
    shapes: Shapes = {}
    plan, channels = BACKBONES[backbone], STEM_CHANNELS
    _add(shapes, "backbone.conv1", "backbone.bn1", 3, channels, 7)
    for stage, outputs in enumerate(plan.channels):
        width = plan.widths[stage]
        for block in range(plan.blocks[stage]):
            at = f"backbone.layer{stage + 1}.{block}."
            _add(shapes, at + "conv1", at + "bn1", channels, width, 3 if plan.is_basic else 1)
            _add(shapes, at + "conv2", at + "bn2", width // plan.groups, width, 3)
            if not plan.is_basic:
                _add(shapes, at + "conv3", at + "bn3", width, outputs, 1)
            if block == 0 and (stage or channels != outputs):
                _add(shapes, at + "conv_down_sample", at + "bn_down_sample", channels, outputs, 1)
            channels = outputs
    return shapes


def _add(shapes: Shapes, conv: str, norm: str, inputs: int, outputs: int, kernel: int) -> None:
    shapes[f"{conv}.weight"] = (outputs, inputs, kernel, kernel)
    for kind in _BATCH_NORM:
        shapes[f"{norm}.{kind}"] = (outputs,)


def detector_shapes(
    backbone: str,
    num_classes: int,
    num_anchors: int = 3,
    unused_outputs: int = 0,
    form: HeadForm = USUAL_FORM,
) -> Shapes:
    """Return name -> shape of a detector's parameters, in the network's order.

    Args:
        backbone: a key of `names.BACKBONES`.
        num_classes: with the background.
        num_anchors: at a position of a feature map.
        unused_outputs: class scores of no class.
        form: of neck and heads.
    """
    shapes = backbone_shapes(backbone)
    square = (_CHANNELS, _CHANNELS, 3, 3)
    for number, channels in enumerate(BACKBONES[backbone].channels):
        lateral = f"fpn_neck.lateral_convs_list.{number}"
        _add_conv(shapes, lateral, (_CHANNELS, channels, 1, 1), form.fpn_norm)
    for number in range(PYRAMID):
        _add_conv(shapes, f"fpn_neck.fpn_convs_list.{number}", square, form.fpn_norm)
    head, depth = "rpn_with_loss.rpn_convs_list.0.", form.rpn_conv_depth
    for number in range(depth):
        _add_conv(shapes, head + (f"rpn_conv.{number}" if depth > 1 else "rpn_conv"), square)
    _add_conv(shapes, head + "rpn_cls", (num_anchors, _CHANNELS, 1, 1))
    _add_conv(shapes, head + "rpn_reg", (4 * num_anchors, _CHANNELS, 1, 1))
    for number in range(form.convs):
        _add_conv(shapes, f"rcnn.shared_convs.{number}", square, form.norm)
    boxes = 1 if form.class_agnostic else num_classes - 1
    for name, inputs, outputs in (
        ("shared_fc_0", _CHANNELS * _OUT_SIZE**2, _HIDDEN),
        ("shared_fc_1", _HIDDEN, _HIDDEN),
        ("cls_scores", _HIDDEN, num_classes + unused_outputs),
        ("reg_scores", _HIDDEN, 4 * boxes),
    ):
        if name == "shared_fc_1" and form.dense == 1:
            continue
        # The network's dense layers are (in, out).
        shapes[f"rcnn.{name}.weight"] = (inputs, outputs)
        shapes[f"rcnn.{name}.bias"] = (outputs,)
    return shapes


def _add_conv(shapes: Shapes, layer: str, shape: tuple[int, ...], norm: str = NO_NORM) -> None:
    """Add a `conv_block`."""
    shapes[f"{layer}.weight" if norm == NO_NORM else f"{layer}.conv.weight"] = shape
    for kind in _NORMS[norm]:
        shapes[f"{layer}.{kind}" if norm == NO_NORM else f"{layer}.norm.{kind}"] = shape[:1]
