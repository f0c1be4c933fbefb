# SPDX-License-Identifier: Apache-2.0
"""Anchors of a feature pyramid, computed in NumPy when a graph is compiled."""

from collections.abc import Sequence

import numpy as np
from mindspore import Tensor, nn, ops

from .base_anchors import base_anchors


class AnchorGenerator:
    """Anchors of one pyramid level (Faster R-CNN, section 3.1.1; FPN, section 4.1).

    Args:
        stride: network-input pixels between neighbouring cells; also the base size.
        scales: anchor side over stride, e.g. (8,).
        ratios: height over width, e.g. (0.5, 1, 2).
        offset: 1 for legacy coordinates (anchors are centred on the pixel grid's cell), 0 for
            modern ones (anchors are centred on the cell's corner); see `box_ops`.
        rounded: round the base anchors to whole pixels, as mmdetection 1.x and torchvision do.
            detectron2 does not.
    """

    def __init__(
        self,
        stride: int,
        scales: Sequence[float],
        ratios: Sequence[float],
        offset: float,
        rounded: bool = True,
    ) -> None:
        self.stride = stride
        self.base_anchors = base_anchors(stride, scales, ratios, offset, rounded)

    def grid(self, height: int, width: int) -> np.ndarray:
        """Return (height * width * len(base_anchors), 4) float32 xyxy, row by row, anchor last.

        Args:
            height, width: of the level's feature map, cells.
        """
        x = np.arange(width, dtype=np.float32) * self.stride
        y = np.arange(height, dtype=np.float32) * self.stride
        shift_x, shift_y = np.meshgrid(x, y)
        shifts = np.stack([shift_x, shift_y, shift_x, shift_y], axis=-1).reshape(-1, 1, 4)
        return (shifts + self.base_anchors).reshape(-1, 4).astype(np.float32)


class PyramidAnchors(nn.Cell):
    """The anchors of feature maps of any size: constants of the graph that is compiled for it.

    Args:
        strides: of the levels, network-input pixels.
        scales, ratios, offset, rounded: see `AnchorGenerator`.
    """

    def __init__(
        self,
        strides: Sequence[int],
        scales: Sequence[float],
        ratios: Sequence[float],
        offset: float,
        rounded: bool = True,
    ) -> None:
        super().__init__()
        self.settings = (tuple(strides), tuple(scales), tuple(ratios), offset, rounded)

    def construct(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the (A_l, 4) float32 xyxy anchors of each level, in network-input pixels.

        Args:
            features: (B, C, H_l, W_l) of each level.
        """
        shapes: tuple[tuple[int, int], ...] = ()
        for feature in features:
            shapes += (feature.shape[2:],)
        return _constant_anchors(shapes, *self.settings)


@ops.constexpr
def _constant_anchors(
    shapes: tuple[tuple[int, int], ...],
    strides: tuple[int, ...],
    scales: tuple[float, ...],
    ratios: tuple[float, ...],
    offset: float,
    rounded: bool,
) -> tuple[Tensor, ...]:
    levels = pyramid_anchors(shapes, strides, scales, ratios, offset, rounded)
    return tuple(Tensor(level) for level in levels)


def pyramid_anchors(
    feature_shapes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    scales: Sequence[float],
    ratios: Sequence[float],
    offset: float,
    rounded: bool = True,
) -> list[np.ndarray]:
    """Return a list with the (A_l, 4) float32 anchors of every level of `feature_shapes`.

    Args:
        feature_shapes: (rows, columns) of every level.
        strides: of the levels, network-input pixels.
        scales, ratios, offset, rounded: see `AnchorGenerator`.
    """
    return [
        AnchorGenerator(stride, scales, ratios, offset, rounded).grid(*shape)
        for stride, shape in zip(strides, feature_shapes, strict=True)
    ]
