# SPDX-License-Identifier: Apache-2.0
"""From the bytes of a picture to what is in it: decoding, batches of fixed size, the network."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..base.errors import UserError
from ..images.batching import NetworkInput, prepared, stacked
from ..images.geometry import canvas_text
from ..images.headers import ImageProblem, read_header
from ..images.reading import decode_image
from ..images.views import View
from ..inference import Found
from .batcher import Batcher

_DECODERS = 2  # pictures that are decoded at once: each takes 7 bytes a pixel
_NAME = "upload"  # what a picture is called in errors; what its sender calls it plays no part


class TooLargeError(UserError):
    """A picture with too many pixels."""


class ServedDetector(Protocol):
    """What finds objects; a `Detector`."""

    views: Sequence[View]
    class_names: tuple[str, ...]

    def detect_inputs(self, inputs: Sequence[NetworkInput]) -> list[Found]:
        """See `Detector.detect_inputs`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found in a picture of `height` and `width` pixels, as a viewer shows it."""

    height: int
    width: int
    found: Found


@dataclass(frozen=True, slots=True)
class _Prepared:
    canvas: int
    inputs: list[NetworkInput]
    height: int
    width: int


class Engine:
    """Looks at pictures, several at a time.

    One thread runs the network, always on batches of one size: each canvas has one graph, compiled
    before the first picture comes.

    Args:
        detector: finds objects.
        size: pictures in a batch; what is missing is filled up with copies.
        max_pixels: larger pictures are refused by their header.
    """

    def __init__(self, detector: ServedDetector, size: int, max_pixels: int) -> None:
        self.class_names = detector.class_names
        self.size, self.max_pixels = size, max_pixels
        self._detector = detector
        self._rule = detector.views[0].target.rule
        self._decoders = ThreadPoolExecutor(_DECODERS, thread_name_prefix="decoder")
        self._batcher = Batcher[_Prepared, Found](self._detect, size)
        self.batches = self.pictures = 0  # that were looked at

    @property
    def canvases(self) -> list[str]:
        """The input shapes of the network, as the configuration writes them."""
        return [canvas_text(canvas) for canvas in self._rule.canvases]

    @property
    def is_alive(self) -> bool:
        """Whether pictures are looked at."""
        return self._batcher.is_alive

    def compile(self) -> None:
        """Run the network once on each canvas, which compiles its graphs; takes seconds to minutes.

        Raises:
            Exception: whatever the network raises.
        """
        for canvas, size in enumerate(self._rule.canvases):
            black = np.zeros((*size, 3), np.uint8)
            inputs = prepared(black, self._detector.views, canvas)
            self._batcher.submit(_Prepared(canvas, inputs, *size), canvas).result()
        self.batches = self.pictures = 0

    async def detect(self, data: bytes) -> Answer:
        """Find the objects in a picture; when cancelled, the picture leaves its queue.

        Args:
            data: an image file's bytes.

        Raises:
            TooLargeError: it has too many pixels, by its header.
            UserError: it is no picture, damaged, or cut off.
        """
        loop = asyncio.get_running_loop()
        one = await loop.run_in_executor(self._decoders, self._prepare, data)
        found = await asyncio.wrap_future(self._batcher.submit(one, one.canvas))
        return Answer(one.height, one.width, found)

    def close(self) -> None:
        """End the threads; pictures that wait get no answer."""
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._batcher.close(wait=10.0)

    def _prepare(self, data: bytes) -> _Prepared:
        try:
            header = read_header(data)
        except ImageProblem as problem:
            raise UserError(f"the picture cannot be read: {problem}") from None
        if header.pixels > self.max_pixels:
            raise TooLargeError(
                f"the picture has {header.width}x{header.height} pixels, more than "
                f"{self.max_pixels} in all"
            )
        rgb = decode_image(data, _NAME, self.max_pixels)
        height, width = rgb.shape[:2]
        canvas = self._rule.canvas_of(height, width)
        return _Prepared(canvas, prepared(rgb, self._detector.views, canvas), height, width)

    def _detect(self, batch: Sequence[_Prepared]) -> list[Found]:
        inputs = stacked([one.inputs for one in batch], self.size)
        found = self._detector.detect_inputs(inputs)[: len(batch)]
        self.batches += 1
        self.pictures += len(batch)
        return found
