# SPDX-License-Identifier: Apache-2.0
"""From RPN outputs to proposals (Faster R-CNN, section 3.3; FPN, section 4.1)."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from .box_ops import BoxCoder, clip_to, gather_rows, is_sizeable
from .own_canvas import LOWEST


class Proposal(nn.Cell):
    """The best anchors of every level, moved by their deltas, thinned by NMS.

    Args:
        coder: `BoxCoder`.
        nms: an NMS Cell of `nms.py`.
        offset: see `box_ops`.
        nms_pre: anchors a level that go on by their score.
        nms_post: boxes a level that may be left after NMS.
        max_num: boxes an image over all levels.
        min_size: shorter boxes go, px; None: no box goes (see `is_sizeable`).
    """

    def __init__(
        self,
        coder: BoxCoder,
        nms: nn.Cell,
        offset: float,
        *,
        nms_pre: int,
        nms_post: int,
        max_num: int,
        min_size: float | None,
    ) -> None:
        super().__init__()
        self.coder = coder
        self.nms = nms
        self.offset = offset
        self.nms_pre = nms_pre
        self.nms_post = nms_post
        self.max_num = max_num
        self.min_size = min_size

    def construct(
        self,
        logits: tuple[Tensor, ...],
        deltas: tuple[Tensor, ...],
        anchors: tuple[Tensor, ...],
        height_width: Tensor,
        extent: int,
    ) -> tuple[Tensor, Tensor]:
        """Propose.

        Args:
            logits: (B, A_l) of each level.
            deltas: (B, A_l, 4) of each level.
            anchors: (A_l, 4) of each level.
            height_width: (B, 2), what boxes are clipped to.
            extent: the longer side of the network's input, px.

        Returns:
            proposals: (B, N, 4) float32, best first; N is max_num or, if there are fewer
                candidates in all, their number.
            valid: (B, N) bool.
        """
        scores, order, counts = self._best_of_levels(logits)
        order = order + _starts(counts, tuple([level.shape[1] for level in logits]))
        # All levels at once: every operator is compiled for itself.
        boxes = self.coder.decode(
            ops.gather(ops.concat(anchors, 0), order, 0), gather_rows(ops.concat(deltas, 1), order)
        )
        boxes = clip_to(boxes, height_width)
        sizeable = is_sizeable(boxes, height_width, self.min_size, self.offset)
        keep = self.nms(boxes, sizeable, extent, parts=counts)
        scores = ops.select(keep, scores, ops.fill(ms.float32, scores.shape, LOWEST))
        if self.nms_post < max(counts):  # not by CumSum, which the ONNX exporter lacks
            scores, order = self._left_of_levels(scores, counts)
            boxes = gather_rows(boxes, order)
        scores, order = ops.TopK()(scores, min(self.max_num, scores.shape[1]))
        return ops.stop_gradient(gather_rows(boxes, order)), ops.stop_gradient(scores > LOWEST)

    def _best_of_levels(self, logits: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        """Return the best logits (B, K), their positions in their levels, and the levels' K."""
        scores: tuple[Tensor, ...] = ()
        orders: tuple[Tensor, ...] = ()
        counts: tuple[int, ...] = ()
        for level in logits:
            count = min(self.nms_pre, level.shape[1])
            best, order = ops.TopK()(level, count)
            scores += (best,)
            orders += (order,)
            counts += (count,)
        return ops.concat(scores, 1), ops.concat(orders, 1), counts

    def _left_of_levels(self, scores: Tensor, counts: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return each level's `nms_post` best scores (B, N), and their positions among all."""
        batch, start = scores.shape[0], 0
        levels: tuple[Tensor, ...] = ()
        for count in counts:
            levels += (ops.Slice()(scores, (0, start), (batch, count)),)
            start += count
        best: tuple[Tensor, ...] = ()
        orders: tuple[Tensor, ...] = ()
        left: tuple[int, ...] = ()
        for level, count in zip(levels, counts):
            kept, order = ops.TopK()(level, min(self.nms_post, count))
            best += (kept,)
            orders += (order,)
            left += (min(self.nms_post, count),)
        return ops.concat(best, 1), ops.concat(orders, 1) + _starts(left, counts)


@ops.constexpr
def _starts(counts: tuple[int, ...], sizes: tuple[int, ...]) -> Tensor:
    """Return (1, sum of counts) int32: what is added to positions in levels of these sizes."""
    starts = np.cumsum((0,) + tuple(sizes[:-1]))
    return Tensor(np.repeat(starts, counts).astype(np.int32)[None])
