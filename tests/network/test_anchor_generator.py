# SPDX-License-Identifier: Apache-2.0
"""Anchors against numbers worked out by hand: sides 32/sqrt(r) and 32*sqrt(r) at stride 4."""

import numpy as np
import pytest

from src.FasterRcnn.anchor_generator import AnchorGenerator, pyramid_anchors
from src.FasterRcnn.names import feature_shapes

RATIOS = (0.5, 1.0, 2.0)
LEGACY = [[-21, -9, 24, 12], [-14, -14, 17, 17], [-9, -21, 12, 24]]
MODERN = [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]


@pytest.mark.parametrize("offset, expected", [(1.0, LEGACY), (0.0, MODERN)])
def test_base_anchors_of_the_finest_level(offset, expected):
    base = AnchorGenerator(4, (8,), RATIOS, offset).base_anchors
    assert base.dtype == np.float32
    np.testing.assert_array_equal(base, expected)


@pytest.mark.parametrize(
    "offset, expected", [(1.0, [-224, -224, 287, 287]), (0.0, [-256, -256, 256, 256])]
)
def test_square_anchor_of_the_coarsest_level(offset, expected):
    base = AnchorGenerator(64, (8,), (1.0,), offset).base_anchors
    np.testing.assert_array_equal(base, [expected])


@pytest.mark.parametrize("offset", [1.0, 0.0])
def test_without_rounding_sides_and_centre_are_exact(offset):
    base = AnchorGenerator(4, (8,), RATIOS, offset, rounded=False).base_anchors
    width, height = base[:, 2] - base[:, 0] + offset, base[:, 3] - base[:, 1] + offset
    np.testing.assert_allclose(width * height, 32.0**2, rtol=1e-5)
    np.testing.assert_allclose(height / width, RATIOS, rtol=1e-5)
    np.testing.assert_allclose(base[:, :2] + base[:, 2:], 3.0 if offset else 0.0, atol=1e-5)


def test_ratios_are_the_outer_loop_and_scales_the_inner_one():
    base = AnchorGenerator(16, (2, 4), (1.0, 4.0), 0.0).base_anchors
    sides = [(b[2] - b[0], b[3] - b[1]) for b in base]
    assert sides == [(32, 32), (64, 64), (16, 64), (32, 128)]


def test_grid_goes_row_by_row_with_the_anchor_last():
    generator = AnchorGenerator(8, (4,), RATIOS, 1.0)
    grid = generator.grid(2, 3)
    assert grid.shape == (2 * 3 * 3, 4) and grid.dtype == np.float32
    for row in range(2):
        for column in range(3):
            shift = np.array([column * 8, row * 8, column * 8, row * 8])
            cell = row * 3 + column
            np.testing.assert_array_equal(
                grid[cell * 3 : cell * 3 + 3], generator.base_anchors + shift
            )


@pytest.mark.parametrize(
    "size, expected",
    [
        ((64, 96), [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]),
        ((128, 128), [(32, 32), (16, 16), (8, 8), (4, 4), (2, 2)]),
        ((224, 32), [(56, 8), (28, 4), (14, 2), (7, 1), (4, 1)]),
    ],
)
def test_feature_shapes_round_up_where_64_does_not_divide(size, expected):
    assert list(feature_shapes(*size, (4, 8, 16, 32, 64))) == expected


def test_pyramid_has_a_part_for_every_level():
    strides = (4, 8)
    levels = pyramid_anchors([(2, 2), (1, 1)], strides, (8,), RATIOS, 0.0)
    assert [level.shape for level in levels] == [(12, 4), (3, 4)]
    np.testing.assert_array_equal(levels[1], AnchorGenerator(8, (8,), RATIOS, 0.0).grid(1, 1))
    with pytest.raises(ValueError):
        pyramid_anchors([(2, 2)], strides, (8,), RATIOS, 0.0)


def test_rounding_can_be_left_out_of_the_pyramid():
    rounded = pyramid_anchors([(1, 1)], (4,), (8,), RATIOS, 1.0)[0]
    exact = pyramid_anchors([(1, 1)], (4,), (8,), RATIOS, 1.0, False)[0]
    np.testing.assert_array_equal(rounded, np.round(exact))
    assert (rounded != exact).any()
