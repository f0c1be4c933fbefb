# SPDX-License-Identifier: Apache-2.0
"""Batches of pictures: one canvas each, every picture once, bounded memory."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from src.images.batching import batches_of
from src.images.geometry import ResizeRule
from src.images.ops import InputFormat, preprocess_image
from src.images.views import View
from tests.helpers.data_helpers import canvas_format, picture

ONE = (View(canvas_format(32, 64)),)
TWO = InputFormat(ResizeRule("short_edge", ((32, 64), (64, 32)), (30,), 60, "torchvision"))
VIEWS = (View(TWO), View(TWO, mirrored=True))


def numbered(sizes):
    return ((i, picture(*size, i)) for i, size in enumerate(sizes))


def test_the_last_batch_is_filled_up():
    sizes = [(40, 30), (20, 50), (64, 32)]
    batches = list(batches_of(numbered(sizes), ONE, 2))
    assert [[position for position, _ in batch] for batch, _ in batches] == [[0, 1], [2]]
    shapes = [rgb.shape[:2] for batch, _ in batches for _, rgb in batch]
    assert shapes == sizes
    for _, ((image, meta),) in batches:
        assert image.shape == (2, 3, 32, 64) and image.dtype == np.float32
        assert meta.shape == (2, 4)
    np.testing.assert_array_equal(batches[1][1][0][0][0], batches[1][1][0][0][1])


def test_a_batch_of_large_pictures_is_shorter(monkeypatch):
    monkeypatch.setattr("src.images.batching._BATCH_PIXELS", 1000)
    sizes = [(10, 10), (40, 30), (40, 30), (10, 10), (10, 10)]
    pictures = ((i, np.zeros((*size, 3), np.uint8)) for i, size in enumerate(sizes))
    batches = list(batches_of(pictures, ONE, 3))
    assert [[i for i, _ in batch] for batch, _ in batches] == [[0, 1], [2], [3, 4]]
    assert all(image.shape == (3, 3, 32, 64) for _, ((image, _),) in batches)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), max_size=12), st.integers(1, 4))
def test_every_picture_comes_once_on_its_canvas(sizes, size):
    seen = []
    for batch, ((image, meta), (mirrored, _)) in batches_of(numbered(sizes), VIEWS, size):
        assert 1 <= len(batch) <= size == len(image) == len(meta)
        for row, (position, rgb) in enumerate(batch):
            expected, expected_meta = preprocess_image(rgb, TWO)
            np.testing.assert_array_equal(image[row], expected)
            np.testing.assert_array_equal(meta[row], expected_meta)
            width = int(meta[row, 1])
            np.testing.assert_array_equal(
                mirrored[row, :, :, :width], expected[:, :, :width][:, :, ::-1]
            )
            assert rgb.shape[:2] == sizes[position]
            seen.append(position)
    assert sorted(seen) == list(range(len(sizes)))


def test_pictures_that_wait_for_others_of_their_canvas_are_bounded(monkeypatch):
    """Landscape pictures go on while a portrait one waits; then the larger heap goes first."""
    monkeypatch.setattr("src.images.batching._BATCH_PIXELS", 1000)
    sizes = [(20, 10), (10, 20), (10, 20), (30, 10), (20, 30), (5, 4)]
    batches = [[i for i, _ in batch] for batch, _ in batches_of(numbered(sizes), VIEWS, 9)]
    assert batches[0] == [1, 2, 4] and sorted(sum(batches[1:], [])) == [0, 3, 5]
