# SPDX-License-Identifier: Apache-2.0
"""Training targets of the first stage (RPN)."""

from mindspore import Tensor, nn, ops

from .box_ops import BoxCoder, gather_rows, split_coordinates
from .matcher import AnchorOverlaps, Matcher
from .own_canvas import Cells
from .sampling import BalancedSampler, Grids

ANCHOR_FILTERS = ("inside", "centred", "all")


class BboxAssignSample(nn.Cell):
    """Choose anchors to train the RPN on and compute what it should say of them.

    Args:
        matcher: says which anchors are positive and negative.
        sampler: chooses among them.
        coder: what the deltas mean.
        offset: see `box_ops`.
        anchor_filter: which anchors take part. "inside": those wholly inside the valid area
            (Faster R-CNN, section 3.3; the model zoo); "centred": those whose centre is in it;
            "all": even those in the padding (torchvision), of the own canvas if there is one.

    Attributes:
        overlaps: `AnchorOverlaps` or a Cell with the same arguments.
    """

    def __init__(
        self,
        matcher: Matcher,
        sampler: BalancedSampler,
        coder: BoxCoder,
        offset: float,
        anchor_filter: str,
    ) -> None:
        super().__init__()
        if anchor_filter not in ANCHOR_FILTERS:
            raise ValueError(f"anchor filter {anchor_filter!r} is none of {ANCHOR_FILTERS}")
        self.overlaps = AnchorOverlaps(offset, matcher.min_pos_iou)
        self.matcher = matcher
        self.sampler = sampler
        self.coder = coder
        self.offset = offset
        self.anchor_filter = anchor_filter

    def construct(
        self,
        anchors: Tensor,
        height_width: Tensor,
        gt_boxes: Tensor,
        gt_valid: Tensor,
        gt_crowd: Tensor,
        sampling_key: Tensor,
        own: Cells = None,
        grids: Grids | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Choose and compute.

        Args:
            anchors: (A, 4) float32 of all levels.
            height_width: (B, 2) float32, the valid area.
            gt_boxes: (B, G, 4) float32.
            gt_valid, gt_crowd: (B, G) bool, real boxes and crowd regions; padding is neither.
            sampling_key: (B,) int32.
            own: (B, 2) float32, the pictures' own canvases, px; None: the whole input.
            grids: of the levels, see `BalancedSampler`.

        Returns:
            index: (B, T) int32 into the anchors.
            is_object: (B, T) bool, the objectness target.
            chosen: (B, T) bool, False for unused places.
            targets: (B, T, 4) float32 deltas; of use where `is_object`.
        """
        usable = self._usable(anchors, height_width, own)
        overlaps: tuple[Tensor, Tensor, Tensor, Tensor] = self.overlaps(
            anchors, gt_boxes, gt_valid, gt_crowd, usable
        )
        gt_index, positive, negative = self.matcher.decide(*overlaps, usable)
        index, is_object, chosen = self.sampler(positive, negative, sampling_key, grids)

        references = ops.gather(anchors, index, 0)
        own_gt = gather_rows(gt_boxes, gather_rows(gt_index, index))
        is_box = ops.broadcast_to(ops.expand_dims(is_object, -1), own_gt.shape)
        targets = self.coder.encode(references, ops.select(is_box, own_gt, references))
        return index, is_object, chosen, targets

    def _usable(self, anchors: Tensor, height_width: Tensor, own: Cells) -> Tensor:
        """Return (B, A) bool. Image by image: comparing with single numbers keeps no table."""
        is_narrowed = self.anchor_filter in ("inside", "centred") or own is None
        areas = height_width if is_narrowed else own
        corners = split_coordinates(anchors)
        return ops.stack(
            [
                self._usable_in(corners, area[0], area[1], own is not None)
                for area in ops.unstack(areas)
            ]
        )

    def _usable_in(
        self, corners: tuple[Tensor, ...], height: Tensor, width: Tensor, is_own: bool
    ) -> Tensor:
        """Return (A,) bool for one image's area."""
        x1, y1, x2, y2 = corners
        if self.anchor_filter == "inside":
            starts = ops.logical_and(x1 >= 0, y1 >= 0)
            ends = ops.logical_and(x2 <= width - self.offset, y2 <= height - self.offset)
            return ops.logical_and(starts, ends)
        if self.anchor_filter == "centred" or is_own:
            return ops.logical_and(0.5 * (x1 + x2) < width, 0.5 * (y1 + y2) < height)
        return ops.logical_and(x2 >= x1, height > 0)
