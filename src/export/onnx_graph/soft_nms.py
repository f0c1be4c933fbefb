# SPDX-License-Identifier: Apache-2.0
"""Soft-NMS in an ONNX graph, round by round: what `FasterRcnn.soft_nms` computes."""

import numpy as np

from ...FasterRcnn.names import SOFT_LINEAR
from ...FasterRcnn.soft_nms import SoftNms, SoftNmsRounds
from .boxes import Boxes, as_float
from .builder import GraphBuilder


def soft_nms(graph: GraphBuilder, cell: SoftNms, boxes: Boxes, scores: str, labels: str) -> str:
    """Return (B, N) float32, the scores of the boxes that are taken; 0 for the others.

    Args:
        graph: that all is in.
        cell: gives the settings.
        boxes: (B, N, 2) each.
        scores: (B, N) float32; 0 for boxes that do not take part.
        labels: (B, N) int32.
    """
    rounds: SoftNmsRounds = cell.take
    boxes = Boxes(boxes.start, graph.op("Max", boxes.end, boxes.start))
    areas = _area(graph, boxes)
    left = _at_least(graph, scores, rounds.min_score)
    taken = graph.op("Mul", scores, 0.0)
    for _ in range(rounds.most):
        score, index = graph.ops("TopK", 2, left, [1], axis=1)
        best = Boxes(graph.picked(boxes.start, index), graph.picked(boxes.end, index))
        iou = _iou(graph, boxes, areas, best)
        factor = _decay(graph, rounds, iou)
        if cell.per_class:
            meets = graph.op("Equal", labels, graph.picked(labels, index))
            factor = graph.op("Where", meets, factor, 1.0)
        place = graph.op("Unsqueeze", index, [-1])
        stays = _at_least(graph, graph.op("Mul", left, factor), rounds.min_score)
        left = _replaced(graph, stays, place, graph.op("Mul", score, 0.0))
        now = graph.op("Add", graph.picked(taken, index), score)
        taken = _replaced(graph, taken, place, now)
    return taken


def _replaced(graph: GraphBuilder, values: str, place: str, by: str) -> str:
    """Return (B, N) values with one of each row replaced."""
    index = graph.op("Squeeze", place, [-1])
    return graph.op("ScatterElements", values, index, by, axis=1)


def _at_least(graph: GraphBuilder, scores: str, least: float) -> str:
    return graph.op("Where", graph.op("GreaterOrEqual", scores, float(least)), scores, 0.0)


def _area(graph: GraphBuilder, boxes: Boxes) -> str:
    return _product(graph, graph.op("Sub", boxes.end, boxes.start))


def _product(graph: GraphBuilder, sides: str) -> str:
    width, height = graph.ops("Split", 2, sides, axis=-1)
    return graph.op("Squeeze", graph.op("Mul", width, height), [-1])


def _iou(graph: GraphBuilder, boxes: Boxes, areas: str, best: Boxes) -> str:
    start = graph.op("Max", boxes.start, best.start)
    sides = graph.op("Relu", graph.op("Sub", graph.op("Min", boxes.end, best.end), start))
    common = _product(graph, sides)
    union = graph.op("Sub", graph.op("Add", areas, _area(graph, best)), common)
    return graph.op("Div", common, graph.op("Max", union, 1.0e-12))


def _decay(graph: GraphBuilder, rounds: SoftNmsRounds, iou: str) -> str:
    if rounds.kind == SOFT_LINEAR:
        above = graph.op("Greater", iou, float(rounds.iou_threshold))
        rest = graph.op("Sub", 1.0, graph.op("Mul", iou, as_float(graph, above)))
        return rest
    square = graph.op("Mul", graph.op("Mul", iou, iou), float(np.float32(-1.0 / rounds.sigma)))
    return graph.op("Exp", square)
