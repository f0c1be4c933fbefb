# SPDX-License-Identifier: Apache-2.0
"""Training samples and targets of the second stage (RCNN)."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from .box_ops import BoxCoder, batched_iou, gather_rows
from .matcher import Matcher, hide_boxes
from .sampling import BalancedSampler


class BboxAssignSampleForRcnn(nn.Cell):
    """Choose RoIs among proposals and ground truth and compute their labels and deltas.

    Ground-truth boxes join the proposals as their own matches, so that every image has positives
    from the first step on (as in every public implementation).

    Args:
        matcher: says which proposals are positive and negative.
        sampler: chooses among them.
        coder: what the deltas mean.
        offset: see `box_ops`.
        tight: the choice does not depend on how many candidates a canvas has.
    """

    def __init__(
        self,
        matcher: Matcher,
        sampler: BalancedSampler,
        coder: BoxCoder,
        offset: float,
        tight: bool = False,
    ) -> None:
        super().__init__()
        self.matcher = matcher
        self.sampler = sampler
        self.coder = coder
        self.offset = offset
        self.tight = tight

    def construct(
        self,
        proposals: Tensor,
        proposal_valid: Tensor,
        gt_boxes: Tensor,
        gt_labels: Tensor,
        gt_valid: Tensor,
        gt_crowd: Tensor,
        sampling_key: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Choose and compute.

        Args:
            proposals: (B, N, 4) float32.
            proposal_valid: (B, N) bool.
            gt_boxes: (B, G, 4) float32.
            gt_labels: (B, G) int32, 1..C.
            gt_valid, gt_crowd: (B, G) bool.
            sampling_key: (B,) int32.

        Returns:
            rois: (B, T, 4) float32, positives first.
            labels: (B, T) int32, 0 for background.
            chosen: (B, T) bool, False for unused places.
            targets: (B, T, 4) float32 deltas; of use where labels > 0.
        """
        overlaps = batched_iou(proposals, hide_boxes(gt_boxes, gt_valid), self.offset)
        crowd = batched_iou(proposals, hide_boxes(gt_boxes, gt_crowd), self.offset, "iof")
        gt_index, positive, negative = self.matcher(overlaps, crowd, proposal_valid)

        candidates = ops.concat((gt_boxes, proposals), 1)
        positive = ops.concat((gt_valid, positive), 1)
        negative = ops.concat((ops.zeros_like(gt_valid), negative), 1)
        gt_index = ops.concat((_own_index(*gt_labels.shape), gt_index), 1)
        grids = ((1, positive.shape[1], 1),) if self.tight else None  # one row of candidates
        index, is_object, chosen = self.sampler(positive, negative, sampling_key, grids)

        rois = gather_rows(candidates, index)
        own_gt = gather_rows(gt_index, index)
        labels = gather_rows(gt_labels, own_gt) * ops.cast(is_object, ms.int32)
        is_box = ops.broadcast_to(ops.expand_dims(is_object, -1), rois.shape)
        # A placeless reference for everything but positives keeps log() away from padding.
        references = ops.select(is_box, rois, ops.full_like(rois, 0.0) + _unit_box())
        matches = ops.select(is_box, gather_rows(gt_boxes, own_gt), references)
        return rois, labels, chosen, self.coder.encode(references, matches)


@ops.constexpr
def _own_index(batch: int, count: int) -> Tensor:
    return Tensor(np.tile(np.arange(count, dtype=np.int32), (batch, 1)))


@ops.constexpr
def _unit_box() -> Tensor:
    return Tensor(np.array([0, 0, 1, 1], np.float32))
