# SPDX-License-Identifier: Apache-2.0
"""Overlaps with the nearest anchor, against those with all anchors of the grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.data_check.overlaps import Anchors, Fit, PlacedBoxes, best_overlaps
from src.FasterRcnn.anchor_generator import pyramid_anchors
from src.FasterRcnn.names import STRIDES, feature_shapes
from src.model_utils.config import load_config


def table_of_overlaps(boxes, anchors):
    start = np.maximum(boxes[:, None, :2], anchors[None, :, :2])
    end = np.minimum(boxes[:, None, 2:], anchors[None, :, 2:])
    inner = np.clip(end - start, 0, None).prod(axis=2)
    areas = [(some[:, 2:] - some[:, :2]).prod(axis=1) for some in (boxes, anchors)]
    return inner / (areas[0][:, None] + areas[1][None] - inner)


def by_the_grid(boxes, extent, canvas, anchors):
    """The best overlap of each box with the anchors that training lets take part."""
    shapes = feature_shapes(*canvas)
    grid = np.concatenate(
        pyramid_anchors(
            shapes, STRIDES, anchors.scales, anchors.ratios, anchors.offset, anchors.rounded
        )
    ).astype(np.float64)
    height, width = extent
    middle = 0.5 * (grid[:, :2] + grid[:, 2:])
    usable = np.ones(len(grid), bool)
    if anchors.which == "inside":
        usable = (grid[:, :2] >= 0).all(axis=1)
        usable &= (grid[:, 2:] <= np.array([width, height]) - anchors.offset).all(axis=1)
    elif anchors.which == "centred":
        usable = (middle + 0.5 * anchors.offset < [width, height]).all(axis=1)
    edges = grid + [0, 0, anchors.offset, anchors.offset]
    if not usable.any():
        return np.zeros(len(boxes))
    return table_of_overlaps(boxes, edges[usable]).max(axis=1)


@settings(max_examples=40, deadline=None)
@given(
    data=st.data(),
    which=st.sampled_from(["inside", "centred", "all"]),
    offset=st.sampled_from([0.0, 1.0]),
    rounded=st.booleans(),
    scales=st.lists(st.floats(1.0, 12.0), min_size=1, max_size=2),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_nearest_anchor_is_the_best_one(data, which, offset, rounded, scales, seed):
    canvas = data.draw(st.sampled_from([(64, 96), (96, 64), (160, 128)]))
    extent = tuple(data.draw(st.integers(20, side)) for side in canvas)
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(0, 1, (6, 2, 2)), axis=1) * extent[::-1]
    boxes = np.concatenate([corners[:, 0], corners[:, 1] + 0.5], axis=1)
    anchors = Anchors(tuple(scales), (0.5, 1.0, 2.0), which, offset, rounded)
    placed = PlacedBoxes(boxes, np.tile(extent, (6, 1)), np.tile(canvas, (6, 1)))
    expected = by_the_grid(boxes, extent, canvas, anchors)
    np.testing.assert_allclose(best_overlaps(placed, anchors), expected, atol=1e-6)


def test_anchors_come_from_the_configuration():
    config = load_config([]).replace(
        anchor_scales=[6], anchor_filter="centred", box_convention="modern"
    )
    anchors = Anchors.from_config(config)
    assert anchors == Anchors((6.0,), (0.5, 1.0, 2.0), "centred", 0.0, True)
    assert anchors.fitted(scales=[4.0]).scales == (4.0,)


def test_shares_of_overlaps():
    fit = Fit.of(np.array([0.2, 0.5, 0.6, 0.71]))
    assert (fit.good, fit.fair) == (0.25, 0.5)
    assert fit.mean == pytest.approx(0.5025)
    assert Fit.of(np.zeros(0)) == Fit(0.0, 0.0, 0.0)
