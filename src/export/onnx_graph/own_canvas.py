# SPDX-License-Identifier: Apache-2.0
"""The border of a picture's own canvas in an ONNX graph: see `FasterRcnn.own_canvas`."""

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from ...FasterRcnn.names import MULTIPLE
from .boxes import as_float
from .builder import GraphBuilder


def own_size(graph: GraphBuilder, sizes: str) -> str:
    """Return (B, 2) float32: height and width of the pictures' own canvases, px.

    Args:
        graph: that all is in.
        sizes: (B, 2) float32, of their valid areas.
    """
    multiple = float(MULTIPLE)
    rows = graph.op("Div", graph.op("Add", sizes, multiple - 1.0), multiple)
    return graph.op("Mul", graph.op("Floor", rows), multiple)


def border_repeated(
    graph: GraphBuilder, feature: str, own: str, stride: int, shape: Sequence[int]
) -> str:
    """Return a map (B, C, H, W) with the last row and column of the own canvas once more behind it.

    RoIs end with it, so that they read nothing further behind.

    Args:
        graph: that all is in.
        feature: the map, float32.
        own: of `own_size`.
        stride: of the map.
        shape: H and W.
    """
    cells = graph.op("Cast", graph.op("Div", own, float(stride)), to=TensorProto.INT64)
    last_row = _border(graph, feature, cells, 2, shape)
    last_column = _border(graph, feature, cells, 3, shape)
    corner = _border(graph, last_row, cells, 3, (1, shape[1]))
    # Chosen, not written: runtimes then keep the layout in which RoIAlign is fast.
    next_column = _is_behind(graph, cells, 3, shape)
    row = graph.op("Where", next_column, corner, last_row)
    feature = graph.op("Where", next_column, last_column, feature)
    return graph.op("Where", _is_behind(graph, cells, 2, shape), row, feature)


def _border(graph: GraphBuilder, feature: str, cells: str, axis: int, shape: Sequence[int]) -> str:
    """Return the last row (axis 2) or column (3) on the own canvas, one cell wide."""
    sides = list(shape)
    sides[axis - 2] = 1
    channels = graph.op("Slice", graph.op("Shape", feature), [1], [2])
    sizes = graph.op("Concat", [1], channels, sides, axis=0)
    last = graph.op("Sub", _end(graph, cells, axis), 1)
    return graph.op("GatherElements", feature, graph.op("Expand", last, sizes), axis=axis)


def _is_behind(graph: GraphBuilder, cells: str, axis: int, shape: Sequence[int]) -> str:
    """Return which row (axis 2) or column (3) is the next behind the own canvas, bool."""
    sides = [1, 1, 1, 1]
    sides[axis] = shape[axis - 2]
    numbers = np.arange(shape[axis - 2], dtype=np.int64).reshape(sides)
    return graph.op("Equal", numbers, _end(graph, cells, axis))


def _end(graph: GraphBuilder, cells: str, axis: int) -> str:
    """Return how many cells there are along an axis, (B, 1, 1, 1) int64."""
    return graph.op("Unsqueeze", graph.op("Slice", cells, [axis - 2], [axis - 1], [1]), [2, 3])


def area_mask(graph: GraphBuilder, size: str, shape: Sequence[int]) -> str:
    """Return (B, 1, H, W) float32: 1 in the top left area of a size, 0 elsewhere.

    Args:
        graph: that all is in.
        size: its height and width, (B, 2 or more) float32.
        shape: H and W.
    """
    sides = []
    for axis, length in enumerate(shape):
        numbers = np.arange(length, dtype=np.float32)[None]
        end = graph.op("Slice", size, [axis], [axis + 1], [1])
        before = as_float(graph, graph.op("Less", numbers, end))
        sides.append(graph.op("Unsqueeze", before, [1, 3 - axis]))
    return graph.op("Mul", *sides)
