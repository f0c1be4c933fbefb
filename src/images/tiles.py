# SPDX-License-Identifier: Apache-2.0
"""Large pictures cut into overlapping tiles, so that small objects stay large enough to be found.

The scheme is SAHI's (Akyon et al., 2022): tiles of one size, each moved by its size less the
overlap; the last ones of a row and of a column are moved back until they end with the picture.
"""

from dataclasses import dataclass

from ..base.errors import UserError
from .geometry import Size, parse_canvas

SMALLEST_TILE = 32  # pixels
MOST_OVERLAP = 0.9
MOST_TILES = 10_000  # of a picture


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a picture: its left upper corner and its size, pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def part(self) -> tuple[slice, slice]:
        """Rows and columns of an array (H, W, ...)."""
        return (slice(self.top, self.top + self.height), slice(self.left, self.left + self.width))


def parse_tile(text: str) -> Size:
    """Return (height, width) of tiles as the command line gives them.

    Args:
        text: "640" for squares, or HEIGHTxWIDTH such as "768x1280".

    Raises:
        ValueError: it is no such text, or smaller than `SMALLEST_TILE`.
    """
    try:
        size = parse_canvas(text if "x" in text else f"{text}x{text}")
    except ValueError:
        raise ValueError("is no size such as 640, nor HEIGHTxWIDTH such as 768x1280") from None
    if min(size) < SMALLEST_TILE:
        raise ValueError(f"is smaller than {SMALLEST_TILE} pixels")
    return size


def tiles_of(height: int, width: int, size: Size, overlap: float) -> list[Tile]:
    """Cut a picture into tiles.

    Args:
        height, width: of the picture, pixels.
        size: height and width of a tile; the picture's where that is smaller.
        overlap: share of a tile's side that the next one has too, 0 to `MOST_OVERLAP`.

    Returns:
        The tiles, row by row. Every pixel is in one.

    Raises:
        UserError: they would be more than `MOST_TILES`.

    >>> [tile.left for tile in tiles_of(100, 250, (100, 100), 0.2)]
    [0, 80, 150]
    """
    rows, columns = (
        _starts(side, of_tile, overlap) for side, of_tile in zip((height, width), size, strict=True)
    )
    if len(rows) * len(columns) > MOST_TILES:
        raise UserError(
            f"a picture of {width}x{height} pixels would be {len(rows) * len(columns)} tiles, more "
            f"than {MOST_TILES}; make --tile larger or --tile_overlap smaller"
        )
    tile = min(size[0], height), min(size[1], width)
    return [Tile(top, left, *tile) for top in rows for left in columns]


def _starts(side: int, tile: int, overlap: float) -> range | list[int]:
    """Where tiles start along a side; the last one is moved back so that it ends with the side."""
    if tile >= side:
        return [0]
    step = max(1, tile - int(tile * overlap))
    last = side - tile
    return [*range(0, last, step), last]
