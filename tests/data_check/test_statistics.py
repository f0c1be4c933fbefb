# SPDX-License-Identifier: Apache-2.0
"""Numbers of a split, canvases and schedules that follow from them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.data.records import ImageRecord
from src.data_check.canvas import BUDGETS, canvas_keys
from src.data_check.schedule import schedule
from src.data_check.statistics import (
    BoxTable,
    boxes_a_picture,
    canvas_fill,
    count_classes,
    orientation_shares,
    size_shares,
    weighted_quantile,
)
from src.images.geometry import ResizeRule, parse_canvas


def record(boxes, labels, crowd=None):
    boxes, labels = np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int32)
    crowd = np.zeros(len(labels), bool) if crowd is None else np.array(crowd)
    return ImageRecord(1, "a.jpg", "/a.jpg", boxes, labels, crowd)


def table():
    """Two pictures, of 100x200 and 50x50; a crowd region and three objects."""
    records = [
        record(
            [[0, 0, 20, 20], [0, 0, 200, 100], [50, 0, 150, 100]], [1, 1, 2], [False, True, False]
        ),
        record([[10, 10, 20, 30]], [1]),
    ]
    return BoxTable.of(records, np.array([[100, 200], [50, 50]]))


def test_classes_are_counted_without_crowd_regions():
    found = table()
    placed = found.placed(ResizeRule("canvas", ((128, 256),)))
    # The first picture grows by 1.28, the second by 2.56.
    np.testing.assert_allclose(placed.sides, [[25.6, 25.6], [128, 128], [25.6, 51.2]], rtol=1e-6)
    assert count_classes(found, placed, ("cat", "dog", "owl")) == [
        ("cat", 2, 2, (0.5, 0.5, 0.0)),
        ("dog", 1, 1, (0.0, 0.0, 1.0)),
        ("owl", 0, 0, (0.0, 0.0, 0.0)),
    ]
    np.testing.assert_allclose(placed.extents, [[128, 256], [128, 256], [128, 128]])
    weights = found.class_weights()
    assert weights.mean() == pytest.approx(1.0) and weights[1] == pytest.approx(
        weights[0] * math.sqrt(2)
    )


def test_an_empty_split_has_numbers():
    nothing = BoxTable.of([], np.zeros((0, 2), np.int64))
    rule = ResizeRule("canvas", ((64, 64),))
    assert len(nothing) == len(nothing.placed(rule)) == 0
    assert canvas_fill(rule, nothing.sizes) == 1.0
    assert boxes_a_picture(np.zeros(0, int), 5).most == 0
    assert size_shares(np.zeros(0)) == orientation_shares(nothing.sizes) == (0.0, 0.0, 0.0)


def test_boxes_beyond_num_gts():
    found = boxes_a_picture(np.array([1, 2, 9, 12]), 8)
    assert (found.mean, found.most, found.lost, found.pictures) == (6.0, 12, 5, 2)


def test_shares():
    assert size_shares(np.array([1023.0, 1024.0, 9215.0, 9216.0])) == (0.25, 0.5, 0.25)
    sizes = np.array([[100, 200], [200, 100], [100, 102], [300, 400]])
    assert orientation_shares(sizes) == (0.5, 0.25, 0.25)
    assert canvas_fill(ResizeRule("canvas", ((64, 128),)), np.array([[50, 50]])) == 0.5


def test_a_weighted_quantile_is_one_of_repeated_values():
    values, weights = np.array([3.0, 1.0, 2.0]), np.array([1.0, 2.0, 5.0])
    repeated = np.repeat(values, weights.astype(int))
    for share in (0.1, 0.25, 0.3, 0.8, 0.95, 1.0):
        expected = np.quantile(repeated, share, method="inverted_cdf")
        assert weighted_quantile(values, weights, share) == expected


@settings(max_examples=40, deadline=None)
@given(
    side=st.floats(4, 200),
    height=st.integers(60, 3000),
    aspect=st.floats(0.4, 2.5),
    turned=st.booleans(),
    on_cpu=st.booleans(),
)
def test_canvases_fit_the_pictures(side, height, aspect, turned, on_cpu):
    size = (height, max(int(height * aspect), 50))
    sizes = np.array([size, size[::-1] if turned else size])
    box = [0, 0, min(side, size[1]), min(side, size[0])]
    found = BoxTable.of([record([box], [1]), record([box], [1])], sizes)
    keys = canvas_keys(found, on_cpu=on_cpu)
    canvases = [parse_canvas(text) for text in keys["canvases"]]
    canvases = canvases or [(keys["img_height"], keys["img_width"])]
    assert len(canvases) == (2 if turned and abs(size[0] - size[1]) > 64 else len(canvases))
    for rows, columns in canvases:
        assert rows % 32 == columns % 32 == 0
        # The shorter side has a least length, whatever the budget says.
        assert rows * columns <= 1.6 * max(BUDGETS[on_cpu].pixels, 224 * 224 * 2.6)
    rule = ResizeRule("canvas", tuple(canvases))
    assert canvas_fill(rule, sizes) > 0.6


@pytest.mark.parametrize(
    "images, pixels, on_cpu, pretrained, expected",
    [
        (292, 256 * 320, True, False, (4, 0.0004, 6, 73)),  # configs/bccd.yaml
        (118_000, 768 * 1280, False, True, (2, 0.005, 12, 59_000)),  # the defaults
        (10, 768 * 1280, False, False, (1, 0.0001, 300, 10)),
        (3, 64 * 64, True, False, (1, 0.0001, 144, 3)),
    ],
)
def test_schedules(images, pixels, on_cpu, pretrained, expected):
    plan = schedule(images, pixels, on_cpu=on_cpu, pretrained=pretrained)
    assert (plan.batch, plan.rate, plan.epochs, plan.steps) == expected
    assert 0 < plan.warmup <= plan.epochs * plan.steps / 2
    assert schedule(images, pixels, on_cpu=on_cpu, pretrained=pretrained, batch=3).batch == 3
