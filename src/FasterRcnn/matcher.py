# SPDX-License-Identifier: Apache-2.0
"""Which candidate box belongs to which ground-truth box."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from .box_ops import shared_iou

# Where padded ground truth is moved to: no candidate reaches there.
_NOWHERE = -1.0e5
# A candidate with more of its area than this inside a crowd region is no negative.
_CROWD_OVERLAP = 0.5


def hide_boxes(boxes: Tensor, shown: Tensor) -> Tensor:
    """Return the boxes with those that are not shown moved out of reach of every candidate.

    Args:
        boxes: (B, G, 4) float32 xyxy.
        shown: (B, G) bool.
    """
    shown = ops.broadcast_to(ops.expand_dims(shown, -1), boxes.shape)
    return ops.select(shown, boxes, ops.full_like(boxes, _NOWHERE))


class Matcher(nn.Cell):
    """Match candidates to ground truth by overlap (Faster R-CNN, section 3.1.2).

    A candidate is positive if its best overlap is at least `pos_iou_thr`, negative if it is below
    `neg_iou_thr`, and neither in between: with 0.7 and 0.3, overlaps of 0.8, 0.5 and 0.1 give
    positive, neither, negative.

    Args:
        pos_iou_thr, neg_iou_thr: see above.
        min_pos_iou: a ground-truth box's best usable candidates become positive, too, if they
            overlap it by at least this much (and at all); None: they don't.
        steal: such a candidate goes to the box it is the best of (mmdetection 1.x, the model
            zoo; of several boxes the last), not to the box that overlaps it most (torchvision,
            detectron2).
    """

    def __init__(
        self, pos_iou_thr: float, neg_iou_thr: float, min_pos_iou: float | None, steal: bool
    ) -> None:
        super().__init__()
        self.pos_iou_thr = pos_iou_thr
        self.neg_iou_thr = neg_iou_thr
        self.min_pos_iou = min_pos_iou
        self.steal = steal

    def construct(
        self, overlaps: Tensor, crowd_overlaps: Tensor, usable: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Match.

        Args:
            overlaps: (B, G, N) IoU; 0 for padded ground truth.
            crowd_overlaps: (B, G, N) share of a candidate's area inside a crowd region.
            usable: (B, N) bool; other candidates become neither positive nor negative.

        Returns:
            gt_index: (B, N) int32, the ground-truth box of a positive candidate.
            positive: (B, N) bool.
            negative: (B, N) bool.
        """
        return self.decide(*summarise(overlaps, crowd_overlaps, usable, self.min_pos_iou), usable)

    def decide(
        self, best: Tensor, gt_index: Tensor, best_of: Tensor, in_crowd: Tensor, usable: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Match, as `construct` does, from the numbers of `summarise`.

        Args:
            best, gt_index, best_of, in_crowd: what `summarise` returns.
            usable: (B, N) bool, as for `construct`.
        """
        positive = best >= self.pos_iou_thr
        if self.min_pos_iou is not None:
            is_best = best_of > 0
            positive = ops.logical_or(positive, is_best)
            if self.steal:
                gt_index = ops.select(is_best, best_of - 1, gt_index)
        positive = ops.logical_and(positive, usable)

        negative = ops.logical_and(best < self.neg_iou_thr, in_crowd <= _CROWD_OVERLAP)
        negative = ops.logical_and(negative, ops.logical_and(usable, ops.logical_not(positive)))
        return gt_index, positive, negative


class AnchorOverlaps(nn.Cell):
    """What `summarise` says of the anchors that all images share.

    Args:
        offset: see `box_ops`.
        min_pos_iou: see `Matcher`.
    """

    def __init__(self, offset: float, min_pos_iou: float | None) -> None:
        super().__init__()
        self.offset = offset
        self.min_pos_iou = min_pos_iou

    def construct(
        self, anchors: Tensor, gt_boxes: Tensor, gt_valid: Tensor, gt_crowd: Tensor, usable: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compare every anchor with every box.

        Args:
            anchors: (A, 4) float32.
            gt_boxes: (B, G, 4) float32.
            gt_valid, gt_crowd: (B, G) bool, real boxes and crowd regions; padding is neither.
            usable: (B, A) bool.

        Returns:
            As `summarise`, N being A.
        """
        overlaps = shared_iou(anchors, hide_boxes(gt_boxes, gt_valid), self.offset)
        crowd = shared_iou(anchors, hide_boxes(gt_boxes, gt_crowd), self.offset, "iof")
        return summarise(overlaps, crowd, usable, self.min_pos_iou)


def summarise(
    overlaps: Tensor, crowd_overlaps: Tensor, usable: Tensor, min_pos_iou: float | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Reduce tables of overlaps to what matching needs of every candidate.

    Args:
        overlaps, crowd_overlaps, usable: as for `Matcher.construct`.
        min_pos_iou: see `Matcher`.

    Returns:
        best: (B, N) float32, the highest overlap with a ground-truth box.
        gt_index: (B, N) int32, the first box that has it.
        best_of: (B, N) int32, 1 + the last box whose best usable candidate this one is; else 0.
        in_crowd: (B, N) float32, the largest share of its area inside a crowd region.
    """
    gt_index, best = ops.ArgMaxWithValue(axis=1)(overlaps)
    gt_index = ops.cast(gt_index, ms.int32)
    in_crowd = ops.reduce_max(crowd_overlaps, 1)
    if min_pos_iou is None:
        return best, gt_index, ops.zeros_like(gt_index), in_crowd
    # The best of those that take part: an anchor across the border must not spend the only match
    # of a box there.
    shown = ops.expand_dims(ops.cast(usable, ms.float32), 1)
    best_of = _best_candidates(overlaps * shown, min_pos_iou)
    return best, gt_index, ops.cast(best_of, ms.int32), in_crowd


def _best_candidates(overlaps: Tensor, min_pos_iou: float) -> Tensor:
    """Return (B, N) float32: 1 + the last ground-truth box a candidate is the best of, or 0."""
    top = ops.reduce_max(overlaps, 2)
    counts = ops.logical_and(top >= min_pos_iou, top > 0)
    number = ops.cast(counts, ms.float32) * _one_based(overlaps.shape[1])
    # Subtracting is exact where two floats are equal, and unlike comparing it is fast with a
    # broadcast operand on CPU.
    is_top = ops.cast(overlaps - ops.expand_dims(top, -1) >= 0, ms.float32)
    return ops.reduce_max(is_top * ops.expand_dims(number, -1), 1)


@ops.constexpr
def _one_based(count: int) -> Tensor:
    return Tensor(np.arange(1, count + 1, dtype=np.float32)[None])
