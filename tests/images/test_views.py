# SPDX-License-Identifier: Apache-2.0
"""Views of test-time augmentation: which there are, and boxes that follow the pixels."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.images.geometry import ResizeRule
from src.images.ops import InputFormat
from src.images.views import View, views_of
from src.model_utils.config import load_config

RULE = ResizeRule("short_edge", ((32, 64), (64, 32)), (30,), 60, "torchvision")


def test_without_the_keys_there_is_one_view():
    config = load_config([])
    assert views_of(config) == (View(InputFormat.from_config(config)),)


def test_each_size_is_seen_in_both_ways():
    given = ["--test_flip", "True", "--test_scales", "[1.25, 1.0]", "--resize", "short_edge"]
    config = load_config(given)
    views = views_of(config)
    assert [view.mirrored for view in views] == [False, True] * 2
    large, usual = views[0].target.rule, views[2].target.rule
    assert (large.min_sizes, large.max_size) == ((1000,), 1666)
    assert large.canvases == ((1024, 1696), (1696, 1024))
    assert usual == ResizeRule.from_config(config) and views[1].target.rule == large


@settings(max_examples=200)
@given(st.floats(0.1, 4), st.integers(1, 3000), st.integers(1, 3000))
def test_a_scaled_rule_has_room_on_the_same_canvas(factor, height, width):
    scaled, canvas = RULE.scaled(factor), RULE.canvas_of(height, width)
    assert len(scaled.canvases) == 2
    assert all(side % 32 == 0 for size in scaled.canvases for side in size)
    usual, larger = (rule.size_on(canvas, height, width) for rule in (RULE, scaled))
    for side, new in zip(usual, larger, strict=True):
        if side > 20:
            assert abs(new - side * factor) < 2 + 0.05 * side * factor
    rows, columns = scaled.canvases[canvas]
    assert larger[0] <= rows and larger[1] <= columns


@pytest.mark.parametrize("convention", ["modern", "legacy"])
@pytest.mark.parametrize("factor", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("height, width", [(40, 61), (61, 40)])
def test_boxes_follow_the_pixels(convention, factor, height, width):
    """A white patch is in its box in every view, and the box comes back."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[10:30, 4:14] = 255
    last = 1 if convention == "legacy" else 0
    box = np.array([4, 10, 14 - last, 30 - last], np.float32)
    upright = View(InputFormat(RULE, (0, 0, 0), (1, 1, 1)))
    canvas = RULE.canvas_of(height, width)
    _, meta = upright.prepare(rgb, canvas)
    expected = box * meta[[3, 2, 3, 2]]
    for mirrored in (False, True):
        target = replace(upright.target, rule=RULE.scaled(factor))
        view = View(target, mirrored)
        image, own_meta = view.prepare(rgb, canvas)
        white = np.argwhere(image[0] > 127)
        (top, left), (bottom, right) = white.min(0), white.max(0) + 1 - last
        seen = np.array([[left, top, right, bottom]], np.float32)
        boxes = view.in_pixels_of(meta[None], seen[None], own_meta[None], convention)
        assert np.abs(boxes[0, 0] - expected).max() < 1.6 / min(factor, 1)
