# SPDX-License-Identifier: Apache-2.0
"""Padding that changes nothing: what lies behind a picture's own canvas is not there.

A picture's own canvas is what it would be padded to alone: its valid area, with height and width
rounded up to multiples of 32. What reads a window of cells (3x3 convolutions, pooling, RoIAlign)
finds zeros behind it, as at the border of an input of just that size. `cells` (B, 2) float32 says
how many rows and columns of a feature map are on the own canvas; None stands for all of them.

A ResNet-50 detector needs zeros in 27 places: the image, the stem's pooling, 16 blocks, 4 levels of
the pyramid and 5 of the RPN. A mask is multiplied in there, unless an operator knows the cells
itself. 1x1 convolutions and the top-down path need none: what they compute behind the own canvas is
read by nobody.
"""

from typing import TypeAlias

import numpy as np
from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype

from .names import MULTIPLE

LOWEST = -1.0e30  # the logit of an anchor that is not there; no proposal comes of it

Cells: TypeAlias = Tensor | None
PyramidCells: TypeAlias = tuple[Cells, ...]
EVERYWHERE: PyramidCells = (None,) * 5  # P2 to P6 without an own canvas


def own_size(image_meta: Tensor) -> Tensor:
    """Return (B, 2) float32: height and width of each picture's own canvas, px.

    Args:
        image_meta: (B, 4) float32, see `FasterRcnn.construct`.
    """
    return ops.floor((image_meta[:, :2] + (MULTIPLE - 1.0)) / MULTIPLE) * MULTIPLE


def halved(cells: Cells) -> Cells:
    """Return the cells behind a layer of stride 2.

    Args:
        cells: those before it.
    """
    return None if cells is None else ops.floor((cells + 1.0) / 2.0)


def pyramid_cells(own: Cells) -> PyramidCells:
    """Return the cells of P2 to P6; those of C2 to C5 are the first four.

    Args:
        own: of `own_size`; None for all cells.
    """
    if own is None:
        return EVERYWHERE
    p2 = halved(halved(own))
    p3 = halved(p2)
    p4 = halved(p3)
    p5 = halved(p4)
    return p2, p3, p4, p5, halved(p5)


def own_mask(cells: Tensor, height: int, width: int) -> Tensor:
    """Return (B, 1, height, width) float32: 1 on the own canvas, 0 behind it.

    Args:
        cells: (B, 2) float32.
        height, width: of the feature map.
    """
    rows = ops.cast(_numbers(height) < cells[:, 0:1], mstype.float32)
    columns = ops.cast(_numbers(width) < cells[:, 1:2], mstype.float32)
    return ops.reshape(rows, (-1, 1, height, 1)) * ops.reshape(columns, (-1, 1, 1, width))


class ZeroBehind(nn.Cell):
    """A feature map with zeros behind the own canvas."""

    def construct(self, x: Tensor, cells: Cells) -> Tensor:
        """Return (B, C, H, W) of the dtype of `x`.

        Args:
            x: (B, C, H, W).
            cells: of `x`.
        """
        if cells is None:
            return x
        return x * ops.cast(own_mask(cells, *x.shape[2:]), x.dtype)


def hide_logits(logits: Tensor, cells: Cells) -> Tensor:
    """Return the logits with `LOWEST` behind the own canvas: those anchors come after all others.

    Args:
        logits: (B, anchors, H, W) float32.
        cells: of the map.
    """
    if cells is None:
        return logits
    mask = own_mask(cells, *logits.shape[2:])
    return logits * mask + (mask - 1.0) * -LOWEST


def repeat_border(x: Tensor, cells: Cells) -> Tensor:
    """Return the map with the last row and column of the own canvas once more behind it.

    Interpolation between the last cell and the next then finds what it finds at a map's border.

    Args:
        x: (B, C, H, W), zeros behind the own canvas.
        cells: of `x`.
    """
    if cells is None:
        return x
    height, width = x.shape[2:]
    next_row = ops.cast(ops.equal(_numbers(height), cells[:, 0:1]), x.dtype)
    next_column = ops.cast(ops.equal(_numbers(width), cells[:, 1:2]), x.dtype)
    above = ops.concat((ops.zeros_like(x[:, :, :1]), x[:, :, :-1]), 2)
    x = x + above * ops.reshape(next_row, (-1, 1, height, 1))
    before = ops.concat((ops.zeros_like(x[:, :, :, :1]), x[:, :, :, :-1]), 3)
    return x + before * ops.reshape(next_column, (-1, 1, 1, width))


@ops.constexpr
def _numbers(count: int) -> Tensor:
    return Tensor(np.arange(count, dtype=np.float32)[None])
