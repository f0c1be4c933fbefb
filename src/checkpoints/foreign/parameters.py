# SPDX-License-Identifier: Apache-2.0
"""The parameters of this project's networks: their names and shapes, without building one."""

from ...FasterRcnn.names import BACKBONES, NUM_STAGES, STEM_CHANNELS

Shapes = dict[str, tuple[int, ...]]

PYRAMID = NUM_STAGES  # lateral and smoothing convolutions
_BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_CHANNELS, _HIDDEN, _OUT_SIZE = 256, 1024, 7


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
    backbone: str, num_classes: int, num_anchors: int = 3, unused_outputs: int = 0
) -> Shapes:
    """Return name -> shape of a detector's parameters, in the network's order.

    Args:
        backbone: a key of `names.BACKBONES`.
        num_classes: with the background.
        num_anchors: at a position of a feature map.
        unused_outputs: class scores of no class.
    """
    shapes = backbone_shapes(backbone)
    for number, channels in enumerate(BACKBONES[backbone].channels):
        _add_biased(shapes, f"fpn_neck.lateral_convs_list.{number}", (_CHANNELS, channels, 1, 1))
    for number in range(PYRAMID):
        _add_biased(shapes, f"fpn_neck.fpn_convs_list.{number}", (_CHANNELS, _CHANNELS, 3, 3))
    head = "rpn_with_loss.rpn_convs_list.0."
    _add_biased(shapes, head + "rpn_conv", (_CHANNELS, _CHANNELS, 3, 3))
    _add_biased(shapes, head + "rpn_cls", (num_anchors, _CHANNELS, 1, 1))
    _add_biased(shapes, head + "rpn_reg", (4 * num_anchors, _CHANNELS, 1, 1))
    for name, inputs, outputs in (
        ("shared_fc_0", _CHANNELS * _OUT_SIZE**2, _HIDDEN),
        ("shared_fc_1", _HIDDEN, _HIDDEN),
        ("cls_scores", _HIDDEN, num_classes + unused_outputs),
        ("reg_scores", _HIDDEN, 4 * (num_classes - 1)),
    ):
        # The network's dense layers are (in, out).
        shapes[f"rcnn.{name}.weight"] = (inputs, outputs)
        shapes[f"rcnn.{name}.bias"] = (outputs,)
    return shapes


def _add_biased(shapes: Shapes, layer: str, shape: tuple[int, ...]) -> None:
    shapes[f"{layer}.weight"] = shape
    shapes[f"{layer}.bias"] = shape[:1]
