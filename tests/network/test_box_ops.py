# SPDX-License-Identifier: Apache-2.0
"""Box arithmetic against plain NumPy and against itself, in both conventions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mindspore import nn

from src.FasterRcnn.box_ops import (
    MAX_LOG_SIZE,
    BoxCoder,
    batched_iou,
    clip_to,
    gather_rows,
    is_sizeable,
    pixel_offset,
    shared_iou,
    shrink_to_legacy,
    split_coordinates,
)
from tests.helpers.plain_boxes import box_arrays, in_graph, plain_iou

# Some of MindSpore's threads take numbers below 1e-38 for 0.
NUMBERS = st.floats(-100, 200, width=32, allow_subnormal=False)
OFFSETS = (0.0, 1.0)
PLAIN = ((0.0,) * 4, (1.0,) * 4)
SCALED = ((0.1, -0.2, 0.05, 0.3), (0.1, 0.1, 0.2, 0.2))


class _Encode(nn.Cell):
    def __init__(self, coder):
        super().__init__()
        self.coder = coder

    def construct(self, references, boxes):
        return self.coder.encode(references, boxes)


class _Decode(_Encode):
    def construct(self, references, deltas):
        return self.coder.decode(references, deltas)


CODERS = {
    (offset, norm): (_Encode(BoxCoder(*norm, offset)), _Decode(BoxCoder(*norm, offset)))
    for offset in OFFSETS
    for norm in (PLAIN, SCALED)
}


def test_conventions_and_their_offsets():
    assert (pixel_offset("legacy"), pixel_offset("modern")) == (1.0, 0.0)
    with pytest.raises(ValueError, match="'mmdet' is none of legacy, modern"):
        pixel_offset("mmdet")


@pytest.mark.parametrize("norm", [PLAIN, SCALED])
@pytest.mark.parametrize("offset", OFFSETS)
@settings(max_examples=25)
@given(references=box_arrays((6,)), boxes=box_arrays((6,)))
def test_decode_inverts_encode(offset, norm, references, boxes):
    encode, decode = CODERS[offset, norm]
    deltas = in_graph(encode, references, boxes)
    np.testing.assert_allclose(in_graph(decode, references, deltas), boxes, atol=2e-3)


@pytest.mark.parametrize("offset", OFFSETS)
def test_deltas_by_hand(offset):
    """From a 10 x 20 box to one half as wide, twice as high, its centre 5 to the right."""
    reference = np.array([[0, 0, 10 - offset, 20 - offset]], np.float32)
    box = np.array([[7.5, -10, 12.5 - offset, 30 - offset]], np.float32)
    centre_shift = 5.0  # both boxes lose the same half pixel of their centre
    expected = np.array([centre_shift / 10, 0, np.log(0.5), np.log(2)])
    np.testing.assert_allclose(
        in_graph(CODERS[offset, PLAIN][0], reference, box)[0], expected, rtol=1e-5, atol=1e-6
    )
    means, stds = np.array(SCALED)
    np.testing.assert_allclose(
        in_graph(CODERS[offset, SCALED][0], reference, box)[0],
        (expected - means) / stds,
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("offset", OFFSETS)
def test_log_sizes_are_capped(offset):
    reference = np.array([[0, 0, 16 - offset, 16 - offset]] * 2, np.float32)
    deltas = np.array([[0, 0, 50, MAX_LOG_SIZE + 1], [0, 0, -6, -50]], np.float32)
    boxes = in_graph(CODERS[offset, PLAIN][1], reference, deltas)
    sides = boxes[:, 2:] - boxes[:, :2] + offset
    np.testing.assert_allclose(sides[0], 1000.0, rtol=1e-4)
    if offset:  # the legacy family has a lower cap, too
        np.testing.assert_allclose(sides[1], 16 * 16 / 1000.0, rtol=1e-3)
    else:
        np.testing.assert_allclose(sides[1], [16 * np.exp(-6), 0], atol=1e-4)


@pytest.mark.parametrize("mode", ["iou", "iof"])
@pytest.mark.parametrize("offset", OFFSETS)
@settings(max_examples=25)
@given(anchors=box_arrays((5,)), boxes=box_arrays((2, 3)))
def test_shared_iou_agrees_with_numpy(offset, mode, anchors, boxes):
    table = in_graph(shared_iou, anchors, boxes, offset, mode)
    assert table.shape == (2, 3, 5) and table.dtype == np.float32
    for image in range(2):
        np.testing.assert_allclose(
            table[image], plain_iou(anchors, boxes[image], offset, mode).T, atol=1e-5
        )


@pytest.mark.parametrize("mode", ["iou", "iof"])
@pytest.mark.parametrize("offset", OFFSETS)
@settings(max_examples=25)
@given(candidates=box_arrays((5, 4)), boxes=box_arrays((5, 3)))  # more than go at once
def test_batched_iou_pairs_boxes_of_the_same_image(offset, mode, candidates, boxes):
    table = in_graph(batched_iou, candidates, boxes, offset, mode)
    assert table.shape == (5, 3, 4)
    for image in range(5):
        np.testing.assert_allclose(
            table[image], plain_iou(candidates[image], boxes[image], offset, mode).T, atol=1e-5
        )


@pytest.mark.parametrize("offset", OFFSETS)
@settings(max_examples=25)
@given(boxes=box_arrays((5,), high=40))
def test_iou_is_symmetric_bounded_and_one_for_the_box_itself(offset, boxes):
    table = in_graph(shared_iou, boxes, boxes[None], offset)[0]
    np.testing.assert_allclose(table, table.T, atol=1e-6)
    assert (table >= 0).all() and (table <= 1 + 1e-6).all()
    np.testing.assert_allclose(np.diag(table), 1.0, atol=1e-6)


def test_conventions_differ_as_they_should():
    """Two 10 px squares, 5 apart: 50/150 modern; 6x11 of 242 - 66 legacy."""
    a, b = np.array([[0, 0, 10, 10]], np.float32), np.array([[[5, 0, 15, 10]]], np.float32)
    np.testing.assert_allclose(in_graph(shared_iou, a, b, 0.0), 1 / 3, rtol=1e-5)
    np.testing.assert_allclose(in_graph(shared_iou, a, b, 1.0), 66 / 176, rtol=1e-5)


def test_empty_boxes_give_zero_not_nan():
    empty = np.array([[5, 5, 5, 5], [0, 0, 0, 8]], np.float32)
    for mode in ("iou", "iof"):
        np.testing.assert_array_equal(in_graph(shared_iou, empty, empty[None], 0.0, mode), 0.0)


def test_shrink_is_for_modern_boxes_only():
    boxes = np.array([[1, 2, 5, 7]], np.float32)
    np.testing.assert_array_equal(in_graph(shrink_to_legacy, boxes, 1.0), boxes)
    np.testing.assert_array_equal(in_graph(shrink_to_legacy, boxes, 0.0), [[1, 2, 4, 6]])


@settings(max_examples=25)
@given(boxes=hnp.arrays(np.float32, (2, 4, 4), elements=NUMBERS))
def test_clip_stays_inside_each_image_and_leaves_what_is_inside(boxes):
    bounds = np.array([[50, 80], [90, 30]], np.float32)
    clipped = in_graph(clip_to, boxes, bounds)
    for image, (height, width) in enumerate(bounds):
        expected = np.clip(boxes[image], 0, [width, height, width, height])
        np.testing.assert_array_equal(clipped[image], expected)


def test_sizeable_needs_positive_long_enough_sides_and_a_place_inside():
    bounds = np.array([[40, 60]], np.float32)
    boxes = np.array(
        [
            [
                [0, 0, 10, 10],  # fine
                [0, 0, 3, 30],  # narrow
                [0, 0, 30, 3],  # low
                [5, 5, 5, 20],  # no width
                [60, 0, 60, 20],  # clipped away at the right
                [0, 40, 20, 40],  # clipped away at the bottom
                [0, 0, 4, 4],  # exactly as long as asked for without an extra pixel
            ]
        ],
        np.float32,
    )
    modern = in_graph(is_sizeable, boxes, bounds, 4.0, 0.0)[0]
    assert modern.tolist() == [True, False, False, False, False, False, True]
    legacy = in_graph(is_sizeable, boxes, bounds, 4.0, 1.0)[0]
    assert legacy.tolist() == [True, True, True, False, False, False, True]
    unlimited = in_graph(is_sizeable, boxes, bounds, 0.0, 0.0)[0]
    assert unlimited.tolist() == [True, True, True, False, False, False, True]
    # A legacy box of one column still has a width of one pixel; what lies outside has none.
    legacy = in_graph(is_sizeable, boxes, bounds, 0.0, 1.0)[0]
    assert legacy.tolist() == [True, True, True, True, False, False, True]


@pytest.mark.parametrize("shape, dtype", [((2, 5), np.int32), ((2, 5, 4), np.float32)])
def test_gather_rows_picks_image_by_image(shape, dtype):
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    index = np.array([[4, 0, 0], [1, 2, 4]], np.int32)
    picked = in_graph(gather_rows, values, index)
    assert picked.dtype == dtype
    np.testing.assert_array_equal(picked, [values[0][index[0]], values[1][index[1]]])


def test_split_coordinates_keep_their_order():
    boxes = np.array([[[1, 2, 3, 4], [5, 6, 7, 8]]], np.float32)
    for column, part in enumerate(in_graph(split_coordinates, boxes)):
        np.testing.assert_array_equal(part, boxes[..., column])
