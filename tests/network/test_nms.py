# SPDX-License-Identifier: Apache-2.0
"""The NMS Cells, and the C++ operator, against a greedy loop in NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from src.FasterRcnn import nms
from src.FasterRcnn.nms import build_nms
from src.native.operators import use_native_operators
from tests.helpers.plain_boxes import box_arrays, in_graph, plain_nms
from tests.native.test_native import BUILT

EXTENT, BATCH, NUMBER, GROUPS = 64, 3, 10, 4
THRESHOLDS = (0.5, 0.7)  # on a quarter-pixel lattice overlaps of exactly 0.5 do occur
KINDS = ("kernel", "matrix") + (("native",) if BUILT else ())


def made(kind, threshold):
    """An NMS Cell; of kind "native", one that uses the C++ operator."""
    if kind != "native":
        return build_nms(kind, threshold)
    cell = build_nms("kernel", threshold)
    assert use_native_operators(cell, BUILT) == 1
    return cell


CELLS = {(kind, threshold): made(kind, threshold) for kind in KINDS for threshold in THRESHOLDS}
# Separate Cells where other arguments are given: one graph each.
GROUPED = {key: made(*key) for key in CELLS}
FLAGS = hnp.arrays(np.bool_, (BATCH, NUMBER))


def _expected(boxes, valid, groups, threshold):
    return np.stack(
        [plain_nms(b, v, g, threshold) for b, v, g in zip(boxes, valid, groups, strict=True)]
    )


@pytest.mark.parametrize("threshold", THRESHOLDS)
@settings(max_examples=60)
@given(boxes=box_arrays((BATCH, NUMBER), high=32, longest=16, steps=2), valid=FLAGS)
def test_one_group_agrees_with_the_loop(threshold, boxes, valid):
    expected = _expected(boxes, valid, np.zeros(valid.shape), threshold)
    for kind in KINDS:
        keep = in_graph(CELLS[kind, threshold], boxes, valid, EXTENT)
        assert keep.dtype == np.bool_
        np.testing.assert_array_equal(keep, expected, err_msg=kind)


@pytest.mark.parametrize("threshold", THRESHOLDS)
@settings(max_examples=60)
@given(
    boxes=box_arrays((BATCH, NUMBER), high=24, longest=16, steps=1),
    valid=FLAGS,
    groups=hnp.arrays(np.int32, (BATCH, NUMBER), elements=st.integers(0, GROUPS - 1)),
)
def test_groups_never_meet(threshold, boxes, valid, groups):
    expected = _expected(boxes, valid, groups, threshold)
    for kind in KINDS:
        keep = in_graph(GROUPED[kind, threshold], boxes, valid, EXTENT, groups, GROUPS)
        np.testing.assert_array_equal(keep, expected, err_msg=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_never_meet(kind):
    """Those of the RPN are its levels."""
    rng = np.random.default_rng(1)
    corner = rng.integers(0, 20, (BATCH, 30, 2))
    boxes = np.concatenate([corner, corner + rng.integers(5, 30, corner.shape)], 2)
    boxes, valid = boxes.astype(np.float32), rng.random((BATCH, 30)) < 0.9
    parts = (11, 1, 18)
    keep = in_graph(made(kind, 0.5), boxes, valid, EXTENT, None, 1, parts)
    expected = _expected(boxes, valid, np.tile(np.repeat(range(3), parts), (BATCH, 1)), 0.5)
    np.testing.assert_array_equal(keep, expected)
    assert expected.sum() < valid.sum()


@pytest.mark.parametrize("kind", KINDS)
def test_equal_boxes_leave_the_first_valid_one_of_every_group(kind):
    boxes = np.tile(np.array([4, 4, 20, 20], np.float32), (BATCH, NUMBER, 1))
    valid = np.ones((BATCH, NUMBER), bool)
    valid[:, 0] = False
    keep = in_graph(CELLS[kind, 0.5], boxes, valid, EXTENT)
    assert keep[:, 1].all() and keep.sum() == BATCH
    groups = np.tile(np.arange(NUMBER, dtype=np.int32) % 3, (BATCH, 1))
    keep = in_graph(GROUPED[kind, 0.5], boxes, valid, EXTENT, groups, GROUPS)
    assert keep[:, 1:4].all() and keep.sum() == 3 * BATCH


@pytest.mark.parametrize("kind", KINDS)
def test_only_more_than_the_threshold_suppresses(kind):
    """Half of the first box's area, then one row of pixels more."""
    boxes = np.zeros((BATCH, NUMBER, 4), np.float32)
    boxes[:, 0], boxes[:, 1], boxes[:, 2] = (0, 0, 20, 20), (0, 0, 20, 10), (0, 9, 20, 20)
    valid = np.zeros((BATCH, NUMBER), bool)
    valid[:, :3] = True
    keep = in_graph(CELLS[kind, 0.5], boxes, valid, EXTENT)
    assert keep[0].tolist() == [True, True, False] + [False] * 7
    assert in_graph(CELLS[kind, 0.7], boxes, valid, EXTENT)[0].tolist() == [True] * 3 + [False] * 7


@pytest.mark.parametrize("kind", KINDS)
def test_chains_take_many_rounds(kind):
    """Each box overlaps its neighbour by more than half: greedy keeps every other one."""
    left = np.arange(NUMBER, dtype=np.float32) * 3
    one = np.stack([left, np.zeros(NUMBER), left + 10, np.full(NUMBER, 10)], -1)
    boxes = np.tile(one.astype(np.float32), (BATCH, 1, 1))
    keep = in_graph(CELLS[kind, 0.5], boxes, np.ones((BATCH, NUMBER), bool), EXTENT)
    np.testing.assert_array_equal(keep, np.tile(np.arange(NUMBER) % 2 == 0, (BATCH, 1)))


def test_many_groups_at_full_canvas_size_stay_apart():
    """Two images of 200 classes in 1280 px: adjacent cells of the grid, boxes up to its rim."""
    rng = np.random.default_rng(0)
    number, classes, extent = 400, 200, 1280
    corner = rng.integers(0, extent - 40, (2, number, 2))
    boxes = np.concatenate([corner, corner + rng.integers(20, 41, (2, number, 2))], -1)
    boxes[:, ::7] = (0, 0, extent, extent)  # whole canvas: touches all neighbours of its cell
    boxes = boxes.astype(np.float32)
    groups = rng.integers(0, classes, (2, number)).astype(np.int32)
    valid = rng.random((2, number)) < 0.9
    expected = _expected(boxes, valid, groups, 0.5)
    assert 0 < expected.sum() < valid.sum()
    for kind in KINDS:
        keep = in_graph(made(kind, 0.5), boxes, valid, extent, groups, classes)
        np.testing.assert_array_equal(keep, expected)


def test_very_many_boxes_go_in_parts(monkeypatch):
    """The kernel counts pairs of boxes in an int32; a part has whole images."""
    rng = np.random.default_rng(3)
    corner = rng.uniform(0, 40, (5, 30, 2)).astype(np.float32)
    boxes = np.concatenate([corner, corner + 20], 2)
    valid, groups = rng.random((5, 30)) < 0.9, rng.integers(0, 3, (5, 30)).astype(np.int32)
    whole = in_graph(build_nms("kernel", 0.5), boxes, valid, 64, groups, 3)
    monkeypatch.setattr(nms, "_MOST_BOXES", 70)
    parts = in_graph(build_nms("kernel", 0.5), boxes, valid, 64, groups, 3)
    np.testing.assert_array_equal(parts, whole)
    assert 0 < whole.sum() < valid.sum()


def test_unknown_kind():
    with pytest.raises(ValueError, match="'soft' is none of kernel, matrix"):
        build_nms("soft", 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_that_end_before_they_start_meet_nothing(kind):
    """Without clipping away, the model zoo's settings leave legacy boxes below a pixel."""
    row = [
        [10, 10, 20, 20],
        [12, 12, 11.5, 11.25],
        [12, 12, 11.5, 11.25],
        [20, 5, 19.5, 30],
        [20, 5, 19.5, 30],
        [11, 10, 20, 20],
    ]
    boxes = np.tile(np.array(row, np.float32), (BATCH, 1, 1))
    keep = in_graph(made(kind, 0.5), boxes, np.ones(boxes.shape[:2], bool), EXTENT)
    np.testing.assert_array_equal(keep[0], [True, True, True, True, True, False])


@pytest.mark.skipif(BUILT is None, reason="the C++ operators cannot be compiled")
def test_the_operator_rounds_as_mindspores_does():
    """Without a grid that moves boxes: one image, one group; thousands of overlaps near 0.7."""
    rng = np.random.default_rng(5)
    corner = rng.uniform(0, 90, (1, 3000, 2)).astype(np.float32)
    boxes = np.concatenate([corner, corner + rng.uniform(5, 60, corner.shape)], 2, dtype=np.float32)
    valid = rng.random((1, 3000)) < 0.95
    kernel, native = (in_graph(made(kind, 0.7), boxes, valid, 150) for kind in ("kernel", "native"))
    np.testing.assert_array_equal(native, kernel)
    assert 300 < kernel.sum() < 2500
