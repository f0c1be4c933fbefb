# SPDX-License-Identifier: Apache-2.0
"""Anchors that are fitted to boxes."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.data_check.anchor_fit import Score, fit_anchors, kmeans_shapes, shape_overlaps
from src.data_check.overlaps import Anchors, Fit, PlacedBoxes, best_overlaps

PRESENT = Anchors((8.0,), (0.5, 1.0, 2.0), "centred")


def placed_boxes(sides, seed=0, canvas=(512, 512)):
    """Boxes of (N, 2) width and height somewhere on a canvas."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 1, sides.shape) * (np.array(canvas[::-1]) - sides)
    boxes = np.concatenate([start, start + sides], axis=1)
    whole = np.tile(canvas, (len(boxes), 1))
    return PlacedBoxes(boxes, whole.astype(float), whole)


def test_overlaps_of_shapes():
    sides, shapes = np.array([[10.0, 20.0]]), np.array([[10.0, 10.0], [20.0, 10.0], [10.0, 20.0]])
    np.testing.assert_allclose(shape_overlaps(sides, shapes), [[0.5, 1 / 3, 1.0]])


def test_kmeans_finds_the_shapes_that_boxes_were_made_of():
    rng = np.random.default_rng(3)
    true = np.array([[12.0, 12.0], [60.0, 25.0], [40.0, 110.0]])
    sides = np.repeat(true, [50, 200, 100], axis=0) * rng.uniform(0.95, 1.05, (350, 2))
    shapes = kmeans_shapes(sides, np.ones(350), 3)
    np.testing.assert_allclose(shapes.sides, true, rtol=0.03)
    np.testing.assert_allclose(shapes.shares, np.array([50, 200, 100]) / 350)
    assert shapes.mean > 0.93


def test_kmeans_of_fewer_shapes_than_clusters():
    shapes = kmeans_shapes(np.array([[8.0, 8.0], [8.0, 8.0]]), np.ones(2), 5)
    assert shapes.sides.tolist() == [[8.0, 8.0]] and shapes.mean == pytest.approx(1.0)


@settings(max_examples=8, deadline=None)
@given(
    scale=st.floats(2.0, 3.9),
    stretch=st.floats(0.7, 1.4),
    seed=st.integers(0, 1000),
    count=st.integers(1, 2),
)
def test_fitted_anchors_are_no_worse_and_as_many(scale, stretch, seed, count):
    rng = np.random.default_rng(seed)
    sizes = scale * rng.choice([4, 8, 16], 60)[:, None] * rng.uniform(0.9, 1.1, (60, 2))
    placed = placed_boxes(sizes * [1.0, stretch], seed)
    found = fit_anchors(placed, np.ones(60), PRESENT, count)
    assert (len(found.scales), len(found.ratios), found.which) == (count, 3, "centred")
    score = Score(placed, np.ones(60))
    assert score(found) >= score(PRESENT) - 0.01
    assert list(found.scales) == sorted(found.scales) and min(found.scales) >= 1.0


def test_boxes_of_one_shape_are_met():
    placed = placed_boxes(np.tile([50.0, 50.0], (200, 1)))
    found = fit_anchors(placed, np.ones(200), PRESENT, 1)
    assert Fit.of(best_overlaps(placed, PRESENT)).good < 0.5
    assert Fit.of(best_overlaps(placed, found)).good > 0.95


def test_blood_cells_get_anchors_as_good_as_those_set_by_hand(bccd_root):
    content = json.loads((bccd_root / "annotations" / "instances_train2017.json").read_text())
    box = np.array([annotation["bbox"] for annotation in content["annotations"]]) / 2
    boxes = np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], axis=1)
    extents = np.tile([240.0, 320.0], (len(boxes), 1))
    placed = PlacedBoxes(boxes, extents, np.tile([256, 320], (len(boxes), 1)))
    by_hand = Fit.of(best_overlaps(placed, PRESENT.fitted(scales=[6.0])))
    found = Fit.of(best_overlaps(placed, fit_anchors(placed, np.ones(len(boxes)), PRESENT, 1)))
    usual = Fit.of(best_overlaps(placed, PRESENT))
    assert found.good >= by_hand.good > usual.good + 0.3
    assert found.fair >= by_hand.fair - 0.01
