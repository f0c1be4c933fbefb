# SPDX-License-Identifier: Apache-2.0
"""Box arithmetic in an ONNX graph: what `FasterRcnn.box_ops` and `FasterRcnn.nms` compute.

Boxes are handled as two halves of shape (..., 2): x1 y1 and x2 y2.
"""

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from ...FasterRcnn.box_ops import MAX_LOG_SIZE, BoxCoder
from .builder import GraphBuilder


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes in a graph.

    Attributes:
        start, end: tensors (..., 2) float32.
    """

    start: str
    end: str

    def joined(self, graph: GraphBuilder) -> str:
        """Return (..., 4) xyxy.

        Args:
            graph: that they are in.
        """
        return graph.op("Concat", self.start, self.end, axis=-1)


def decode(graph: GraphBuilder, coder: BoxCoder, references: str, deltas: str) -> Boxes:
    """Apply deltas to reference boxes, as `BoxCoder.decode`.

    Args:
        graph: that all is in.
        coder: gives means, stds and offset.
        references: (..., 4) float32 xyxy.
        deltas: (..., 4) float32.
    """
    deltas = graph.op("Add", graph.op("Mul", deltas, coder.stds.asnumpy()), coder.means.asnumpy())
    shift, log_size = graph.halves(deltas)
    start, end = graph.halves(references)
    size = with_offset(graph, graph.op("Sub", end, start), coder.offset)
    centre = graph.op("Mul", graph.op("Add", start, end), 0.5)
    centre = graph.op("Add", centre, graph.op("Mul", shift, size))
    log_size = graph.op("Min", log_size, MAX_LOG_SIZE)
    if coder.offset:
        log_size = graph.op("Max", log_size, -MAX_LOG_SIZE)
    half = with_offset(
        graph, graph.op("Mul", size, graph.op("Exp", log_size)), -float(coder.offset)
    )
    half = graph.op("Mul", half, 0.5)
    return Boxes(graph.op("Sub", centre, half), graph.op("Add", centre, half))


def with_offset(graph: GraphBuilder, values: str, offset: float) -> str:
    """Return values + offset; of 0 the values.

    Args:
        graph: that all is in.
        values: float32.
        offset: a number.
    """
    return graph.op("Add", values, float(offset)) if offset else values


def clip(graph: GraphBuilder, boxes: Boxes, limit: str) -> Boxes:
    """Clip boxes to their images.

    Args:
        graph: that all is in.
        boxes: those.
        limit: width and height of the images, (B, 1, ..., 2) float32.
    """
    return Boxes(
        *(graph.op("Max", graph.op("Min", half, limit), 0.0) for half in (boxes.start, boxes.end))
    )


def is_sizeable(
    graph: GraphBuilder, boxes: Boxes, limit: str, min_size: float | None, offset: float
) -> str | None:
    """Return bool (...), as `box_ops.is_sizeable`; None where any box will do.

    Args:
        graph: that all is in.
        boxes: clipped ones.
        limit: see `clip`.
        min_size: shortest side, px, or None.
        offset: see `box_ops`.
    """
    if min_size is None:
        return None
    beyond = graph.op("ReduceMax", graph.op("Sub", boxes.start, limit), axes=[-1], keepdims=0)
    sides = graph.op("Sub", boxes.end, boxes.start)
    shorter = graph.op("ReduceMin", sides, axes=[-1], keepdims=0)
    shorter = with_offset(graph, shorter, offset)
    compare = ("GreaterOrEqual", float(min_size)) if min_size > 0 else ("Greater", 0.0)
    large = graph.op(compare[0], shorter, compare[1])
    return graph.op("And", graph.op("Less", beyond, 0.0), large)


def non_max_suppression(
    graph: GraphBuilder, boxes: Boxes, scores: str, iou_threshold: float, most: int
) -> str:
    """Return where the boxes are that stay: (M, 2) int64, row of the batch and place in it.

    Args:
        graph: that all is in.
        boxes: (B, N, 2) each.
        scores: (B, N) float32; those of 0 do not take part.
        iou_threshold: a box that overlaps a better one by more than this goes.
        most: boxes of a row that may stay.
    """
    # The operator would turn boxes that end before they start.
    boxes = Boxes(boxes.start, graph.op("Max", boxes.end, boxes.start))
    chosen = graph.op(
        "NonMaxSuppression",
        boxes.joined(graph),
        graph.op("Unsqueeze", scores, [1]),
        np.array([most], np.int64),
        np.array([iou_threshold], np.float32),
        np.array([0.0], np.float32),
    )
    return graph.op("Gather", chosen, [0, 2], axis=1)


def only_at(graph: GraphBuilder, values: str, places: str, otherwise: float) -> str:
    """Return the values (B, N) at some places, and one number everywhere else.

    Args:
        graph: that all is in.
        values: float32.
        places: of `non_max_suppression`.
        otherwise: the number.
    """
    empty = graph.filled(graph.op("Shape", values), otherwise)
    return graph.op("ScatterND", empty, places, graph.op("GatherND", values, places))


def as_float(graph: GraphBuilder, values: str) -> str:
    """Return values as float32.

    Args:
        graph: that all is in.
        values: of any dtype.
    """
    return graph.op("Cast", values, to=TensorProto.FLOAT)


def xy_limit(graph: GraphBuilder, height_width: str) -> str:
    """Return width and height, (B, 1, 2) of (B, 2) height and width.

    Args:
        graph: that all is in.
        height_width: float32.
    """
    return graph.op("Unsqueeze", graph.op("Gather", height_width, [1, 0], axis=1), [1])
