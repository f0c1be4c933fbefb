# SPDX-License-Identifier: Apache-2.0
"""Greedy non-maximum suppression for a whole batch at once."""

import math
from collections.abc import Callable

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from .box_ops import row_starts, split_coordinates, split_pairs

NMS_KINDS = ("kernel", "matrix")
# Of one call of the kernel, which compares all pairs, of different images too: two images of the
# usual 2000. More would take longer, fewer would make more graph to compile.
_MOST_BOXES = 4_000


def build_nms(kind: str, iou_threshold: float) -> nn.Cell:
    """Return the NMS Cell of a `kind` (see `KernelNms`, `MatrixNms`).

    Args:
        kind: of `NMS_KINDS`.
        iou_threshold: a box that overlaps a better one by more than this goes.

    Raises:
        ValueError: there is no such kind.
    """
    if kind == "kernel":
        return KernelNms(iou_threshold)
    if kind == "matrix":
        return MatrixNms(iou_threshold)
    raise ValueError(f"NMS kind {kind!r} is none of {', '.join(NMS_KINDS)}")


class HardNms(nn.Cell):
    """What NMS drops gets the score 0; the others keep theirs.

    Args:
        nms: `KernelNms` or `MatrixNms`.
        per_class: whether boxes of different classes leave each other alone.
    """

    def __init__(self, nms: nn.Cell, per_class: bool) -> None:
        super().__init__()
        self.nms = nms
        self.per_class = per_class

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
            boxes: (B, N, 4) float32, best first.
            scores: (B, N) float32.
            valid: (B, N) bool; other boxes neither stay nor suppress.
            extent: upper bound of the coordinates, px.
            classes: (B, N) int32 below `num_classes`.
            num_classes: how many there are.

        Returns:
            (B, N) float32, the new scores.
        """
        if self.per_class:
            keep = self.nms(boxes, valid, extent, classes, num_classes)
        else:
            keep = self.nms(boxes, valid, extent)
        return ops.select(keep, scores, ops.zeros_like(scores))


# By their names in configurations: what makes one of an NMS Cell.
SUPPRESSIONS: dict[str, Callable[[nn.Cell], nn.Cell]] = {
    "per_class": lambda nms: HardNms(nms, per_class=True),
    "agnostic": lambda nms: HardNms(nms, per_class=False),
}


def build_suppression(kind: str, nms: nn.Cell) -> nn.Cell:
    """Return how detections suppress each other: a Cell with the arguments of `HardNms`.

    Args:
        kind: a key of `SUPPRESSIONS`.
        nms: of `build_nms`, with the threshold for detections.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in SUPPRESSIONS:
        raise ValueError(f"suppression {kind!r} is none of {', '.join(SUPPRESSIONS)}")
    return SUPPRESSIONS[kind](nms)


class KernelNms(nn.Cell):
    """Calls of MindSpore's NMSWithMask, each for all groups of a few images.

    Boxes of different groups (image, class) are moved to cells of their own on a square grid, so
    that they never overlap. The grid keeps coordinates small: float32 then resolves 1e-3 px for 80
    classes, 1e-2 px for 1000. The kernel measures IoU without the extra pixel in either
    convention, as the model zoo's does.

    Args:
        iou_threshold: a box that overlaps a better one by more than this goes.
    """

    def __init__(self, iou_threshold: float) -> None:
        super().__init__()
        self.iou_threshold = iou_threshold
        self.kernel = ops.NMSWithMask(iou_threshold)
        self.own = None  # on a CPU, a Cell of ours that computes the same

    def construct(
        self,
        boxes: Tensor,
        valid: Tensor,
        extent: int,
        groups: Tensor | None = None,
        num_groups: int = 1,
        parts: tuple[int, ...] = (),
    ) -> Tensor:
        """Suppress.

        Args:
            boxes: (B, N, 4) float32, best first, between 0 and `extent`.
            valid: (B, N) bool; other boxes neither stay nor suppress.
            extent: upper bound of the coordinates, px.
            groups: (B, N) int32 below `num_groups`, or None: boxes of different groups never meet.
            num_groups: how many groups an image can have.
            parts: so many boxes each, N together, that never meet those of other parts; best first
                are then those of a part. (): one part.

        Returns:
            (B, N) bool: the boxes to keep.
        """
        batch, number = valid.shape
        parts = parts or (number,)
        if self.own is not None:
            return self.own(boxes, valid, groups, _counts(parts))
        images = max(1, _MOST_BOXES // max(parts))
        if images >= batch:
            return self._suppress(boxes, valid, extent + 1.0, groups, num_groups, parts)
        kept: tuple[Tensor, ...] = ()
        for start in range(0, batch, images):
            own = None if groups is None else groups[start : start + images]
            kept += (
                self._suppress(
                    boxes[start : start + images],
                    valid[start : start + images],
                    extent + 1.0,
                    own,
                    num_groups,
                    parts,
                ),
            )
        return ops.concat(kept, 0)

    def _suppress(
        self,
        boxes: Tensor,
        valid: Tensor,
        cell: float,
        groups: Tensor | None,
        num_groups: int,
        parts: tuple[int, ...],
    ) -> Tensor:
        batch, number = valid.shape
        boxes = ops.select(_to_boxes(valid), _without_negative_sides(boxes), ops.zeros_like(boxes))
        spread = boxes + _grid_shift(batch, groups, num_groups, cell)
        # Rank-major order: the made-up scores then fall from row to row, so that the kernel's
        # own sorting leaves every row where it is.
        ranked = ops.reshape(ops.transpose(spread, (1, 0, 2)), (number * batch, 4))
        ranked = ops.concat((ranked, _falling_scores(number * batch)), 1)
        kept: tuple[Tensor, ...] = ()
        start = 0
        for count in parts:
            rows = ops.Slice()(ranked, (start * batch, 0), (count * batch, 5))
            kept += (self.kernel(rows)[2],)
            start += count
        keep = kept[0] if len(kept) == 1 else ops.concat(kept, 0)
        keep = ops.transpose(ops.reshape(keep, (number, batch)), (1, 0))
        return ops.logical_and(keep, valid)


class MatrixNms(nn.Cell):
    """The same result from (B, N, N) overlaps in float32.

    For devices whose kernel works in float16, where the grid of `KernelNms` would not resolve a
    pixel. A box stays if no better box that stays overlaps it: iterating this rule from "all
    stay" settles the first k boxes after k rounds, in practice all of them after a dozen.

    Args:
        iou_threshold: a box that overlaps a better one by more than this goes.
    """

    def __init__(self, iou_threshold: float) -> None:
        super().__init__()
        self.iou_threshold = iou_threshold

    def construct(
        self,
        boxes: Tensor,
        valid: Tensor,
        extent: int,
        groups: Tensor | None = None,
        num_groups: int = 1,
        parts: tuple[int, ...] = (),
    ) -> Tensor:
        """Suppress, with the result of `KernelNms.construct`.

        Args:
            boxes, valid, groups, parts: as there.
            extent, num_groups: of no use here.
        """
        if len(parts) <= 1:
            return self._suppress(boxes, valid, groups)
        kept: tuple[Tensor, ...] = ()
        start = 0
        for count in parts:
            end = start + count
            own = None if groups is None else groups[:, start:end]
            kept += (self._suppress(boxes[:, start:end], valid[:, start:end], own),)
            start = end
        return ops.concat(kept, 1)

    def _suppress(self, boxes: Tensor, valid: Tensor, groups: Tensor | None) -> Tensor:
        suppresses = self._suppression(boxes, groups)
        candidates = ops.cast(valid, ms.float32)
        keep = candidates
        before = ops.zeros_like(candidates)
        while ops.reduce_sum(ops.abs(keep - before)) > 0:
            before = keep
            hits = ops.squeeze(ops.bmm(suppresses, ops.expand_dims(keep, -1)), -1)
            keep = candidates * ops.cast(hits < 0.5, ms.float32)
        return keep > 0.5

    def _suppression(self, boxes: Tensor, groups: Tensor | None) -> Tensor:
        """Return (B, N, N) float32: 1 where the column's box is better and overlaps the row's."""
        x1, y1, x2, y2 = split_coordinates(_without_negative_sides(boxes))
        width = ops.relu(_pairs(ops.minimum, x2) - _pairs(ops.maximum, x1))
        height = ops.relu(_pairs(ops.minimum, y2) - _pairs(ops.maximum, y1))
        overlap = width * height
        area = (x2 - x1) * (y2 - y1)
        union = _pairs(ops.add, area) - overlap
        hit = ops.logical_and(overlap > self.iou_threshold * union, _is_better(boxes.shape[1]))
        if groups is not None:
            hit = ops.logical_and(hit, _pairs(ops.equal, groups))
        return ops.cast(hit, ms.float32)


def _without_negative_sides(boxes: Tensor) -> Tensor:
    """Let boxes that end before they start be empty where they start: they overlap nothing.

    (The kernel does the same with them, but an exported one may swap their corners.)
    """
    start, end = split_pairs(boxes)
    return ops.concat((start, ops.maximum(end, start)), -1)


def _pairs(operation: Callable[[Tensor, Tensor], Tensor], values: Tensor) -> Tensor:
    return operation(ops.expand_dims(values, 2), ops.expand_dims(values, 1))


def _to_boxes(mask: Tensor) -> Tensor:
    return ops.broadcast_to(ops.expand_dims(mask, -1), mask.shape + (4,))


def _grid_shift(batch: int, groups: Tensor | None, num_groups: int, cell: float) -> Tensor:
    """Return (B, 1 or N, 4) float32: where each box's group lies on the grid."""
    side = math.ceil(math.sqrt(batch * num_groups))
    if groups is None:
        return _image_shift(batch, side, cell)
    # Looked up: runtimes may compute floats in 8 or 11 bits, but leave integers alone.
    number = groups + row_starts(batch, num_groups)
    return ops.gather(_cells(batch * num_groups, side, cell), number, 0)


@ops.constexpr
def _image_shift(batch: int, side: int, cell: float) -> Tensor:
    return Tensor(_grid(batch, side, cell)[:, None])


@ops.constexpr
def _cells(count: int, side: int, cell: float) -> Tensor:
    return Tensor(_grid(count, side, cell))


def _grid(count: int, side: int, cell: float) -> np.ndarray:
    """Return (count, 4) float32: what moves a box into each cell of a grid of `side` columns."""
    row, column = np.divmod(np.arange(count), side)
    return np.stack([column, row, column, row], -1).astype(np.float32) * np.float32(cell)


@ops.constexpr
def _counts(parts: tuple[int, ...]) -> Tensor:
    return Tensor(np.array(parts, np.int32))


@ops.constexpr
def _falling_scores(count: int) -> Tensor:
    return Tensor(-np.arange(count, dtype=np.float32)[:, None])


@ops.constexpr
def _is_better(number: int) -> Tensor:
    return Tensor(np.tril(np.ones((1, number, number), np.bool_), -1))
