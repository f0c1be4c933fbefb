# SPDX-License-Identifier: Apache-2.0
"""Which candidate box belongs to which ground-truth box."""
import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

# Where padded ground truth is moved to: no candidate reaches there.
_NOWHERE = -1.0e5
# A candidate with more of its area than this inside a crowd region is no negative.
_CROWD_OVERLAP = 0.5


def hide_boxes(boxes, shown):
    """Return `boxes` (B, G, 4) with those that are not `shown` (B, G) moved out of reach."""
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

    def __init__(self, pos_iou_thr, neg_iou_thr, min_pos_iou, steal):
        super().__init__()
        self.pos_iou_thr = pos_iou_thr
        self.neg_iou_thr = neg_iou_thr
        self.min_pos_iou = min_pos_iou
        self.steal = steal

    def construct(self, overlaps, crowd_overlaps, usable):
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
        gt_index, best = ops.ArgMaxWithValue(axis=1)(overlaps)
        gt_index = ops.cast(gt_index, ms.int32)
        positive = best >= self.pos_iou_thr
        if self.min_pos_iou is not None:
            # The best of those that take part: an anchor across the border must not spend the
            # only match of a box there.
            shown = ops.expand_dims(ops.cast(usable, ms.float32), 1)
            best_of = self._best_candidates(overlaps * shown)
            is_best = best_of > 0
            positive = ops.logical_or(positive, is_best)
            if self.steal:
                gt_index = ops.select(is_best, ops.cast(best_of, ms.int32) - 1, gt_index)
        positive = ops.logical_and(positive, usable)

        in_crowd = ops.reduce_max(crowd_overlaps, 1) > _CROWD_OVERLAP
        negative = ops.logical_and(best < self.neg_iou_thr, ops.logical_not(in_crowd))
        negative = ops.logical_and(negative, ops.logical_and(usable, ops.logical_not(positive)))
        return gt_index, positive, negative

    def _best_candidates(self, overlaps):
        """Return (B, N) float32: 1 + the last ground-truth box a candidate is the best of, or 0."""
        top = ops.reduce_max(overlaps, 2)
        counts = ops.logical_and(top >= self.min_pos_iou, top > 0)
        number = ops.cast(counts, ms.float32) * _one_based(overlaps.shape[1])
        # Subtracting is exact where two floats are equal, and unlike comparing it is fast with a
        # broadcast operand on CPU.
        is_top = ops.cast(overlaps - ops.expand_dims(top, -1) >= 0, ms.float32)
        return ops.reduce_max(is_top * ops.expand_dims(number, -1), 1)


@ops.constexpr
def _one_based(count):
    return Tensor(np.arange(1, count + 1, dtype=np.float32)[None])
