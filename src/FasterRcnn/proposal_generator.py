# SPDX-License-Identifier: Apache-2.0
"""From RPN outputs to proposals (Faster R-CNN, section 3.3; FPN, section 4.1)."""

import mindspore as ms
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
        level_boxes: tuple[Tensor, ...] = ()
        level_scores: tuple[Tensor, ...] = ()
        for level_logits, level_deltas, level_anchors in zip(logits, deltas, anchors):
            boxes, scores = self._of_level(
                level_logits, level_deltas, level_anchors, height_width, extent
            )
            level_boxes += (boxes,)
            level_scores += (scores,)
        boxes, scores = ops.concat(level_boxes, 1), ops.concat(level_scores, 1)
        scores, order = ops.topk(scores, min(self.max_num, scores.shape[1]))
        return ops.stop_gradient(gather_rows(boxes, order)), ops.stop_gradient(scores > LOWEST)

    def _of_level(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, height_width: Tensor, extent: int
    ) -> tuple[Tensor, Tensor]:
        """Return boxes (B, K, 4) and scores (B, K), `LOWEST` for those that went."""
        scores, order = ops.topk(logits, min(self.nms_pre, logits.shape[1]))
        boxes = self.coder.decode(ops.gather(anchors, order, 0), gather_rows(deltas, order))
        boxes = clip_to(boxes, height_width)
        sizeable = is_sizeable(boxes, height_width, self.min_size, self.offset)
        keep = self.nms(boxes, sizeable, extent)
        scores = ops.select(keep, scores, ops.fill(ms.float32, scores.shape, LOWEST))
        if self.nms_post < scores.shape[1]:  # not by CumSum, which the ONNX exporter lacks
            scores, order = ops.topk(scores, self.nms_post)
            boxes = gather_rows(boxes, order)
        return boxes, scores
