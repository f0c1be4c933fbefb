# SPDX-License-Identifier: Apache-2.0
"""Soft non-maximum suppression (Bodla et al. 2017): neighbours of a detection lose score.

Again and again the box with the highest score is taken, and the scores of its neighbours that are
left are multiplied by what its overlap with them leaves: 1 - IoU above the threshold (linear), or
exp(-IoU^2 / sigma) at any IoU (Gaussian). Boxes with less than the least score go. Scores only
fall, so the first K boxes that are taken are the K best of all classes together.
"""

from collections.abc import Callable

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from .box_ops import gather_rows
from .names import SOFT_GAUSSIAN, SOFT_LINEAR

# What an IoU leaves of a neighbour's score: of the IoU, the threshold and sigma.
Decay = Callable[[Tensor, float, float], Tensor]


def linear(iou: Tensor, threshold: float, sigma: float) -> Tensor:
    """Return 1 - IoU above the threshold, else 1.

    Args:
        iou: float32 of any shape.
        threshold: 0 to 1.
        sigma: of no use here.
    """
    return ops.select(iou > threshold, 1.0 - iou, ops.ones_like(iou))


def gaussian(iou: Tensor, threshold: float, sigma: float) -> Tensor:
    """Return exp(-IoU^2 / sigma).

    Args:
        iou: float32 of any shape.
        threshold: of no use here.
        sigma: above 0.
    """
    return ops.exp(iou * iou * (-1.0 / sigma))


DECAYS: dict[str, Decay] = {SOFT_LINEAR: linear, SOFT_GAUSSIAN: gaussian}


class SoftNms(nn.Cell):
    """Soft-NMS with the arguments of `nms.HardNms`.

    Args:
        kind: a key of `DECAYS`.
        per_class: whether boxes of different classes leave each other alone.
        iou_threshold: of linear decay: a box that overlaps a better one by more loses score.
        sigma: of Gaussian decay; the larger, the less is lost.
        min_score: boxes with less go; above 0.
        most: K, boxes of an image that are taken.

    Attributes:
        take: `SoftNmsRounds`, or a Cell with the same arguments.

    Raises:
        ValueError: there is no such kind.
    """

    def __init__(
        self,
        kind: str,
        *,
        per_class: bool,
        iou_threshold: float,
        sigma: float,
        min_score: float,
        most: int,
    ) -> None:
        super().__init__()
        if kind not in DECAYS:
            raise ValueError(f"soft NMS kind {kind!r} is none of {', '.join(DECAYS)}")
        self.per_class = per_class
        self.min_score = min_score
        self.take = SoftNmsRounds(kind, iou_threshold, sigma, min_score, most)

    def construct(
        self,
        boxes: Tensor,
        scores: Tensor,
        valid: Tensor,
        extent: int,
        classes: Tensor,
        num_classes: int,
    ) -> Tensor:
        """Suppress.

        Args:
            boxes, scores, valid, extent, classes, num_classes: as for `nms.HardNms.construct`.

        Returns:
            (B, N) float32, the scores of the boxes that are taken; 0 for the others.
        """
        enters = ops.logical_and(valid, scores >= self.min_score)
        scores = ops.select(enters, scores, ops.zeros_like(scores))
        groups = classes if self.per_class else ops.zeros_like(classes)
        return self.take(boxes, scores, groups)


class SoftNmsRounds(nn.Cell):
    """A round for each box that is taken: its overlaps with all others, and what they leave.

    Args:
        kind, iou_threshold, sigma, min_score, most: see `SoftNms`.
    """

    def __init__(
        self, kind: str, iou_threshold: float, sigma: float, min_score: float, most: int
    ) -> None:
        super().__init__()
        self.kind = kind
        self.decay = DECAYS[kind]
        self.iou_threshold = iou_threshold
        self.sigma = sigma
        self.min_score = min_score
        self.most = most

    def construct(self, boxes: Tensor, scores: Tensor, groups: Tensor) -> Tensor:
        """Return what `SoftNms.construct` does.

        Args:
            boxes: (B, N, 4) float32 xyxy.
            scores: (B, N) float32; 0 for boxes that do not take part.
            groups: (B, N) int32; boxes of different groups never meet.
        """
        starts = boxes[..., :2]
        ends = ops.maximum(boxes[..., 2:], starts)
        left, taken = scores, ops.zeros_like(scores)
        most = min(self.most, scores.shape[1])
        count = ops.zeros_like(scores[0, 0])
        while ops.logical_and(count < most, ops.reduce_max(left) > 0):
            left, taken = self._round(left, taken, starts, ends, groups)
            count = count + 1.0
        return taken

    def _round(
        self, left: Tensor, taken: Tensor, starts: Tensor, ends: Tensor, groups: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Take the best box of each image that has one left."""
        score, index = ops.topk(left, 1)
        own_starts, own_ends = gather_rows(starts, index), gather_rows(ends, index)
        shared = ops.relu(ops.minimum(ends, own_ends) - ops.maximum(starts, own_starts))
        common = shared[..., 0] * shared[..., 1]
        union = _areas(starts, ends) + _areas(own_starts, own_ends) - common
        factor = self.decay(common / ops.maximum(union, 1e-12), self.iou_threshold, self.sigma)
        meets = ops.equal(groups, gather_rows(groups, index))
        left = ops.select(meets, left * factor, left)
        is_taken = ops.cast(ops.equal(index, _places(left.shape[1])), ms.float32)
        stays = ops.cast(left >= self.min_score, ms.float32) * (1.0 - is_taken)
        return left * stays, taken + score * is_taken


def _areas(starts: Tensor, ends: Tensor) -> Tensor:
    sides = ends - starts
    return sides[..., 0] * sides[..., 1]


def soft_nms_rounds(network: nn.Cell) -> int:
    """Return how many rounds of Soft-NMS a network makes at most, 0 without Soft-NMS.

    Args:
        network: searched with all Cells inside it.
    """
    cells = (cell for _, cell in network.cells_and_names())
    return sum(cell.most for cell in cells if isinstance(cell, SoftNmsRounds))


@ops.constexpr
def _places(number: int) -> Tensor:
    return Tensor(np.arange(number, dtype=np.int32)[None])
