# SPDX-License-Identifier: Apache-2.0
"""Sizes and pixels as other programs compute them; resized_*.* hold what those really gave."""

import csv
from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.images.geometry import ResizeRule, short_edge_size
from src.images.ops import InputFormat, normalize_and_pad, preprocess_image
from src.images.resizing import resize
from tests.helpers.data_helpers import picture
from tests.helpers.paths import RESOURCES

KINDS = ("opencv", "torchvision", "detectron2")
sides = st.integers(1, 6000)


def test_sizes_are_those_of_the_real_programs():
    """Half of the rows are sizes that float rounding decides."""
    with open(RESOURCES / "resized_sizes.csv", encoding="ascii") as file:
        rows = [{key: int(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert len(rows) == 54
    for row in rows:
        given = [row[key] for key in ("height", "width", "min_size", "max_size")]
        for program, like in (
            ("torchvision", "torchvision"),
            ("detectron2", "detectron2"),
            ("mmdetection", "opencv"),
        ):
            expected = row[f"{program}_height"], row[f"{program}_width"]
            assert short_edge_size(*given, like) == expected, (given, program)


@settings(max_examples=300)
@given(sides, sides, st.integers(32, 1500), st.integers(32, 2500), st.sampled_from(KINDS))
def test_sizes_follow_the_exact_scale(height, width, min_size, max_size, like):
    """Never more than rounding away from the scale in fractions."""
    scale = min(Fraction(min_size, min(height, width)), Fraction(max_size, max(height, width)))
    for side, size in zip(
        (height, width), short_edge_size(height, width, min_size, max_size, like), strict=True
    ):
        exact = side * scale
        if exact >= 1:
            below = 0 if like == "torchvision" else Fraction(1, 2)
            assert -below - Fraction(1, 10**6) < exact - size < 1 - below + Fraction(1, 10**6)
        assert 1 <= size <= max_size


@settings(max_examples=100)
@given(sides, sides, st.sampled_from(KINDS))
def test_the_derived_canvases_hold_every_picture(height, width, like):
    rule = ResizeRule("short_edge", ((800, 1344), (1344, 800)), (800,), 1333, like)
    canvas = rule.canvas_of(height, width)
    wanted = short_edge_size(height, width, 800, 1333, like)
    assert rule.size_on(canvas, height, width) == wanted


@pytest.fixture(scope="module")
def pixels():
    with np.load(RESOURCES / "resized_pixels.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("kind", ["grown", "shrunk"])
def test_pixels_are_those_of_pytorch_and_pillow(pixels, kind):
    ours = resize(pixels["picture"], pixels[f"torch_{kind}"].shape[:2], "torchvision")
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, pixels[f"torch_{kind}"], atol=1e-4)  # of 255 levels
    ours = resize(pixels["picture"], pixels[f"pillow_{kind}"].shape[:2], "detectron2")
    np.testing.assert_array_equal(ours, pixels[f"pillow_{kind}"])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 90), st.integers(1, 90))
def test_floats_are_opencvs_floats(height, width, new_height, new_width):
    """At small sizes, where the positions that pixels are read at are exact enough."""
    rgb = picture(height, width, 7)
    ours = resize(rgb, (new_height, new_width), "torchvision")
    cv = cv2.resize(rgb.astype(np.float32), (new_width, new_height))
    np.testing.assert_allclose(ours, cv, atol=5e-3)


def test_growing_is_the_same_for_all_up_to_rounding(pixels):
    rgb = pixels["picture"]  # noise
    floats = resize(rgb, (100, 150), "torchvision")
    for like in ("opencv", "detectron2"):
        whole = resize(rgb, (100, 150), like)
        assert whole.dtype == np.uint8 and np.abs(whole - floats).max() <= 1.5
    shrunk = {like: resize(rgb, (10, 15), like).astype(float) for like in KINDS}
    assert np.abs(shrunk["opencv"] - shrunk["torchvision"]).max() < 1
    assert np.abs(shrunk["detectron2"] - shrunk["torchvision"]).max() > 10  # it averages


@pytest.mark.parametrize("like", KINDS)
def test_a_picture_of_the_size_stays_as_it_is(like):
    rgb = picture(20, 30)
    assert resize(rgb, (20, 30), like) is rgb


def test_floats_are_normalised_like_levels():
    rgb = picture(31, 17, 2)
    rule = ResizeRule("canvas", ((64, 32),))
    for order in ("rgb", "bgr"):
        target = InputFormat(rule, channel_order=order)
        np.testing.assert_allclose(
            normalize_and_pad(rgb.astype(np.float32), target, (64, 32)),
            normalize_and_pad(rgb, target, (64, 32)),
            atol=1e-6,
        )


def test_the_whole_way_is_torchvisions():
    """Normalised first, then resized, then padded with zeros."""
    rule = ResizeRule("short_edge", ((64, 96), (96, 64)), (64,), 90, "torchvision")
    target = InputFormat(rule)
    rgb = picture(50, 33, 4)
    image, meta = preprocess_image(rgb, target)
    assert image.shape == (3, 96, 64) and tuple(meta[:2]) == (90, 59)
    assert not image[:, 90:].any() and not image[:, :, 59:].any()
    values = (rgb / np.float32(255) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    expected = cv2.resize(values.astype(np.float32), (59, 90)).transpose(2, 0, 1)
    np.testing.assert_allclose(image[:, :90, :59], expected, atol=1e-4)
    np.testing.assert_allclose(meta[2:], [90 / 50, 59 / 33], rtol=1e-6)
