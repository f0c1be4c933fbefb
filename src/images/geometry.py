# SPDX-License-Identifier: Apache-2.0
"""How large a picture enters the network, and on which canvas.

A canvas is an input shape of the network; there are few of them, since each compiles a graph. The
resize rule says at which scale a picture enters; it goes onto the smallest canvas that holds it so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..FasterRcnn.names import MULTIPLE

Size = tuple[int, int]  # height, width, pixels

CANVAS, SHORT_EDGE, STRETCH = "canvas", "short_edge", "stretch"
OPENCV, TORCHVISION, DETECTRON2 = "opencv", "torchvision", "detectron2"


class ResizeSettings(Protocol):
    """The keys of the configuration that `ResizeRule` takes; see default_config.yaml."""

    resize: str
    resize_like: str
    keep_ratio: bool
    img_height: int
    img_width: int
    min_size: Sequence[int]
    max_size: int
    canvases: Sequence[str]


_KEYS = tuple(ResizeSettings.__annotations__)


def parse_canvas(text: str) -> Size:
    """Return (height, width) of a canvas as the configuration writes it.

    Args:
        text: e.g. "800x1344".

    Raises:
        ValueError: it is no such text.
    """
    height, _, width = text.partition("x")
    if not (height.isascii() and height.isdigit() and width.isascii() and width.isdigit()):
        raise ValueError("is not HEIGHTxWIDTH, such as 800x1344")
    return int(height), int(width)


def canvas_text(size: Size) -> str:
    """Return a canvas as the configuration and file names write it.

    Args:
        size: of the canvas.
    """
    return f"{size[0]}x{size[1]}"


@dataclass(frozen=True)
class ResizeRule:
    """At which scale a picture enters the network, and on which canvas.

    Attributes:
        kind: "canvas": as large as a canvas holds it; "short_edge": the shorter side becomes a
            `min_sizes`, or less, where the longer one would exceed `max_size`; "stretch": to the
            canvas, without keeping the aspect ratio.
        canvases: the network's input shapes.
        min_sizes: that training draws from; everything else takes the largest.
        max_size: of the longer side.
        like: whose arithmetic of sizes and pixels: "opencv" (mmdetection's), "torchvision" or
            "detectron2"; see `resizing.resize`.
    """

    kind: str
    canvases: tuple[Size, ...]
    min_sizes: tuple[int, ...] = (800,)
    max_size: int = 1333
    like: str = OPENCV

    @classmethod
    def from_config(cls, config: ResizeSettings) -> "ResizeRule":
        """Take the rule from the configuration.

        Args:
            config: uses the keys of `ResizeSettings`.
        """
        return cls.from_values({key: getattr(config, key) for key in _KEYS})

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "ResizeRule":
        """Take the rule from a configuration's values.

        Args:
            values: by the keys of `ResizeSettings`.
        """
        kind = values["resize"]
        if kind == "auto":
            kind = CANVAS if values["keep_ratio"] else STRETCH
        min_sizes = tuple(int(size) for size in values["min_size"])
        max_size = int(values["max_size"])
        canvases = tuple(parse_canvas(text) for text in values["canvases"])
        if not canvases and kind == SHORT_EDGE:
            canvases = _canvases_of(max(min_sizes), max_size)
        elif not canvases:
            canvases = ((int(values["img_height"]), int(values["img_width"])),)
        return cls(kind, canvases, min_sizes, max_size, values["resize_like"])

    @property
    def largest(self) -> Size:
        """The canvas of the most pixels."""
        return max(self.canvases, key=_area)

    def canvas_of(self, height: int, width: int) -> int:
        """Return the number of the canvas that a picture goes onto.

        That is the smallest one that holds it at its scale, or the one that it is largest on.

        Args:
            height, width: of the picture.
        """
        if len(self.canvases) == 1:
            return 0
        if self.kind == STRETCH:
            return min(range(len(self.canvases)), key=lambda i: self._distortion(i, height, width))
        scales = [self.scale_on(i, height, width) for i in range(len(self.canvases))]
        best = max(scales)
        held = [i for i, scale in enumerate(scales) if scale >= best * (1 - 1e-9)]
        return min(held, key=lambda i: _area(self.canvases[i]))

    def scale_on(self, canvas: int, height: int, width: int) -> float:
        """Return network pixels per picture pixel with the largest of `min_sizes`.

        Args:
            canvas: its number.
            height, width: of the picture.
        """
        rows, columns = self.canvases[canvas]
        new_height, new_width = self.size_on(canvas, height, width)
        if self.kind == SHORT_EDGE:  # of the sizes alone, in which rounding may hide a difference
            wanted = self._short_edge(height, width, max(self.min_sizes))
            if wanted[0] <= rows and wanted[1] <= columns:
                return max(wanted) / max(height, width)
        return min(rows / height, columns / width, max(new_height, new_width) / max(height, width))

    def size_on(self, canvas: int, height: int, width: int, min_size: int | None = None) -> Size:
        """Return the size of a picture on a canvas; it is made smaller than its rule says to fit.

        Args:
            canvas: its number.
            height, width: of the picture.
            min_size: the shorter side's size for "short_edge"; the largest of `min_sizes` if None.
        """
        rows, columns = self.canvases[canvas]
        if self.kind == STRETCH:
            return rows, columns
        if self.kind == SHORT_EDGE:
            wanted = self._short_edge(height, width, min_size or max(self.min_sizes))
            if wanted[0] <= rows and wanted[1] <= columns:
                return wanted
        return fit(height, width, rows, columns)

    def scaled(self, factor: float) -> "ResizeRule":
        """Return the rule of pictures that are larger or smaller than by this one.

        Args:
            factor: of all sizes. Canvases grow to the next multiple of 32 and keep their numbers.
        """
        if factor == 1.0:
            return self
        canvases = tuple(
            (_up_to_multiple(height * factor), _up_to_multiple(width * factor))
            for height, width in self.canvases
        )
        sizes = tuple(max(round(size * factor), 1) for size in self.min_sizes)
        return replace(
            self, canvases=canvases, min_sizes=sizes, max_size=max(round(self.max_size * factor), 1)
        )

    def _short_edge(self, height: int, width: int, min_size: int) -> Size:
        return short_edge_size(height, width, min_size, self.max_size, self.like)

    def _distortion(self, canvas: int, height: int, width: int) -> tuple[float, int]:
        """How much stretching changes the aspect ratio; the smaller of two equal ones is better."""
        rows, columns = self.canvases[canvas]
        return abs(math.log(rows / columns * width / height)), rows * columns


def fit(height: int, width: int, rows: int, columns: int) -> Size:
    """Return the size of a picture that is as large as a canvas holds it.

    Args:
        height, width: of the picture.
        rows, columns: of the canvas.
    """
    scale = min(rows / height, columns / width)
    return (
        min(max(int(height * scale + 0.5), 1), rows),
        min(max(int(width * scale + 0.5), 1), columns),
    )


def short_edge_size(height: int, width: int, min_size: int, max_size: int, like: str) -> Size:
    """Return the size of a picture by the rule of the shorter side, as each program rounds it.

    torchvision rounds down. detectron2 and mmdetection round to the nearest; detectron2 scales
    twice where the longer side is limited, which can end a pixel away. The same float64 operations
    in the same order give the same sizes. (Older releases of torchvision compute the scale in
    float32, which can make a side a pixel shorter.)

    Args:
        height, width: of the picture.
        min_size: of the shorter side.
        max_size: the most of the longer side.
        like: whose rounding, see `ResizeRule`.
    """
    if like == DETECTRON2:
        sides = _scaled_twice(height, width, min_size, max_size)
    else:
        scale = min(min_size / min(height, width), max_size / max(height, width))
        sides = height * scale, width * scale
    half = 0.0 if like == TORCHVISION else 0.5
    rows, columns = (max(int(side + half), 1) for side in sides)
    return rows, columns


def _scaled_twice(height: int, width: int, min_size: int, max_size: int) -> tuple[float, float]:
    """By the shorter side first, then down where the longer one is above its limit."""
    scale = min_size / min(height, width)
    rows, columns = (
        (float(min_size), scale * width) if height < width else (scale * height, float(min_size))
    )
    if max(rows, columns) > max_size:
        scale = max_size / max(rows, columns)
        rows, columns = rows * scale, columns * scale
    return rows, columns


def _canvases_of(min_size: int, max_size: int) -> tuple[Size, ...]:
    """A canvas for landscape pictures and one for portrait pictures of the shorter side's rule."""
    short, long = map(_up_to_multiple, (min_size, max_size))
    if short >= long:
        return ((long, long),)
    return ((short, long), (long, short))


def _up_to_multiple(size: float) -> int:
    return math.ceil(size / MULTIPLE) * MULTIPLE


def _area(size: Size) -> int:
    return size[0] * size[1]
