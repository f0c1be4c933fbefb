# SPDX-License-Identifier: Apache-2.0
"""Pictures cut into overlapping tiles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.base.errors import UserError
from src.images.tiles import MOST_OVERLAP, parse_tile, tiles_of

SIDES = st.integers(1, 400)  # few enough tiles of the smallest size


@given(SIDES, SIDES, st.tuples(st.integers(32, 400), st.integers(32, 400)), st.floats(0, 0.9))
def test_every_pixel_is_in_a_tile_and_neighbours_overlap(height, width, size, overlap):
    tiles = tiles_of(height, width, size, overlap)
    covered = np.zeros((height, width), bool)
    for tile in tiles:
        part = covered[tile.part]
        assert part.shape == (min(size[0], height), min(size[1], width))
        part[:] = True
    assert covered.all()
    assert len(set(tiles)) == len(tiles)
    for starts, side in (({t.left for t in tiles}, size[1]), ({t.top for t in tiles}, size[0])):
        steps = np.diff(sorted(starts))
        assert (steps <= side - int(side * overlap)).all()


def test_the_scheme_is_sahis():
    """As `sahi.slicing.get_slice_bboxes(800, 1200, 512, 512, overlap 0.2)` gives them."""
    tiles = tiles_of(800, 1200, (512, 512), 0.2)
    corners = [(t.left, t.top, t.left + t.width, t.top + t.height) for t in tiles]
    lefts, tops = (0, 410, 688), (0, 288)
    assert corners == [(x, y, x + 512, y + 512) for y in tops for x in lefts]


@pytest.mark.parametrize(
    "text, size", [("640", (640, 640)), ("768x1280", (768, 1280)), ("32", (32, 32))]
)
def test_sizes(text, size):
    assert parse_tile(text) == size


@pytest.mark.parametrize("text", ["", "x", "31", "640x", "64.0", "-64", "640x20", "a", "1x2x3"])
def test_sizes_that_are_none(text):
    with pytest.raises(ValueError, match="is no size|is smaller than 32"):
        parse_tile(text)


def test_too_many_tiles_are_refused():
    with pytest.raises(UserError, match="make --tile larger or --tile_overlap smaller"):
        tiles_of(10_000, 10_000, (32, 32), MOST_OVERLAP)
