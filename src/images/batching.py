# SPDX-License-Identifier: Apache-2.0
"""Pictures of any size, in any order -> batches of one canvas each, within bounded memory."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from .geometry import ResizeRule
from .ops import InputFormat, InputSettings, preprocess_image

_BATCH_PIXELS = 50_000_000  # of all images that wait for their batch to fill: memory


def batches_of(
    pictures: Iterator[tuple[int, np.ndarray]], config: InputSettings | InputFormat, size: int
) -> Iterator[tuple[list[tuple[int, np.ndarray]], np.ndarray, np.ndarray]]:
    """Images prepared, `size` of one canvas at a time, fewer where they are very large.

    Args:
        pictures: (position, (H, W, 3) uint8 RGB) of each image.
        config: how the network's input is made.
        size: images in a batch.

    Yields:
        the batch's `pictures`; the network's input (size, 3, H, W) float32 of the canvas' height
        and width, and its meta (size, 4) float32. With several canvases, batches do not follow the
        order of `pictures`. A canvas' last batch is filled up with copies, so that one compiled
        graph serves all.
    """
    target = config if isinstance(config, InputFormat) else InputFormat.from_config(config)
    for canvas, batch in _batches_of_one_canvas(pictures, target.rule, size):
        prepared = [preprocess_image(rgb, target, canvas) for _, rgb in batch]
        prepared += prepared[-1:] * (size - len(prepared))
        yield batch, np.stack([p[0] for p in prepared]), np.stack([p[1] for p in prepared])


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
