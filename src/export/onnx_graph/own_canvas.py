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
    for axis, length in ((3, shape[1]), (2, shape[0])):
        end = graph.op("Slice", cells, [axis - 2], [axis - 1], [1])
        end = graph.op("Unsqueeze", end, [2, 3])
        one_wide = np.array([1, 1, shape[0], 1] if axis == 3 else [1, 1, 1, shape[1]], np.int64)
        channels = graph.op("Slice", graph.op("Shape", feature), [1], [2])
        sizes = graph.op("Concat", one_wide[:1], channels, one_wide[2:], axis=0)
        last = graph.op("Expand", graph.op("Sub", end, 1), sizes)
        behind = graph.op("Expand", graph.op("Min", end, length - 1), sizes)
        values = graph.op("GatherElements", feature, last, axis=axis)
        feature = graph.op("ScatterElements", feature, behind, values, axis=axis)
    return feature


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
