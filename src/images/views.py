# SPDX-License-Identifier: Apache-2.0
"""The views of a picture that test-time augmentation looks at: sizes, and mirrored or not."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from .ops import InputFormat, InputSettings, flip_boxes, preprocess_image


class ViewSettings(InputSettings, Protocol):
    """The keys of the configuration that `views_of` takes; see default_config.yaml."""

    test_flip: bool
    test_scales: Sequence[float]


@dataclass(frozen=True)
class View:
    """One way to look at a picture.

    Attributes:
        target: what the network's input looks like in it.
        mirrored: left to right.
    """

    target: InputFormat
    mirrored: bool = False

    def prepare(self, rgb: np.ndarray, canvas: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the network's input and its meta, as `preprocess_image` does.

        Args:
            rgb: (H, W, 3) uint8.
            canvas: number of the canvas.
        """
        return preprocess_image(rgb, self.target, canvas, mirrored=self.mirrored)

    def in_pixels_of(
        self, other: np.ndarray, boxes: np.ndarray, meta: np.ndarray, convention: str
    ) -> np.ndarray:
        """Return what this view's boxes are in an upright view of the same pictures.

        Args:
            other: (B, 4) float32, that view's meta.
            boxes: (B, N, 4) float32 xyxy in network pixels of this view.
            meta: (B, 4) float32 of this view.
            convention: "legacy" or "modern", see `flip_boxes`.

        Returns:
            (B, N, 4) float32 xyxy in network pixels of that view.
        """
        if self.mirrored:
            boxes = np.stack(
                [flip_boxes(one, row[1], convention) for one, row in zip(boxes, meta, strict=True)]
            )
        ratio = other[:, 2:] / meta[:, 2:]  # vertical, horizontal
        return boxes * ratio[:, None, [1, 0, 1, 0]]


def views_of(config: ViewSettings) -> tuple[View, ...]:
    """Return the views that the configuration asks for: of each size one, or two with test_flip.

    The first one is upright. The pictures of a batch share a canvas in all of them: each view's
    canvases are those of the first, larger or smaller.

    Args:
        config: uses the keys of `ViewSettings`.
    """
    usual = InputFormat.from_config(config)
    sizes = [replace(usual, rule=usual.rule.scaled(float(f))) for f in config.test_scales]
    flips = (False, True) if config.test_flip else (False,)
    return tuple(View(size, mirrored) for size in sizes for mirrored in flips)
