# SPDX-License-Identifier: Apache-2.0
"""Pictures of any size, in any order -> batches of one canvas each, within bounded memory."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from .geometry import ResizeRule
from .views import View

# Of one view: image (B, 3, H, W) float32 of a canvas' height and width, and meta (B, 4) float32.
NetworkInput = tuple[np.ndarray, np.ndarray]
_BATCH_PIXELS = 50_000_000  # of all images that wait for their batch to fill: memory


def batches_of(
    pictures: Iterator[tuple[int, np.ndarray]], views: Sequence[View], size: int
) -> Iterator[tuple[list[tuple[int, np.ndarray]], list[NetworkInput]]]:
    """Images prepared, `size` of one canvas at a time, fewer where they are very large.

    Args:
        pictures: (position, (H, W, 3) uint8 RGB) of each image.
        views: of `views_of`; the first one's rule chooses the canvas.
        size: images in a batch.

    Yields:
        the batch's `pictures`, and the network's input in each view. With several canvases, batches
        do not follow the order of `pictures`. A canvas' last batch is filled up with copies, so
        that one compiled graph serves all.
    """
    for canvas, batch in _batches_of_one_canvas(pictures, views[0].target.rule, size):
        yield batch, stacked([prepared(rgb, views, canvas) for _, rgb in batch], size)


def prepared(rgb: np.ndarray, views: Sequence[View], canvas: int) -> list[NetworkInput]:
    """Return one picture as the network sees it in each view: (3, H, W) float32, (4,) float32.

    Args:
        rgb: (H, W, 3) uint8.
        views: of `views_of`.
        canvas: number of the canvas.
    """
    return [view.prepare(rgb, canvas) for view in views]


def stacked(pictures: Sequence[Sequence[NetworkInput]], size: int) -> list[NetworkInput]:
    """Make a batch of pictures of one canvas, filled up with copies of the last one.

    Args:
        pictures: of `prepared`, 1 to `size` of them.
        size: images in the batch.

    Returns:
        (size, 3, H, W) float32 and (size, 4) float32 in each view.
    """
    filled = [*pictures, *[pictures[-1]] * (size - len(pictures))]
    return [
        (np.stack([image for image, _ in of_view]), np.stack([meta for _, meta in of_view]))
        for of_view in zip(*filled, strict=True)
    ]


def _batches_of_one_canvas(
    pictures: Iterator[tuple[int, np.ndarray]], rule: ResizeRule, size: int
) -> Iterator[tuple[int, list[tuple[int, np.ndarray]]]]:
    """Yield a canvas' number and up to `size` pictures; those that wait are bounded in memory."""
    waiting: dict[int, list[tuple[int, np.ndarray]]] = defaultdict(list)

    def pixels_of(canvas: int) -> int:
        return sum(rgb.shape[0] * rgb.shape[1] for _, rgb in waiting[canvas])

    for position, rgb in pictures:
        canvas = rule.canvas_of(*rgb.shape[:2])
        waiting[canvas].append((position, rgb))
        del rgb  # large pictures go before the next ones come
        if len(waiting[canvas]) >= size:
            yield canvas, waiting.pop(canvas)
        elif sum(map(pixels_of, waiting)) >= _BATCH_PIXELS:
            largest = max(waiting, key=pixels_of)
            yield largest, waiting.pop(largest)
    while waiting:
        yield waiting.popitem()
