# SPDX-License-Identifier: Apache-2.0
"""Planning an epoch: every place at most once, every batch on one canvas, whatever happens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.data.epoch_plan import canvas_numbers, epoch_order, plan_epoch, plan_evaluation, repeats_in
from src.images.geometry import ResizeRule


@st.composite
def epochs(draw):
    """The order of an epoch, its pictures' canvases (up to 3) and a global batch that fits."""
    count = draw(st.integers(1, 60))
    canvases = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    order = epoch_order(count, draw(st.integers(0, 9)), 1)
    return order, np.array(canvases), draw(st.integers(1, count))


@given(epochs())
def test_every_picture_at_most_once_in_as_many_steps_as_ever(epoch):
    order, canvases, batch = epoch
    plan = plan_epoch(order, canvases, batch)
    assert plan.images.shape == (len(order) // batch, batch) and plan.first_step == 0
    assert plan.canvases.shape == (len(order) // batch,)
    assert len(np.unique(plan.images)) == plan.images.size


@given(epochs())
def test_a_batch_has_pictures_of_its_canvas_but_for_the_last_ones(epoch):
    order, canvases, batch = epoch
    plan = plan_epoch(order, canvases, batch)
    alike = (canvases[plan.images] == plan.canvases[:, None]).all(axis=1)
    full = sum(np.bincount(canvases) // batch)
    assert alike[:full].all() and len(alike) - full <= 2  # of three canvases
    for images, canvas in zip(plan.images, plan.canvases, strict=True):
        counts = np.bincount(canvases[images], minlength=3)
        assert counts[canvas] == counts.max()


@given(epochs())
def test_one_canvas_is_the_order_itself(epoch):
    order, canvases, batch = epoch
    plan = plan_epoch(order, np.ones_like(canvases), batch)
    used = len(order) // batch * batch
    np.testing.assert_array_equal(plan.images.reshape(-1), order[:used])
    assert (plan.canvases == 1).all()


@given(epochs(), st.data())
def test_other_numbers_of_processes_see_no_picture_again(epoch, data):
    order, canvases, batch = epoch
    seen, parts, step = [], [], 0
    for _ in range(4):
        plan = plan_epoch(order, canvases, batch, parts)
        steps = len(order) // batch
        assert plan.first_step == step
        end = data.draw(st.integers(step, steps))
        done = plan.between(step, end)
        assert len(done.images) == len(done.canvases) == end - step  # there are enough for all
        seen.extend(done.images.reshape(-1).tolist())
        parts.append((batch, end))
        following = data.draw(st.integers(1, len(order)))
        step, batch = -(-end * batch // following), following
        if step > len(order) // batch:
            break
    assert len(set(seen)) == len(seen)


@given(epochs(), st.data())
def test_one_canvas_goes_on_at_the_next_whole_step(epoch, data):
    order, canvases, batch = epoch
    end = data.draw(st.integers(0, len(order) // batch))
    other = data.draw(st.integers(1, len(order)))
    plan = plan_epoch(order, np.zeros_like(canvases), other, [(batch, end)])
    first, steps = -(-end * batch // other), len(order) // other
    assert plan.first_step == first
    expected = order[first * other : max(steps, first) * other]
    np.testing.assert_array_equal(plan.images.reshape(-1), expected)


@given(epochs(), st.data())
def test_a_part_of_a_plan(epoch, data):
    order, canvases, batch = epoch
    plan = plan_epoch(order, canvases, batch)
    first = data.draw(st.integers(0, len(plan.images)))
    end = data.draw(st.integers(first, len(plan.images)))
    part = plan.between(first, end)
    np.testing.assert_array_equal(part.images, plan.images[first:end])
    rest = part.between(end, len(plan.images))
    assert not rest.images.size and rest.first_step == end


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=40).map(np.array),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_evaluation_sees_every_picture_once_on_its_canvas(canvases, batch, ranks):
    rows, numbers = plan_evaluation(canvases, batch * ranks)
    assert len(rows) == len(numbers) and len(rows) % (batch * ranks) == 0
    assert sorted(numbers[numbers >= 0].tolist()) == list(range(len(canvases)))
    np.testing.assert_array_equal(rows[numbers >= 0], numbers[numbers >= 0])
    steps = canvases[rows].reshape(-1, batch * ranks)
    assert (steps == steps[:, :1]).all()
    assert (np.diff(steps[:, 0]) >= 0).all()


def test_evaluation_on_one_canvas_is_in_record_order():
    rows, numbers = plan_evaluation(np.zeros(5, np.int64), 4)
    assert rows.tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert numbers.tolist() == [0, 1, 2, 3, 4, -1, -1, -1]


def test_canvases_of_sizes():
    rule = ResizeRule("short_edge", ((800, 1344), (1344, 800)))
    sizes = np.array([[480, 640], [640, 480], [480, 640], [500, 500]], np.int32)
    numbers = canvas_numbers(rule, sizes)
    expected = [rule.canvas_of(height, width) for height, width in sizes.tolist()]
    assert numbers.tolist() == expected and set(expected) == {0, 1}
    one = ResizeRule("canvas", ((64, 96),))
    assert canvas_numbers(one, sizes).tolist() == [0] * 4


@pytest.mark.parametrize("kind", ["first", "last"])
def test_which_are_left_out_follows_the_order_not_the_canvas(kind):
    """What waits at the end goes in the order of the epoch: no canvas is always left out."""
    canvases = np.array([0, 1, 0, 1, 0])
    order = np.arange(5) if kind == "first" else np.arange(5)[::-1]
    plan = plan_epoch(order, canvases, 4)
    assert plan.images.tolist() == [order[:4].tolist()]
    assert plan.canvases.tolist() == [0]


def test_how_often_a_picture_has_come_before():
    assert repeats_in(np.array([3, 1, 3, 3, 0, 1])).tolist() == [0, 0, 1, 2, 0, 1]
    assert repeats_in(np.empty(0, np.int64)).tolist() == []


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40).map(np.array), st.data())
def test_repeated_pictures_are_planned_place_by_place(order, data):
    """Each time a picture comes it has its own number, in all parts of an epoch together once."""
    canvases = np.array(data.draw(st.lists(st.integers(0, 2), min_size=6, max_size=6)))
    batch = data.draw(st.integers(1, len(order)))
    end = data.draw(st.integers(0, len(order) // batch))
    other = data.draw(st.integers(1, len(order)))
    plan = plan_epoch(order, canvases, batch)
    assert plan.images.shape == plan.repeats.shape == (len(order) // batch, batch)
    done = plan.between(0, end)
    rest = plan_epoch(order, canvases, other, [(batch, end)])
    seen = [
        pair
        for part in (done, rest)
        for pair in zip(part.images.flat, part.repeats.flat, strict=True)
    ]
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(zip(order, repeats_in(order), strict=True))
    full = sum(np.bincount(canvases[order]) // batch)
    assert (canvases[plan.images] == plan.canvases[:, None])[:full].all()
