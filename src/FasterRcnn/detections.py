# SPDX-License-Identifier: Apache-2.0
"""From class scores and deltas to the detections of an image (Fast R-CNN, section 4.4)."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from .box_ops import BoxCoder, clip_to, gather_rows, is_sizeable

# Less than this from x1 to x2, px, is an artefact (legacy sizes below a pixel even turn negative).
MIN_SIZE = 1.0e-2


class DetectionSelector(nn.Cell):
    """Score threshold, NMS, the best `max_per_image`.

    Args:
        coder: `BoxCoder`.
        suppression: `HardNms` or a Cell with the same arguments.
        offset: see `box_ops`.
        score_threshold: lower scores go.
        max_candidates: (RoI, class) pairs an image, by score, that enter NMS; 0 for all that can
            be above the threshold.
        max_per_image: K.
        min_size: shorter boxes go, px; None: no box goes (see `is_sizeable`).
    """

    def __init__(
        self,
        coder: BoxCoder,
        suppression: nn.Cell,
        offset: float,
        *,
        score_threshold: float,
        max_candidates: int,
        max_per_image: int,
        min_size: float | None,
    ) -> None:
        super().__init__()
        self.coder = coder
        self.suppression = suppression
        self.offset = offset
        self.min_size = min_size
        self.score_threshold = score_threshold
        self.max_candidates = max_candidates
        self.max_per_image = max_per_image

    def construct(
        self,
        logits: Tensor,
        deltas: Tensor,
        rois: Tensor,
        roi_valid: Tensor,
        height_width: Tensor,
        extent: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Detect.

        Args:
            logits: (B*R, 1 + C) with the background first; outputs between it and the last C are
                of no class.
            deltas: (B*R, C, 4).
            rois: (B, R, 4).
            roi_valid: (B, R) bool.
            height_width: (B, 2), what boxes are clipped to.
            extent: the longer side of the network's input, px.

        Returns:
            boxes (B, K, 4) float32 in network-input pixels, scores (B, K) float32, labels (B, K)
            int32 in 1..C and valid (B, K) bool, best first; zeros where not valid.
        """
        candidates = self.candidates(logits, deltas, rois, roi_valid, height_width)
        return self.select(*candidates, extent, deltas.shape[1])

    def candidates(
        self, logits: Tensor, deltas: Tensor, rois: Tensor, roi_valid: Tensor, height_width: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the (RoI, class) pairs that enter NMS.

        Args:
            logits, deltas, rois, roi_valid, height_width: see `construct`.

        Returns:
            boxes (B, N, 4) float32 in network-input pixels, scores (B, N) float32, classes (B, N)
            int32 in 0..C-1 and valid (B, N) bool, best first.
        """
        batch, num_rois = roi_valid.shape
        num_classes = deltas.shape[1]
        scores = ops.softmax(logits, -1)[:, logits.shape[1] - num_classes :]
        scores = ops.reshape(scores, (batch, num_rois, num_classes))
        scores = scores * ops.expand_dims(ops.cast(roi_valid, ms.float32), -1)
        scores = ops.reshape(scores, (batch, num_rois * num_classes))
        limit = self.max_candidates or num_rois * most_above(self.score_threshold, num_classes)
        scores, pair = ops.topk(scores, min(limit, scores.shape[1]))
        roi = ops.gather(_roi_of_pair(num_rois, num_classes), pair, 0)
        group = pair - roi * num_classes

        deltas = ops.reshape(deltas, (batch, num_rois * num_classes, 4))
        boxes = self.coder.decode(gather_rows(rois, roi), gather_rows(deltas, pair))
        boxes = clip_to(boxes, height_width)
        valid = ops.logical_and(
            scores > self.score_threshold,
            is_sizeable(boxes, height_width, self.min_size, self.offset),
        )
        return boxes, scores, group, valid

    def select(
        self,
        boxes: Tensor,
        scores: Tensor,
        classes: Tensor,
        valid: Tensor,
        extent: int,
        num_classes: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Suppress candidates, and keep the best.

        Args:
            boxes, scores, classes, valid: of `candidates`.
            extent: upper bound of the boxes' coordinates, px.
            num_classes: C.

        Returns:
            As `construct`.
        """
        scores = self.suppression(boxes, scores, valid, extent, classes, num_classes)
        return self._best(boxes, scores, classes + 1)

    def _best(
        self, boxes: Tensor, scores: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        scores, order = ops.topk(scores, min(self.max_per_image, scores.shape[1]))
        valid = scores > 0
        boxes = gather_rows(boxes, order) * ops.expand_dims(ops.cast(valid, ms.float32), -1)
        return boxes, scores, gather_rows(labels, order) * ops.cast(valid, ms.int32), valid


def most_above(score_threshold: float, num_classes: int) -> int:
    """Return how many classes of a RoI can be above a threshold: its scores sum up to 1.

    Args:
        score_threshold: 0 to 1; 0 for no threshold.
        num_classes: C, without the background.
    """
    return min(num_classes, int(1.0 / score_threshold)) if score_threshold else num_classes


@ops.constexpr
def _roi_of_pair(num_rois: int, num_classes: int) -> Tensor:
    """Return (R * C,) int32: the RoI of every (RoI, class) pair.

    A table, because runtimes may compute floats in 8 or 11 bits, and ONNX divides floats only.
    """
    return Tensor(np.repeat(np.arange(num_rois, dtype=np.int32), num_classes))
