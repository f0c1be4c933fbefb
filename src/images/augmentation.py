# SPDX-License-Identifier: Apache-2.0
"""Pictures that are moved together with their boxes.

Every move gives a new picture. Boxes that reach beyond it are clipped by those moves that cut
something off, and remember which share of them is still to be seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .geometry import Size
from .ops import (
    LEGACY,
    clip_boxes,
    distort_colours,
    expand_image,
    flip_boxes,
    resize_image,
    scale_boxes,
)

_TRIES = 50  # for a window that keeps a box, as in SSD
_SMALLEST_WINDOW = 0.3  # of the picture's sides
_FLATTEST_WINDOW = 2.0  # longer side by shorter side


@dataclass(frozen=True)
class LabelledPicture:
    """A picture with its boxes.

    Attributes:
        rgb: (H, W, 3) uint8.
        boxes: (N, 4) float32 xyxy in its pixels.
        labels: (N,) int32; 0 marks the dummy box of a picture without any.
        crowd: (N,) bool.
        convention: "legacy" or "modern", of the boxes.
        visible: (N,) float64, the share of each box that is still in the picture.
        scale: vertical and horizontal, its pixels per pixel of the file's picture.
    """

    rgb: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    convention: str
    visible: np.ndarray
    scale: tuple[float, float] = (1.0, 1.0)

    @property
    def size(self) -> Size:
        """Height and width."""
        return self.rgb.shape[0], self.rgb.shape[1]

    def coloured(self, rng: np.random.Generator) -> "LabelledPicture":
        """Change brightness, contrast, saturation and hue; see `distort_colours`.

        Args:
            rng: gives the random values.
        """
        return replace(self, rgb=distort_colours(self.rgb, rng))

    def expanded(
        self, ratio: float, top: int, left: int, fill: Sequence[float]
    ) -> "LabelledPicture":
        """Put it on a larger canvas; see `expand_image`.

        Args:
            ratio: of the sides.
            top, left: where it starts.
            fill: red, green and blue of the canvas.
        """
        rgb = expand_image(self.rgb, ratio, top, left, fill)
        return replace(self, rgb=rgb, boxes=self.boxes + _offset(top, left))

    def cropped(self, top: int, left: int, height: int, width: int) -> "LabelledPicture":
        """Keep a window of it, and of the boxes what is in there.

        Args:
            top, left, height, width: of the window, pixels; inside the picture.
        """
        rgb = self.rgb[top : top + height, left : left + width]
        return replace(self, rgb=rgb, boxes=self.boxes - _offset(top, left)).clipped()

    def clipped(self) -> "LabelledPicture":
        """Clip the boxes to the picture."""
        boxes, _ = clip_boxes(self.boxes, *self.size, self.convention)
        whole, left = self.areas(), self.areas(within=self.size)
        share = np.divide(left, whole, out=np.zeros_like(whole), where=whole > 0)
        return replace(self, boxes=boxes, visible=self.visible * share)

    def areas(self, within: Size | None = None) -> np.ndarray:
        """Return the boxes' areas, (N,) float64, square pixels.

        Args:
            within: height and width of a part at the top left that alone counts.
        """
        # Not of clipped boxes: in the legacy convention one that lies outside would keep a pixel.
        first = self.boxes[:, :2].astype(np.float64)
        end = self.boxes[:, 2:] + float(self.convention == LEGACY)
        if within is not None:
            first, end = np.maximum(first, 0), np.minimum(end, within[::-1])
        sides: np.ndarray = np.maximum(end - first, 0)
        return sides.prod(axis=1)

    def resized(self, size: Size, like: str) -> "LabelledPicture":
        """Resize it; see `resize_image`.

        Args:
            size: height and width that it gets.
            like: whose arithmetic.
        """
        rgb, meta = resize_image(self.rgb, size, like)
        down, across = float(meta[2]), float(meta[3])
        boxes = scale_boxes(self.boxes, meta[2], meta[3])
        return replace(
            self, rgb=rgb, boxes=boxes, scale=(self.scale[0] * down, self.scale[1] * across)
        )

    def flipped(self) -> "LabelledPicture":
        """Mirror it left to right."""
        boxes = flip_boxes(self.boxes, self.size[1], self.convention)
        return replace(self, rgb=self.rgb[:, ::-1], boxes=boxes)

    def flipped_vertically(self) -> "LabelledPicture":
        """Turn it upside down."""
        turned = flip_boxes(self.boxes[:, [1, 0, 3, 2]], self.size[0], self.convention)
        return replace(self, rgb=self.rgb[::-1], boxes=turned[:, [1, 0, 3, 2]])

    def kept(self, min_visible: float) -> "LabelledPicture":
        """Leave the boxes out that are none any more, and the dummy ones.

        Args:
            min_visible: smallest share of a box that has to be in the picture; of a crowd region
                any is enough.
        """
        _, keep = clip_boxes(self.boxes, *self.size, self.convention)
        keep &= (self.visible >= min_visible) | self.crowd
        keep &= (self.visible > 0) & (self.labels > 0)
        return replace(
            self,
            boxes=self.boxes[keep],
            labels=self.labels[keep],
            crowd=self.crowd[keep],
            visible=self.visible[keep],
        )


def labelled(
    rgb: np.ndarray, boxes: np.ndarray, labels: np.ndarray, crowd: np.ndarray, convention: str
) -> LabelledPicture:
    """Return a picture as its file has it.

    Args:
        rgb: (H, W, 3) uint8.
        boxes: (N, 4) float32 xyxy in its pixels.
        labels: (N,) int32.
        crowd: (N,) int32 or bool.
        convention: "legacy" or "modern".
    """
    return LabelledPicture(rgb, boxes, labels, crowd.astype(bool), convention, np.ones(len(labels)))


def crop_keeping_a_box(
    picture: LabelledPicture,
    min_ious: Sequence[float],
    min_visible: float,
    rng: np.random.Generator,
) -> LabelledPicture:
    """Crop a random window that overlaps a box by a random least IoU, as SSD does.

    Sides of 0.3 to 1 of the picture's, at most twice as long as high or the other way round. The
    picture stays as it is when it has no box, or no window was found. Crowd regions do not count.

    Args:
        picture: to crop.
        min_ious: least overlaps, of which one is drawn.
        min_visible: the share of that box that has to be in the window.
        rng: gives the random values.
    """
    height, width = picture.size
    least = min_ious[rng.integers(len(min_ious))]
    objects = (picture.labels > 0) & ~picture.crowd
    for _ in range(_TRIES):
        rows, columns = rng.uniform(_SMALLEST_WINDOW, 1.0, 2) * (height, width)
        rows, columns = max(int(rows), 1), max(int(columns), 1)
        top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
        if max(rows, columns) > _FLATTEST_WINDOW * min(rows, columns) or not objects.any():
            continue
        window = picture.cropped(int(top), int(left), rows, columns)
        share = window.visible / np.maximum(picture.visible, 1e-9)
        inside = share * picture.areas()
        overlap = inside / (picture.areas() + rows * columns - inside)
        if (objects & (overlap >= least) & (share >= min_visible)).any():
            return window
    return picture


def crop_to(picture: LabelledPicture, canvas: Size, rng: np.random.Generator) -> LabelledPicture:
    """Crop what does not fit onto a canvas, at a random place.

    Args:
        picture: to crop.
        canvas: the most that it may have, height and width.
        rng: gives the random values; of each side one.
    """
    height, width = (min(own, most) for own, most in zip(picture.size, canvas, strict=True))
    top = int(rng.integers(picture.size[0] - height + 1))
    left = int(rng.integers(picture.size[1] - width + 1))
    return picture.cropped(top, left, height, width)


def _offset(top: int, left: int) -> np.ndarray:
    return np.array([left, top, left, top], np.float32)
