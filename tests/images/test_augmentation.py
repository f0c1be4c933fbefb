# SPDX-License-Identifier: Apache-2.0
"""Boxes follow pixels through every move of a picture, and through all of them together."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.data.train_sample import STEPS, Augmentation, Draws, Place, augment
from src.images.augmentation import crop_keeping_a_box, crop_to, labelled
from src.images.geometry import ResizeRule
from src.images.ops import InputFormat

CORNERS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]  # of a box, from the top left


def marked(height, width, box, convention):
    """A grey picture with the box' four quarters in four colours, and the box."""
    rgb = np.full((height, width, 3), 128, np.uint8)
    x1, y1, x2, y2 = box
    x, y = (x1 + x2) // 2, (y1 + y2) // 2
    for colour, rows, columns in zip(
        CORNERS,
        (slice(y1, y), slice(y1, y), slice(y, y2), slice(y, y2)),
        (slice(x1, x), slice(x, x2), slice(x1, x), slice(x, x2)),
        strict=True,
    ):
        rgb[rows, columns] = colour
    last = int(convention == "legacy")
    boxes = np.array([[x1, y1, x2 - last, y2 - last]], np.float32)
    return labelled(rgb, boxes, np.ones(1, np.int32), np.zeros(1, np.int32), convention)


def extent(picture, colours=CORNERS):
    """xyxy, edges, of the pixels of these colours; None where there are none."""
    pixels = picture.rgb.astype(int)
    near = np.zeros(pixels.shape[:2], bool)
    for colour in colours:
        near |= np.abs(pixels - colour).max(axis=2) < 100
    if not near.any():
        return None
    ys, xs = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    return np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1])


def assert_follows(picture, tolerance):
    """The coloured pixels are where the box says."""
    found = extent(picture)
    last = int(picture.convention == "legacy")
    for box in picture.boxes:
        edges = box + [0, 0, last, last]
        np.testing.assert_allclose(found, edges, atol=tolerance)


boxes = st.tuples(
    st.integers(0, 60), st.integers(0, 40), st.integers(16, 40), st.integers(16, 40)
).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
conventions = st.sampled_from(["modern", "legacy"])


@given(boxes, conventions)
def test_flips(box, convention):
    picture = marked(80, 100, box, convention)
    for moved, order in (
        (picture.flipped(), [1, 0, 3, 2]),
        (picture.flipped_vertically(), [2, 3, 0, 1]),
        (picture.flipped().flipped_vertically(), [3, 2, 1, 0]),
        (picture.flipped().flipped(), [0, 1, 2, 3]),
    ):
        assert_follows(moved, 0.001)
        x1, y1, _, _ = extent(moved)
        assert tuple(moved.rgb[y1, x1]) == CORNERS[order[0]]
        assert moved.visible == 1 and moved.size == picture.size


@given(boxes, conventions, st.data())
def test_windows(box, convention, data):
    picture = marked(80, 100, box, convention)
    top, left = data.draw(st.integers(0, 60)), data.draw(st.integers(0, 70))
    height, width = data.draw(st.integers(1, 80 - top)), data.draw(st.integers(1, 100 - left))
    window = picture.cropped(top, left, height, width)
    assert window.size == (height, width)
    found = extent(window)
    whole = (box[2] - box[0]) * (box[3] - box[1])
    if found is None:
        assert window.visible[0] == pytest.approx(0, abs=1e-6)
        assert not len(window.kept(1e-6).boxes)
        return
    assert_follows(window, 0.001)
    area = (found[2] - found[0]) * (found[3] - found[1])
    assert window.visible[0] == pytest.approx(area / whole)
    kept = window.kept(0.5)
    assert len(kept.boxes) == (window.visible[0] >= 0.5)


@given(boxes, st.integers(40, 200), st.integers(40, 200))
def test_resizing(box, height, width):
    picture = marked(80, 100, box, "modern").resized((height, width), "opencv")
    assert picture.size == (height, width)
    assert picture.scale == pytest.approx((height / 80, width / 100))
    assert_follows(picture, 2.5)


@given(boxes, conventions, st.integers(0, 2**32))
def test_expanding_and_cropping_to_a_canvas(box, convention, seed):
    rng = np.random.default_rng(seed)
    grown = marked(80, 100, box, convention).expanded(1.5, 11, 7, (128, 128, 128))
    assert grown.size == (120, 150)
    assert_follows(grown, 0.001)
    cut = crop_to(grown, (64, 200), rng)
    assert cut.size == (64, 150)
    if extent(cut) is not None:
        assert_follows(cut, 0.001)


@settings(max_examples=60, deadline=None)
@given(boxes, conventions, st.integers(0, 2**32), st.permutations(sorted(STEPS)))
def test_boxes_follow_through_all_steps_in_every_order(box, convention, seed, steps):
    steps = tuple(steps)
    if steps.index("expand") > steps.index("resize"):
        steps = ("expand", *(step for step in steps if step != "expand"))
    steps = tuple(step for step in steps if step != "photometric")  # the colours are the markers
    settings_ = Augmentation(
        flip_ratio=0.5,
        expand_ratio=1.5,
        photometric=False,
        box_convention=convention,
        max_boxes=4,
        seed=seed % 1000,
        epoch=1,
        vertical_flip_ratio=0.5,
        crop_ratio=0.7,
        scale_jitter=(0.8, 2.0),
        min_visible=0.3,
        steps=steps,
    )
    rule = ResizeRule("short_edge", ((96, 160), (160, 96)), min_sizes=(80, 96), max_size=160)
    target = InputFormat(rule, mean=(128.0, 128.0, 128.0))
    place = Place(settings_, Draws(settings_, seed % 7), target, 0)
    picture = augment(marked(80, 100, box, convention), place)
    height, width = picture.size
    assert 0 < height <= 96 and 0 < width <= 160
    if len(picture.boxes):
        assert_follows(picture, 3.5)
        assert picture.visible[0] >= 0.3
    again = augment(marked(80, 100, box, convention), place)
    np.testing.assert_array_equal(picture.rgb, again.rgb)
    np.testing.assert_array_equal(picture.boxes, again.boxes)


@given(boxes, st.integers(0, 2**32), st.sampled_from([0.1, 0.5, 0.9]))
def test_a_crop_keeps_a_box(box, seed, least):
    picture = marked(80, 100, box, "modern")
    window = crop_keeping_a_box(picture, [least], 0.4, np.random.default_rng(seed))
    if window is not picture:
        height, width = window.size
        assert height >= 24 and width >= 30 and max(window.size) <= 2 * min(window.size)
        kept = window.kept(0.4)
        assert len(kept.boxes) == 1
        inside = (kept.boxes[0, 2:] - kept.boxes[0, :2]).prod()
        union = height * width + (box[2] - box[0]) * (box[3] - box[1]) - inside
        assert inside / union >= least - 1e-6


def test_crowd_regions_are_no_reason_for_a_crop_and_stay_while_visible():
    rgb = np.zeros((80, 100, 3), np.uint8)
    region = np.array([[0, 0, 100, 80]], np.float32)
    crowd = labelled(rgb, region, np.ones(1, np.int32), np.ones(1, np.int32), "modern")
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert crop_keeping_a_box(crowd, [0.1], 0.0, rng) is crowd
    window = crowd.cropped(0, 0, 10, 10)
    assert window.visible[0] == pytest.approx(1 / 80) and len(window.kept(0.5).boxes) == 1


def test_pictures_without_boxes_are_not_cropped():
    rgb = np.zeros((80, 100, 3), np.uint8)
    dummy = labelled(
        rgb, np.zeros((1, 4), np.float32), np.zeros(1, np.int32), np.zeros(1), "modern"
    )
    assert crop_keeping_a_box(dummy, [0.1], 0.0, np.random.default_rng(0)) is dummy
    assert not len(dummy.kept(0.0).boxes)


def test_no_step_changes_the_numbers_of_another():
    """With a step left out, the others draw what they drew."""
    base = {
        "flip_ratio": 0.5,
        "expand_ratio": 1.0,
        "photometric": False,
        "box_convention": "modern",
        "max_boxes": 4,
        "seed": 3,
        "epoch": 1,
    }
    rule = ResizeRule("canvas", ((96, 96),))
    target = InputFormat(rule)
    for index in range(8):
        flips = set()
        for steps in permutations(("resize", "flip", "vertical_flip")):
            settings_ = Augmentation(**base, vertical_flip_ratio=0.5, steps=steps)
            place = Place(settings_, Draws(settings_, index), target, 0)
            picture = augment(marked(96, 96, (10, 20, 50, 70), "modern"), place)
            flips.add(tuple(picture.boxes[0].tolist()))
        assert len(flips) == 1
