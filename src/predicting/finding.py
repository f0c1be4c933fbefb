# SPDX-License-Identifier: Apache-2.0
"""Pictures through a detector in batches, whole or in overlapping tiles.

A tile is a picture of its own: it goes onto the canvas that fits it, and test-time augmentation
looks at it in all its views. The number of tiles differs from picture to picture, so they are no
views themselves, whose number is part of the compiled graph.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..images.batching import NetworkInput, batches_of
from ..images.geometry import Size
from ..images.overlaps import IOS
from ..images.tiles import tiles_of
from ..images.views import View
from ..inference import Found
from .merging import merged

Numbered = tuple[int, np.ndarray]  # number, (H, W, 3) uint8 RGB


class BatchDetector(Protocol):
    """What finds objects; a `Detector`."""

    views: Sequence[View]

    def detect_inputs(self, inputs: Sequence[NetworkInput]) -> list[Found]:
        """See `Detector.detect_inputs`."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """How large pictures are cut into tiles, and what is found in them put together.

    Attributes:
        size: height and width of a tile, pixels; None: as large as the largest canvas takes without
            scaling.
        overlap: share of a tile's side that the next one has too.
        match, threshold: see `merged`.
        per_class: boxes of different classes leave each other alone.
        whole: the whole picture is looked at besides, for objects that no tile holds.
    """

    size: Size | None = None
    overlap: float = 0.2
    match: str = IOS
    threshold: float = 0.5
    per_class: bool = True
    whole: bool = True


class Finder:
    """Finds objects in pictures of any size.

    Args:
        detector: looks at batches.
        size: pictures in a batch.
        tiling: cuts pictures that are larger than a tile; None: they stay whole.
    """

    def __init__(self, detector: BatchDetector, size: int, tiling: Tiling | None = None) -> None:
        self._detector, self._size, self._tiling = detector, size, tiling

    def find(self, pictures: Iterator[Numbered]) -> Iterator[tuple[int, np.ndarray, Found]]:
        """Yield number, pixels and what was found, best first, of each picture.

        Without tiles, pictures of several canvases come in another order than they went in.

        Args:
            pictures: number and pixels of each; held in bounded memory.
        """
        if self._tiling is None:
            yield from self._find_whole(pictures)
            return
        for number, rgb in pictures:
            yield number, rgb, self._find_in_tiles(rgb, self._tiling)
            del rgb  # large pictures go before the next ones come

    def _find_whole(self, pictures: Iterator[Numbered]) -> Iterator[tuple[int, np.ndarray, Found]]:
        for batch, inputs in batches_of(pictures, self._detector.views, self._size):
            # The batch may be filled up with copies.
            for (number, rgb), found in zip(
                batch, self._detector.detect_inputs(inputs), strict=False
            ):
                yield number, rgb, found
                del rgb
            batch.clear()

    def _find_in_tiles(self, rgb: np.ndarray, tiling: Tiling) -> Found:
        height, width = rgb.shape[:2]
        size = tiling.size or _unscaled(self._detector.views[0])
        tiles = tiles_of(height, width, size, tiling.overlap)
        windows = [rgb[tile.part] for tile in tiles]
        if len(tiles) > 1 and tiling.whole:
            windows.append(rgb)
        corners = np.zeros((len(windows), 4), np.float32)
        corners[: len(tiles)] = [(tile.left, tile.top) * 2 for tile in tiles]
        parts = [
            found._replace(boxes=found.boxes + corners[number])
            for number, _, found in self._find_whole(iter(enumerate(windows)))
        ]
        if len(parts) == 1:
            return parts[0]
        return merged(
            parts, match=tiling.match, threshold=tiling.threshold, per_class=tiling.per_class
        )


def _unscaled(view: View) -> Size:
    """The largest picture that enters the network at its own scale."""
    rule = view.target.rule
    canvas = rule.canvases.index(rule.largest)
    return rule.size_on(canvas, *rule.largest)
