# SPDX-License-Identifier: Apache-2.0
"""From class scores and deltas to detections in an ONNX graph, as `FasterRcnn.detections`."""

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from ...FasterRcnn.detections import DetectionSelector, most_above
from ...FasterRcnn.nms import HardNms
from .boxes import Boxes, as_float, clip, decode, is_sizeable, non_max_suppression, only_at
from .builder import GraphBuilder
from .soft_nms import soft_nms


@dataclass(frozen=True, slots=True)
class Candidates:
    """All (class, RoI) pairs of the images, class by class.

    Attributes:
        boxes: (B, C, R, 4) float32 xyxy in network-input pixels.
        scores: (B, C, R) float32, 0 where they are none.
        num_classes, num_rois: C and R.
    """

    boxes: str
    scores: str
    num_classes: int
    num_rois: int

    @property
    def pairs(self) -> int:
        """C * R."""
        return self.num_classes * self.num_rois


def find_candidates(
    graph: GraphBuilder,
    cell: DetectionSelector,
    logits: str,
    deltas: str,
    rois: str,
    roi_valid: str,
    limit: str,
    sizes: tuple[int, int],
) -> Candidates:
    """Return what can be a detection, before any suppression.

    Args:
        graph: that all is in.
        cell: gives the settings.
        logits: (B, R, 1 + C) float32; outputs between the first and the last C are of no class.
        deltas: (B, R, C, 4) float32.
        rois: (B, R, 4) float32 xyxy.
        roi_valid: (B, R) bool.
        limit: width and height that boxes are clipped to, (B, 1, 2) float32.
        sizes: C and R.
    """
    num_classes, num_rois = sizes
    scores = graph.op("Softmax", logits, axis=-1)
    scores = graph.op("Slice", scores, [-num_classes], [2**31 - 1], [2])
    scores = graph.op("Transpose", scores, perm=[0, 2, 1])
    scores = graph.op("Mul", scores, graph.op("Unsqueeze", as_float(graph, roi_valid), [1]))
    found = decode(
        graph,
        cell.coder,
        graph.op("Unsqueeze", rois, [1]),
        graph.op("Transpose", deltas, perm=[0, 2, 1, 3]),
    )
    limit = graph.op("Unsqueeze", limit, [1])
    found = clip(graph, found, limit)
    keeps = graph.op("Greater", scores, float(cell.score_threshold))
    sizeable = is_sizeable(graph, found, limit, cell.min_size, cell.offset)
    if sizeable is not None:
        keeps = graph.op("And", keeps, sizeable)
    candidates = cell.max_candidates
    if 0 < candidates < num_classes * num_rois:
        flat = graph.op("Reshape", scores, [0, num_classes * num_rois])
        best, _ = graph.ops("TopK", 2, flat, [candidates], axis=1)
        least = graph.op("Unsqueeze", graph.op("Slice", best, [-1], [2**31 - 1], [1]), [2])
        keeps = graph.op("And", keeps, graph.op("GreaterOrEqual", scores, least))
    scores = graph.op("Where", keeps, scores, 0.0)
    return Candidates(found.joined(graph), scores, num_classes, num_rois)


def select(
    graph: GraphBuilder, cell: DetectionSelector, candidates: Candidates
) -> tuple[str, str, str, str, int]:
    """Suppress, and keep the best.

    Args:
        graph: that all is in.
        cell: gives the settings.
        candidates: of `find_candidates`.

    Returns:
        Boxes (B, K, 4) float32 in network-input pixels, scores (B, K) float32, labels (B, K) int32
        and valid (B, K) bool, best first, zeros where not valid; and K.
    """
    pairs, num_rois = candidates.pairs, candidates.num_rois
    limit = cell.max_candidates or num_rois * most_above(
        cell.score_threshold, candidates.num_classes
    )
    most = min(cell.max_per_image, limit, pairs)
    boxes = graph.op("Reshape", candidates.boxes, [0, pairs, 4])
    labels = np.repeat(np.arange(1, candidates.num_classes + 1, dtype=np.int32), num_rois)
    suppression = cell.suppression
    if isinstance(suppression, HardNms):
        scores = _hard_nms(graph, suppression, candidates, most)
    else:
        flat = graph.op("Reshape", candidates.scores, [0, pairs])
        best, order = graph.ops("TopK", 2, flat, [min(limit, pairs)], axis=1)
        boxes = graph.picked(boxes, order)
        own_labels = graph.op("Gather", labels, order)
        scores = soft_nms(graph, suppression, Boxes(*graph.halves(boxes)), best, own_labels)
        scores, order = graph.ops("TopK", 2, scores, [most], axis=1)
        return _finished(
            graph, graph.picked(boxes, order), scores, graph.picked(own_labels, order), most
        )
    scores, order = graph.ops("TopK", 2, scores, [most], axis=1)
    found = graph.op("Gather", labels, order)
    return _finished(graph, graph.picked(boxes, order), scores, found, most)


def _hard_nms(graph: GraphBuilder, cell: HardNms, candidates: Candidates, most: int) -> str:
    """Return the scores (B, C * R); 0 for those that are suppressed."""
    length = candidates.num_rois if cell.per_class else candidates.pairs
    boxes = Boxes(*graph.halves(graph.op("Reshape", candidates.boxes, [-1, length, 4])))
    scores = graph.op("Reshape", candidates.scores, [-1, length])
    own = min(most, length)
    places = non_max_suppression(graph, boxes, scores, cell.nms.iou_threshold, own)
    left = only_at(graph, scores, places, 0.0)
    return graph.op("Reshape", left, [-1, candidates.pairs])


def _finished(
    graph: GraphBuilder, boxes: str, scores: str, labels: str, most: int
) -> tuple[str, str, str, str, int]:
    valid = graph.op("Greater", scores, 0.0)
    boxes = graph.op("Mul", boxes, graph.op("Unsqueeze", as_float(graph, valid), [-1]))
    labels = graph.op("Mul", labels, graph.op("Cast", valid, to=TensorProto.INT32))
    return boxes, scores, labels, valid, most
