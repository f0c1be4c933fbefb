# SPDX-License-Identifier: Apache-2.0
"""The names and the fixed numbers of the network, each in one place.

Configuration, checkpoints and training read them from here too, so this file imports nothing of the
project and not MindSpore.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

# How widths and heights count: see `box_ops`.
LEGACY, MODERN = "legacy", "modern"
BOX_CONVENTIONS = (LEGACY, MODERN)

# Where the first block of a stage has its stride: in the 3x3 convolution (torchvision's weights,
# "v1.5") or in the first 1x1 (Caffe's weights, "v1.0").
TORCH_STYLE, CAFFE_STYLE = "torch", "caffe"

# What lies behind a picture's own canvas: see `own_canvas`.
CANVAS, TIGHT = "canvas", "tight"

# Of neck and heads: convolutions with a bias instead of a normalisation layer.
NO_NORM = "none"
NORM_GROUPS = 32  # of GroupNorm
# What NMS does with detections that overlap a better one: drops them, or lowers their scores by
# one of two rules (see `soft_nms`).
HARD, SOFT_LINEAR, SOFT_GAUSSIAN = "hard", "soft_linear", "soft_gaussian"


class Backbone(NamedTuple):
    """A ResNet, ResNeXt or wide ResNet.

    Attributes:
        depth: layers, as its paper counts them.
        blocks: of the four stages, layer1 to layer4.
        style: `TORCH_STYLE` or `CAFFE_STYLE`.
        torchvision: torchvision's name of it; empty when it has none.
        groups: of the 3x3 convolutions; more than one in a ResNeXt (Xie et al. 2017).
        base_width: channels of a group in the first stage; more than 64 in a wide ResNet
            (Zagoruyko & Komodakis 2016).
        expansion: channels of a stage's output over those of its paper's 3x3 convolutions: 4 of
            bottleneck blocks, 1 of basic blocks.
    """

    depth: int
    blocks: tuple[int, int, int, int]
    style: str = TORCH_STYLE
    torchvision: str = ""
    groups: int = 1
    base_width: int = 64
    expansion: int = 4

    @property
    def is_basic(self) -> bool:
        """Whether its blocks are of two 3x3 convolutions, without 1x1 ones."""
        return self.expansion == 1

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the 3x3 convolutions, stage by stage."""
        return tuple(self.groups * self.base_width * 2**stage for stage in range(len(self.blocks)))

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of C2 to C5, what layer1 to layer4 return."""
        return tuple(self.expansion * STEM_CHANNELS * 2**stage for stage in range(len(self.blocks)))

    @property
    def title(self) -> str:
        """What people call it, e.g. ResNeXt-101 32x8d."""
        if self.groups > 1:
            return f"ResNeXt-{self.depth} {self.groups}x{self.base_width}d"
        return f"{'wide ' if self.base_width > STEM_CHANNELS else ''}ResNet-{self.depth}"


STEM_CHANNELS = 64
NUM_STAGES = 4  # layer1 to layer4, whose outputs are C2 to C5

# By their names in configurations and checkpoints. resnet_v1_101 and resnet_v1_152 have their
# stride in the 3x3 convolution despite their names: that is how the model zoo's published
# checkpoints were trained. detectron2's R101 has it in the first 1x1. Basic blocks have no 1x1.
BACKBONES: dict[str, Backbone] = {
    "resnet_v1.5_50": Backbone(50, (3, 4, 6, 3), TORCH_STYLE, "resnet50"),
    "resnet_v1_50": Backbone(50, (3, 4, 6, 3), CAFFE_STYLE),
    "resnet_v1_101": Backbone(101, (3, 4, 23, 3), TORCH_STYLE, "resnet101"),
    "resnet_v1_152": Backbone(152, (3, 8, 36, 3), TORCH_STYLE, "resnet152"),
    "resnet_v1_101_caffe": Backbone(101, (3, 4, 23, 3), CAFFE_STYLE),
    "resnet_v1.5_18": Backbone(18, (2, 2, 2, 2), TORCH_STYLE, "resnet18", expansion=1),
    "resnet_v1.5_34": Backbone(34, (3, 4, 6, 3), TORCH_STYLE, "resnet34", expansion=1),
    "resnext_50_32x4d": Backbone(50, (3, 4, 6, 3), TORCH_STYLE, "resnext50_32x4d", 32, 4),
    "resnext_101_32x8d": Backbone(101, (3, 4, 23, 3), TORCH_STYLE, "resnext101_32x8d", 32, 8),
    "resnext_101_64x4d": Backbone(101, (3, 4, 23, 3), TORCH_STYLE, "resnext101_64x4d", 64, 4),
    "wide_resnet_50_2": Backbone(50, (3, 4, 6, 3), TORCH_STYLE, "wide_resnet50_2", base_width=128),
}

MULTIPLE = 32  # px: what sides of the network's input have to be divisible by
STRIDES = (4, 8, 16, 32, 64)  # network-input pixels between the cells of P2 to P6
ROI_STRIDES = STRIDES[:-1]  # of the levels that RoIs are pooled from, P2 to P5


def feature_shapes(
    height: int, width: int, strides: Sequence[int] = STRIDES
) -> tuple[tuple[int, int], ...]:
    """Return the (rows, columns) of the pyramid's levels.

    Args:
        height, width: of the network's input, px.
        strides: of the levels, px.
    """
    return tuple((-(-height // stride), -(-width // stride)) for stride in strides)


class Losses(NamedTuple):
    """The losses of a step, or means over steps, as numbers; in the order of logs and checkpoints.

    The first two are the weighted sums of the others that belong to their stage. (A compiled graph
    has plain tuples in this order: MindSpore runs a NamedTuple there as Python, without gradients.)
    """

    rpn_loss: Any
    rcnn_loss: Any
    rpn_cls_loss: Any
    rpn_reg_loss: Any
    rcnn_cls_loss: Any
    rcnn_reg_loss: Any


LOSS_NAMES: tuple[str, ...] = Losses._fields


def total_loss(losses: "Sequence[Any] | np.ndarray") -> Any:
    """Return the sum that is trained on of losses in the order of `Losses`.

    Args:
        losses: at least the first two of `Losses`: numbers, or tensors of one shape.
    """
    return losses[0] + losses[1]
