# SPDX-License-Identifier: Apache-2.0
"""Matching against a plain loop, on overlaps from a coarse lattice so that ties are common."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from src.FasterRcnn.box_ops import shared_iou
from src.FasterRcnn.matcher import Matcher, hide_boxes
from tests.helpers.plain_boxes import in_graph

BATCH, NUMBER = 2, 7
POSITIVE, NEGATIVE = 0.75, 0.25
LATTICE = st.integers(0, 8).map(lambda n: n / 8)
CELLS = {
    (low, steal): Matcher(POSITIVE, NEGATIVE, low, steal)
    for low in (None, 0.0, 0.5)
    for steal in (True, False)
}


def _plain_match(overlaps, crowd, usable, low, steal):
    """One image: overlaps and crowd (G, N) -> gt_index, positive, negative."""
    count, number = overlaps.shape
    gt_index, positive = np.zeros(number, int), np.zeros(number, bool)
    for n in range(number):
        gt_index[n] = max(range(count), key=lambda g: (overlaps[g, n], -g))
        positive[n] = usable[n] and overlaps[gt_index[n], n] >= POSITIVE
    for g in range(count):
        top = max([overlaps[g, n] for n in range(number) if usable[n]], default=0)
        if low is None or top < low or top == 0:
            continue
        for n in range(number):
            if usable[n] and overlaps[g, n] == top:
                positive[n] = True
                gt_index[n] = g if steal else gt_index[n]
    negative = usable & ~positive & (overlaps.max(0) < NEGATIVE) & (crowd.max(0) <= 0.5)
    return gt_index, positive, negative


def _overlaps(count):
    return hnp.arrays(np.float32, (BATCH, count, NUMBER), elements=LATTICE)


@pytest.mark.parametrize("steal", [True, False])
@pytest.mark.parametrize("low", [None, 0.0, 0.5])
@pytest.mark.parametrize("count", [1, 3])
@settings(max_examples=30)
@given(data=st.data(), usable=hnp.arrays(np.bool_, (BATCH, NUMBER)))
def test_agrees_with_the_loop(count, low, steal, data, usable):
    overlaps, crowd = data.draw(_overlaps(count)), data.draw(_overlaps(count))
    gt_index, positive, negative = in_graph(CELLS[low, steal], overlaps, crowd, usable)
    assert gt_index.dtype == np.int32
    for image in range(BATCH):
        expected = _plain_match(overlaps[image], crowd[image], usable[image], low, steal)
        np.testing.assert_array_equal(positive[image], expected[1])
        np.testing.assert_array_equal(negative[image], expected[2])
        chosen = expected[1]
        np.testing.assert_array_equal(gt_index[image][chosen], expected[0][chosen])


def _match(matcher, overlaps, crowd=None, usable=None):
    """One image given as lists; returns gt_index, positive, negative of it."""
    overlaps = np.array([overlaps], np.float32)
    crowd = np.zeros_like(overlaps) if crowd is None else np.array([crowd], np.float32)
    if usable is None:
        usable = [True] * overlaps.shape[2]
    return [part[0].tolist() for part in in_graph(matcher, overlaps, crowd, np.array([usable]))]


def test_thresholds_are_at_least_and_below():
    overlaps = [[0.8, 0.75, 0.5, 0.25, 0.1]]
    _, positive, negative = _match(CELLS[None, False], overlaps)
    assert positive == [True, True, False, False, False]
    assert negative == [False, False, False, False, True]


def test_a_best_candidate_below_the_threshold_becomes_positive_only_on_request():
    overlaps = [[0.6, 0.5, 0.2], [0.0, 0.4, 0.1]]
    assert _match(CELLS[None, True], overlaps)[1] == [False, False, False]
    assert _match(CELLS[0.5, True], overlaps)[1] == [True, False, False]
    assert _match(CELLS[0.0, True], overlaps)[1] == [True, True, False]


def test_stealing_gives_the_candidate_to_the_box_it_is_the_best_of():
    overlaps = [[0.9, 0.8], [0.1, 0.6]]  # candidate 1 fits box 0 better, but box 1 has no other
    assert _match(CELLS[0.5, True], overlaps)[:2] == [[0, 1], [True, True]]
    assert _match(CELLS[0.5, False], overlaps)[:2] == [[0, 0], [True, True]]


def test_the_last_of_several_boxes_steals():
    assert _match(CELLS[0.5, True], [[0.8, 0.0], [0.6, 0.0], [0.7, 0.0]])[0][0] == 2


def test_a_box_out_of_reach_of_all_makes_nothing_positive():
    """With min_pos_iou 0 every candidate would be the best, at 0, of a padded box."""
    _, positive, negative = _match(CELLS[0.0, True], [[0.0, 0.0, 0.0]])
    assert positive == [False] * 3 and negative == [True] * 3


def test_crowd_regions_shield_negatives_but_not_positives():
    crowd = [[0.9, 0.9, 0.5, 0.51]]
    _, positive, negative = _match(CELLS[None, True], [[0.8, 0.1, 0.1, 0.1]], crowd)
    assert positive == [True, False, False, False]
    assert negative == [False, False, True, False]


def test_unusable_candidates_are_neither_and_do_not_spend_a_box_s_best_match():
    """The best anchor of a box at the image's border lies across it: the next best one counts."""
    _, positive, negative = _match(
        CELLS[0.5, True], [[0.9, 0.6, 0.1, 0.1]], usable=[False, True, True, False]
    )
    assert positive == [False, True, False, False]
    assert negative == [False, False, True, False]


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_hidden_boxes_overlap_nothing(offset):
    boxes = np.array([[[0, 0, 20, 20], [5, 5, 9, 9], [0, 0, 0, 0]]], np.float32)
    shown = np.array([[True, False, False]])
    hidden = in_graph(hide_boxes, boxes, shown)
    np.testing.assert_array_equal(hidden[0, 0], boxes[0, 0])
    anchors = np.array([[0, 0, 20, 20], [-9, -9, 9, 9], [0, 0, 0, 0]], np.float32)
    for mode in ("iou", "iof"):
        table = in_graph(shared_iou, anchors, hidden, offset, mode)
        assert table[0, 0, 0] == 1
        np.testing.assert_array_equal(table[0, 1:], 0)
    nothing = in_graph(hide_boxes, boxes, np.zeros((1, 3), bool))
    np.testing.assert_array_equal(in_graph(shared_iou, anchors, nothing, offset), 0)
