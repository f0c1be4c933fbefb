# SPDX-License-Identifier: Apache-2.0
"""Which pictures make an epoch: by their classes, alike on every process, and always as many."""

import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.data.epoch_plan import epoch_order, repeats_in
from src.data.epoch_sampling import (
    ClassBalancedSampler,
    ClassMembers,
    RepeatFactorSampler,
    Shuffle,
    build_sampler,
    repeat_factors,
)
from src.data.records import ImageRecord
from src.data.train_sample import Draws


def record(*labels, crowd=()):
    """A record with boxes of these classes; those of `crowd` are regions."""
    both = np.array([*labels, *crowd], np.int32)
    regions = np.arange(len(both)) >= len(labels)
    boxes = np.tile(np.array([0, 0, 9, 9], np.float32), (len(both), 1))
    return ImageRecord("1", "1.jpg", "1.jpg", boxes, both, regions)


def members_of(*pictures):
    return ClassMembers([record(*labels) for labels in pictures])


pictures = st.lists(st.sets(st.integers(1, 6), max_size=4), min_size=1, max_size=40)
thresholds = st.floats(1e-4, 1.0)
factor_lists = st.lists(st.floats(1.0, 6.0), min_size=1, max_size=40).map(np.array)
epochs = st.integers(0, 1000)


@given(pictures, thresholds)
def test_repeat_factors_are_those_of_the_paper(labels, threshold):
    """The formula once more, picture by picture."""
    count = Counter(label for picture in labels for label in picture)
    of_class = {
        label: max(1.0, math.sqrt(threshold / (number / len(labels))))
        for label, number in count.items()
    }
    expected = [max([of_class[label] for label in picture], default=1.0) for picture in labels]
    np.testing.assert_allclose(repeat_factors(members_of(*labels), threshold), expected)


def test_a_class_counts_once_a_picture_and_crowds_do_not():
    members = ClassMembers([record(2, 2, 1, crowd=[3]), record(1), record(crowd=[1])])
    assert members.labels.tolist() == [1, 1, 2] and members.pictures.tolist() == [0, 1, 0]
    assert [group.tolist() for group in members.groups()] == [[0, 1], [0], [2]]
    factors = repeat_factors(members, 1.0)
    np.testing.assert_allclose(factors, [math.sqrt(3), math.sqrt(1.5), 1.0])


@given(factor_lists, st.integers(0, 9), epochs)
def test_a_factor_is_rounded_up_or_down_and_every_epoch_is_as_long(factors, seed, epoch):
    sampler = RepeatFactorSampler(factors)
    order = sampler.order(seed, epoch)
    counts = np.bincount(order, minlength=len(factors))
    assert len(order) == sampler.length
    assert (np.floor(factors) <= counts).all() and (counts <= np.ceil(factors)).all()
    assert abs(sampler.length - factors.sum()) < 1
    np.testing.assert_array_equal(order, RepeatFactorSampler(factors).order(seed, epoch))


def test_over_epochs_a_picture_comes_as_often_as_its_factor_says():
    factors = np.array([1.0, 1.25, 2.5, 1.75, 3.5])  # fractions of 2: none is lost by rounding
    sampler = RepeatFactorSampler(factors)
    epochs = 2000
    orders = np.concatenate([sampler.order(5, epoch) for epoch in range(epochs)])
    means = np.bincount(orders) / epochs
    np.testing.assert_allclose(means, factors, atol=5 * 0.5 / math.sqrt(epochs))
    assert means[0] == 1.0


@given(st.integers(1, 50), st.integers(0, 9), epochs)
def test_without_rare_classes_it_is_the_usual_order(count, seed, epoch):
    expected = epoch_order(count, seed, epoch)
    np.testing.assert_array_equal(Shuffle(count).order(seed, epoch), expected)
    sampler = RepeatFactorSampler(np.ones(count))
    np.testing.assert_array_equal(sampler.order(seed, epoch), expected)
    assert "each once: no class is rare" in sampler.lines()[0]


@given(pictures, st.integers(0, 9), epochs)
def test_balanced_epochs_draw_each_class_alike(labels, seed, epoch):
    members = members_of(*labels)
    sampler = ClassBalancedSampler(members)
    order = sampler.order(seed, epoch)
    assert len(order) == sampler.length == len(labels)
    groups = members.groups()
    each = len(labels) // len(groups)
    counts = np.bincount(order, minlength=len(labels))
    for group in groups:  # a picture of several classes is also drawn for the others
        assert counts[group].sum() >= each
        if each >= len(group):
            assert (counts[group] >= each // len(group)).all()
    np.testing.assert_array_equal(order, ClassBalancedSampler(members).order(seed, epoch))


def test_balanced_epochs_of_single_classes():
    labels = [[1]] * 17 + [[2]] * 2 + [[3]]
    order = ClassBalancedSampler(members_of(*labels)).order(1, 1)
    kinds = Counter(labels[picture][0] for picture in order)
    assert sorted(kinds.values()) == [6, 7, 7]
    counts = np.bincount(order, minlength=20)
    assert counts[:17].max() == 1 and abs(counts[17] - counts[18]) <= 1


@pytest.mark.parametrize("sampler", ["shuffle", "repeat_factor", "class_balanced"])
def test_of_a_configuration(sampler):
    config = SimpleNamespace(train_sampler=sampler, repeat_threshold=0.9)
    records = [record(1), record(1), record(1, 2), record()]
    made = build_sampler(config, records)
    one, other = made.order(3, 1), made.order(3, 2)
    assert made.length == len(one) == {"repeat_factor": 5}.get(sampler, 4)
    assert one.tolist() != other.tolist() or sampler == "class_balanced"
    lines = made.lines()
    assert bool(lines) == (sampler != "shuffle")
    assert all(f"train_sampler {sampler}: an epoch has {made.length} pictures" in i for i in lines)


def test_each_time_a_picture_comes_it_looks_different():
    augmentation = SimpleNamespace(seed=1, epoch=2)
    draws = [Draws(augmentation, 7, repeat) for repeat in (0, 1, 2)]
    draws += [Draws(augmentation, 8, 1), Draws(augmentation, 7, 1)]
    keys = [int(draw.key) for draw in draws]
    assert len(set(keys)) == 4 and keys[1] == keys[4]
    steps = [draw.of(number).random() for draw in draws[:4] for number in (1, 2)]
    assert len(set(steps)) == 8


def test_repeats_of_an_order_are_counted_from_its_beginning():
    order = RepeatFactorSampler(np.array([3.0, 1.0])).order(1, 1)
    assert sorted(repeats_in(order)[order == 0].tolist()) == [0, 1, 2]
