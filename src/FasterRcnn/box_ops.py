# SPDX-License-Identifier: Apache-2.0
"""Box arithmetic for batches, in either of the two coordinate conventions.

Boxes are float32 xyxy. `offset` is what a convention adds to `x2 - x1` to get a width: 1 in the
legacy convention (mmdetection 1.x and the MindSpore model zoo count pixels, so a box from 3 to 5 is
3 wide), 0 in the modern one (torchvision, detectron2). It is passed to every function that needs
it; `pixel_offset` turns a convention's name into it.
"""

import math
from collections.abc import Sequence

import numpy as np
from mindspore import Tensor, nn, ops

from .names import BOX_CONVENTIONS, LEGACY

# Deltas of log-size beyond log(1000/16) would make exp() explode on untrained weights; every
# known implementation of R-CNN caps them here.
MAX_LOG_SIZE = math.log(1000.0 / 16)
# In one call of a kernel that computes the pairs of different images too.
_IMAGES_AT_ONCE = 4


def pixel_offset(convention: str) -> float:
    """Return the width offset, 1.0 or 0.0, of a convention of `names.BOX_CONVENTIONS`.

    Args:
        convention: "legacy" or "modern".

    Raises:
        ValueError: there is no such convention.
    """
    if convention not in BOX_CONVENTIONS:
        raise ValueError(f"box convention {convention!r} is none of {', '.join(BOX_CONVENTIONS)}")
    return 1.0 if convention == LEGACY else 0.0


@ops.constexpr
def row_starts(batch: int, length: int) -> Tensor:
    """Return the (batch, 1) int32 index of every row's first element in the flattened batch.

    Args:
        batch: number of rows.
        length: elements of each row.
    """
    return Tensor(np.arange(batch, dtype=np.int32)[:, None] * length)


@ops.constexpr
def _row(values: Sequence[float]) -> Tensor:
    return Tensor(np.array(values, np.float32))


@ops.constexpr
def _own_pairs(batch: int, rows: int) -> Tensor:
    """Return the int32 rows of a (batch * rows, batch) table that pair an image with itself."""
    image, row = np.divmod(np.arange(batch * rows), rows)
    return Tensor(((image * rows + row) * batch + image).astype(np.int32))


def gather_rows(values: Tensor, index: Tensor) -> Tensor:
    """Pick rows image by image.

    Args:
        values: (B, N) or (B, N, D).
        index: (B, K) int32, positions in 0..N-1.

    Returns:
        (B, K) or (B, K, D) of the dtype of `values`.
    """
    batch, length = values.shape[:2]
    flat_index = ops.reshape(index + row_starts(batch, length), (-1,))
    flat = ops.reshape(values, (batch * length,) + values.shape[2:])
    return ops.reshape(ops.gather(flat, flat_index, 0), index.shape + values.shape[2:])


def split_coordinates(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return x1, y1, x2, y2, each of shape (...).

    Args:
        boxes: (..., 4) xyxy.
    """
    # Not by indices: each takes MindSpore 10 ms to compile. Its ONNX exporter knows neither Unstack
    # nor Split with a negative axis.
    flat = ops.Squeeze(-1)
    x1, y1, x2, y2 = ops.Split(boxes.ndim - 1, 4)(boxes)
    return flat(x1), flat(y1), flat(x2), flat(y2)


def split_pairs(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the second half, each of shape (..., N / 2).

    Args:
        values: (..., N), such as heights and widths, or the corners of boxes.
    """
    return ops.Split(values.ndim - 1, 2)(values)


def shrink_to_legacy(boxes: Tensor, offset: float) -> Tensor:
    """Return boxes whose legacy widths are the widths of `boxes` in their own convention.

    MindSpore's IOU kernel always counts pixels (+1). Moving x2 and y2 in by `1 - offset` gives it
    the modern geometry exactly: intersections and areas then come out without the extra pixel.

    Args:
        boxes: (..., 4) float32.
        offset: of the convention of `boxes`; see the module.
    """
    inset = 1.0 - offset
    return boxes - _row((0.0, 0.0, inset, inset))


def as_modern(boxes: Tensor, offset: float) -> Tensor:
    """Return boxes whose modern widths are the widths of `boxes` in their own convention.

    Args:
        boxes: (..., 4) float32.
        offset: of the convention of `boxes`; see the module.
    """
    return boxes + _row((0.0, 0.0, offset, offset)) if offset else boxes


def shared_iou(anchors: Tensor, boxes: Tensor, offset: float, mode: str = "iou") -> Tensor:
    """Overlap of the boxes of every image with anchors that all images share.

    Args:
        anchors: (A, 4).
        boxes: (B, G, 4).
        offset: see the module.
        mode: "iou", or "iof" for intersection over the *anchor's* area.

    Returns:
        (B, G, A) float32.
    """
    batch, count = boxes.shape[:2]
    anchors = shrink_to_legacy(anchors, offset)
    flat = ops.reshape(shrink_to_legacy(boxes, offset), (batch * count, 4))
    if mode == "iof":
        table = ops.transpose(ops.IOU("iof")(flat, anchors), (1, 0))
    else:
        table = ops.IOU("iou")(anchors, flat)
    return ops.reshape(table, (batch, count, anchors.shape[0]))


def batched_iou(candidates: Tensor, boxes: Tensor, offset: float, mode: str = "iou") -> Tensor:
    """Overlap of candidates and boxes of the same image.

    Args:
        candidates: (B, N, 4).
        boxes: (B, G, 4).
        offset, mode: as in `shared_iou`; "iof" divides by the candidate's area.

    Returns:
        (B, G, N) float32.
    """
    parts: tuple[Tensor, ...] = ()
    for start in range(0, boxes.shape[0], _IMAGES_AT_ONCE):
        end = start + _IMAGES_AT_ONCE
        parts += (_own_blocks(candidates[start:end], boxes[start:end], offset, mode),)
    return parts[0] if len(parts) == 1 else ops.concat(parts, 0)


def _own_blocks(candidates: Tensor, boxes: Tensor, offset: float, mode: str) -> Tensor:
    """`batched_iou` of a few images: one kernel call computes the pairs of all of them, of which
    each image's own block is of use."""
    batch, number = candidates.shape[:2]
    count = boxes.shape[1]
    table = shared_iou(ops.reshape(candidates, (batch * number, 4)), boxes, offset, mode)
    blocks = ops.reshape(table, (batch * count * batch, number))
    return ops.reshape(ops.gather(blocks, _own_pairs(batch, count), 0), (batch, count, number))


class BoxCoder(nn.Cell):
    """Turns boxes into deltas relative to reference boxes and back (R-CNN, appendix C).

    Args:
        means, stds: four numbers each; deltas are normalised by them.
        offset: see the module.
    """

    def __init__(self, means: Sequence[float], stds: Sequence[float], offset: float) -> None:
        super().__init__()
        self.means = Tensor(np.array(means, np.float32))
        self.stds = Tensor(np.array(stds, np.float32))
        self.offset = offset

    def encode(self, references: Tensor, boxes: Tensor) -> Tensor:
        """Return the (..., 4) float32 deltas dx, dy, dw, dh that carry `references` to `boxes`.

        All sides must be positive; a caller replaces padding first.

        Args:
            references: (..., 4) float32 xyxy, e.g. anchors or proposals.
            boxes: (..., 4) float32 xyxy, e.g. their ground-truth boxes.
        """
        rx, ry, rw, rh = self._centre_size(references)
        bx, by, bw, bh = self._centre_size(boxes)
        deltas = ops.stack(((bx - rx) / rw, (by - ry) / rh, ops.log(bw / rw), ops.log(bh / rh)), -1)
        return (deltas - self.means) / self.stds

    def decode(self, references: Tensor, deltas: Tensor) -> Tensor:
        """Inverse of `encode`: apply `deltas` to `references` -> boxes (..., 4) float32 xyxy.

        Log-sizes are capped at `MAX_LOG_SIZE`; the legacy family also caps them from below.

        Args:
            references: (..., 4) float32 xyxy.
            deltas: (..., 4) float32: dx, dy, dw, dh.
        """
        rx, ry, rw, rh = self._centre_size(references)
        dx, dy, dw, dh = split_coordinates(deltas * self.stds + self.means)
        cx, cy = rx + dx * rw, ry + dy * rh
        half_w = 0.5 * (rw * ops.exp(self._cap_log_size(dw)) - self.offset)
        half_h = 0.5 * (rh * ops.exp(self._cap_log_size(dh)) - self.offset)
        return ops.stack((cx - half_w, cy - half_h, cx + half_w, cy + half_h), -1)

    def _centre_size(self, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x1, y1, x2, y2 = split_coordinates(boxes)
        return 0.5 * (x1 + x2), 0.5 * (y1 + y2), x2 - x1 + self.offset, y2 - y1 + self.offset

    def _cap_log_size(self, log_size: Tensor) -> Tensor:
        lowest = -MAX_LOG_SIZE if self.offset else -math.inf
        return ops.clamp(log_size, lowest, MAX_LOG_SIZE)


def clip_to(boxes: Tensor, height_width: Tensor) -> Tensor:
    """Clip boxes to their images, in either convention.

    (Legacy coordinates end at size - 1 in mmdetection 1.x, but at the size in MindSpore's own
    decoding, which published checkpoints were trained with.)

    Args:
        boxes: (B, N, 4) float32 xyxy.
        height_width: (B, 2) float32, of each image, px.
    """
    x1, y1, x2, y2 = split_coordinates(boxes)
    max_y, max_x = split_pairs(height_width)
    zero = ops.zeros_like(max_x)
    return ops.stack(
        (
            _between(x1, zero, max_x),
            _between(y1, zero, max_y),
            _between(x2, zero, max_x),
            _between(y2, zero, max_y),
        ),
        -1,
    )


def is_sizeable(
    boxes: Tensor, height_width: Tensor, min_size: float | None, offset: float
) -> Tensor:
    """Tell boxes from what clipping leaves of boxes in the padding.

    Args:
        boxes: (B, N, 4), clipped.
        height_width: (B, 2), what they were clipped to.
        min_size: shortest side, px; None: any box will do, even one that ends before it starts.
        offset: see the module.

    Returns:
        (B, N) bool: some of the box is inside, both sides are positive and at least `min_size`.
    """
    if min_size is None:
        return ops.ones_like(boxes[..., 0]) > 0
    x1, y1, x2, y2 = split_coordinates(boxes)
    shorter = ops.minimum(x2 - x1, y2 - y1) + offset
    height, width = split_pairs(height_width)
    inside = ops.logical_and(x1 < width, y1 < height)
    return ops.logical_and(inside, ops.logical_and(shorter > 0, shorter >= min_size))


def _between(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return ops.maximum(ops.minimum(values, high), low)
