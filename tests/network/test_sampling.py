# SPDX-License-Identifier: Apache-2.0
"""Random sampling: counts, eligibility, dependence on the key alone, uniformity."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from src.FasterRcnn.sampling import BalancedSampler
from tests.helpers.plain_boxes import in_graph

BATCH, NUMBER, NUM_POS, NUM_TOTAL = 2, 20, 4, 10
SAMPLER = BalancedSampler(NUM_POS, NUM_TOTAL)
ALONE = BalancedSampler(NUM_POS, NUM_TOTAL)  # for batches of one: its own graph
KEYS = hnp.arrays(np.int32, (BATCH,), elements=st.integers(-(2**31), 2**31 - 1))
# 0 neither, 1 positive, 2 negative
KINDS = hnp.arrays(np.int8, (BATCH, NUMBER), elements=st.integers(0, 2))


def _sample(kinds, keys, sampler=SAMPLER):
    kinds = np.asarray(kinds)
    return in_graph(sampler, kinds == 1, kinds == 2, np.asarray(keys, np.int32))


def _picked(kinds, keys, sampler=SAMPLER):
    """The set of chosen positions of every image."""
    index, _, chosen = _sample(kinds, keys, sampler)
    return [frozenset(row[flag].tolist()) for row, flag in zip(index, chosen, strict=True)]


@settings(max_examples=100)
@given(kinds=KINDS, keys=KEYS)
def test_counts_and_eligibility(kinds, keys):
    index, is_positive, chosen = _sample(kinds, keys)
    assert index.shape == is_positive.shape == chosen.shape == (BATCH, NUM_TOTAL)
    assert index.dtype == np.int32 and (index >= 0).all() and (index < NUMBER).all()
    for image in range(BATCH):
        positives, negatives = (kinds[image] == 1).sum(), (kinds[image] == 2).sum()
        num_pos = min(positives, NUM_POS)
        num_neg = min(negatives, NUM_TOTAL - num_pos)
        assert is_positive[image].sum() == num_pos
        assert chosen[image].sum() == num_pos + num_neg
        assert is_positive[image, :num_pos].all(), "positives come first"
        assert chosen[image, : num_pos + num_neg].all(), "unused places come last"
        rows = index[image, : num_pos + num_neg]
        assert len(set(rows.tolist())) == len(rows), "nothing is chosen twice"
        np.testing.assert_array_equal(kinds[image][rows], [1] * num_pos + [2] * num_neg)


@settings(max_examples=50)
@given(kinds=KINDS, keys=KEYS)
def test_an_image_s_choice_does_not_depend_on_its_batch_mate(kinds, keys):
    together = _sample(kinds, keys)
    for image in range(BATCH):
        own = slice(image, image + 1)
        for one, other in zip(together, _sample(kinds[own], keys[own], ALONE), strict=True):
            np.testing.assert_array_equal(one[own], other)


def test_the_same_key_repeats_and_others_differ():
    kinds = np.tile(np.arange(NUMBER) % 2 + 1, (BATCH, 1))
    sets = [_picked(kinds, [key, key])[0] for key in range(50)]
    assert _picked(kinds, [7, 3])[0] == _picked(kinds, [3, 7])[1] == sets[7]
    assert len(set(sets)) > 40


@pytest.mark.parametrize("step", [1, 65536, 2654435761])
def test_every_candidate_is_chosen_about_equally_often(step):
    """4 of 10 positives and 6 of 10 negatives, 600 keys: +-0.12 is six standard deviations."""
    kinds = np.tile(np.arange(NUMBER) % 2 + 1, (BATCH, 1))
    counts = np.zeros(NUMBER)
    for number in range(300):
        keys = np.array([2 * number, 2 * number + 1], np.int64) * step
        for chosen in _picked(kinds, keys.astype(np.uint32).astype(np.int32)):
            counts[list(chosen)] += 1
    frequency = counts / 600
    np.testing.assert_allclose(frequency[0::2], 0.4, atol=0.12)
    np.testing.assert_allclose(frequency[1::2], 0.6, atol=0.12)


def test_pairs_are_chosen_about_independently():
    """Two candidates out of twenty must not always come together."""
    sampler = BalancedSampler(2, 2)
    kinds = np.ones((BATCH, NUMBER), int)
    together = np.zeros((NUMBER, NUMBER))
    for number in range(1000):
        for chosen in _picked(kinds, [number * 7919, number * 7919 + 1], sampler):
            first, second = sorted(chosen)
            together[first, second] += 1
    pairs = together[np.triu_indices(NUMBER, 1)]
    assert pairs.sum() == 2000  # 10.5 a pair on average
    assert pairs.max() < 60 and (pairs == 0).mean() < 0.1


def test_fewer_candidates_than_places():
    sampler = BalancedSampler(8, 100)
    index, is_positive, chosen = _sample([[1, 0, 2, 2, 1]], [5], sampler)
    assert index.shape == (1, 5)
    assert sorted(index[0, :2]) == [0, 4] and sorted(index[0, 2:4]) == [2, 3]
    assert is_positive[0].tolist() == [True] * 2 + [False] * 3
    assert chosen[0].tolist() == [True] * 4 + [False]


def test_more_positives_allowed_than_there_are_places():
    sampler = BalancedSampler(50, 3)
    index, is_positive, chosen = _sample([[1] * 6 + [2] * 6], [5], sampler)
    assert index.shape == (1, 3) and is_positive.all() and chosen.all() and (index < 6).all()


def test_no_positives_and_no_candidates_at_all():
    kinds = np.zeros((BATCH, NUMBER), int)
    kinds[0] = 2
    _, is_positive, chosen = _sample(kinds, [1, 2])
    assert not is_positive.any()
    assert chosen[0].all() and not chosen[1].any()


def test_only_positives_leave_places_free():
    _, is_positive, chosen = _sample(np.ones((BATCH, NUMBER), int), [1, 2])
    assert is_positive.sum(1).tolist() == chosen.sum(1).tolist() == [NUM_POS] * BATCH
