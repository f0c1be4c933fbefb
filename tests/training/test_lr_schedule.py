# SPDX-License-Identifier: Apache-2.0
"""Schedules by their definition: warm-up, milestones in epochs, cosine, the linear rule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.lr_schedule import learning_rates, scaled_rate, warmup_factors


def _rates(lr_type="step", **changes):
    options = dict(
        steps_per_epoch=10, epochs=6, warmup_steps=5, warmup_ratio=0.1, milestones=(4, 5.5)
    )
    return learning_rates(lr_type, 0.2, **{**options, **changes})


def test_step_schedule_with_warmup_and_fractional_milestone():
    rates = _rates()
    assert rates.dtype == np.float32 and rates.shape == (60,)
    np.testing.assert_allclose(rates[:6], 0.2 * np.array([0.1, 0.28, 0.46, 0.64, 0.82, 1.0]), 1e-6)
    np.testing.assert_allclose(rates[6:40], 0.2, rtol=1e-6)
    np.testing.assert_allclose(rates[40:55], 0.02, rtol=1e-6)
    np.testing.assert_allclose(rates[55:], 0.002, rtol=1e-6)


def test_dynamic_is_the_model_zoos_name_of_cosine():
    np.testing.assert_array_equal(_rates("dynamic"), _rates("cosine"))
    assert not np.array_equal(_rates("dynamic"), _rates("step"))


def test_cosine_ends_at_the_smallest_rate():
    rates = _rates("cosine", min_ratio=0.01)
    np.testing.assert_allclose(rates[5], 0.2, rtol=1e-6)
    np.testing.assert_allclose(rates[-1], 0.002, rtol=1e-5)
    np.testing.assert_allclose(rates[32], 0.2 * (0.01 + 0.99 * 0.5), rtol=1e-6)  # half way
    assert (np.diff(rates[5:]) <= 0).all()


def test_poly_falls_by_a_power_of_what_is_left():
    rates = _rates("poly", power=2.0, min_ratio=0.1)
    np.testing.assert_allclose(rates[5], 0.2, rtol=1e-6)
    np.testing.assert_allclose(rates[32], 0.2 * (0.1 + 0.9 * 0.25), rtol=1e-6)  # half way
    np.testing.assert_allclose(rates[-1], 0.02, rtol=1e-5)
    line = _rates("poly", power=1.0, warmup_steps=0)
    np.testing.assert_allclose(np.diff(line), -0.2 / 59, rtol=1e-3)


def test_cosines_with_restarts():
    """Cycles of 10, 20 and 40 steps, of which the run has 30."""
    rates = _rates("cosine_restarts", warmup_steps=0, restart_period=1, restart_factor=2)
    for first, length in ((0, 10), (10, 20), (30, 40)):
        steps = np.arange(first, min(first + length, 60))
        expected = 0.1 * (1 + np.cos(np.pi * (steps - first) / length))
        np.testing.assert_allclose(rates[steps], expected, rtol=1e-5, atol=1e-8)
    assert rates[0] == rates[10] == rates[30] == np.float32(0.2)


@pytest.mark.parametrize("hundredths", [10, 110, 70, 35, 230])
def test_cycles_of_fractions_of_an_epoch_begin_on_their_step(hundredths):
    """1.1 times 10 is more than 11 in floating point, which must not take a step more."""
    rates = _rates("cosine_restarts", warmup_steps=0, restart_period=hundredths / 100)
    starts = np.arange(0, 60 * 10, hundredths)  # tenths of a step
    expected = [0.1 * (1 + np.cos(np.pi * ((10 * n) % hundredths) / hundredths)) for n in range(60)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-8)
    assert (rates[starts[starts % 10 == 0] // 10] == np.float32(0.2)).all()


def test_many_milestones_of_a_long_run_need_little_memory():
    milestones = np.linspace(1, 1000, 1000)
    rates = _rates(epochs=2000, steps_per_epoch=1000, milestones=milestones, warmup_steps=0)
    assert rates[999] == np.float32(0.2) and rates[1000] == np.float32(0.02) and rates[-1] == 0


@given(period=st.floats(0.01, 9), factor=st.floats(1, 3), low=st.floats(0, 1))
def test_cycles_fall_and_only_then_begin_anew(period, factor, low):
    options = {"restart_period": period, "restart_factor": factor, "min_ratio": low}
    rates = _rates("cosine_restarts", warmup_steps=0, **options) / np.float32(0.2)
    assert (rates >= low - 1e-6).all() and rates[0] == rates.max() == 1
    rises = np.flatnonzero(np.diff(rates) > 1e-6) + 1
    cycles, start, length = [], 0.0, max(10 * period, 1.0)
    while start < 60:
        cycles.append(int(np.ceil(start - 1e-6)))
        start, length = start + length, length * factor
    assert set(rises) <= set(cycles)
    longer = _rates("cosine_restarts", warmup_steps=0, epochs=8, **options) / np.float32(0.2)
    np.testing.assert_array_equal(longer[:60], rates)


def test_no_warmup_begins_at_the_full_rate():
    assert _rates(warmup_steps=0)[0] == np.float32(0.2)


def test_a_run_shorter_than_its_warmup_never_reaches_the_full_rate():
    rates = _rates(warmup_steps=1000, milestones=())
    assert rates.shape == (60,) and (np.diff(rates) > 0).all() and rates[-1] < 0.2 * 0.16


def test_a_longer_run_begins_with_the_shorter_one():
    np.testing.assert_array_equal(_rates(epochs=8)[:60], _rates(epochs=6))
    for lr_type in ("cosine", "poly"):  # which end with the run
        assert not np.array_equal(_rates(lr_type, epochs=8)[:60], _rates(lr_type, epochs=6))


def test_milestones_after_the_end_change_nothing():
    np.testing.assert_array_equal(_rates(milestones=(50,)), _rates(milestones=()))


def test_linear_rule():
    assert scaled_rate(0.02, global_batch=4, base_batch=16) == pytest.approx(0.005)
    assert scaled_rate(0.02, global_batch=32, base_batch=16) == pytest.approx(0.04)
    with pytest.raises(ValueError, match="positive"):
        scaled_rate(0.02, global_batch=0, base_batch=16)


@pytest.mark.parametrize("changes", [{"lr_type": "zigzag"}, {"epochs": 0}, {"steps_per_epoch": 0}])
def test_impossible_schedules_are_refused(changes):
    with pytest.raises(ValueError):
        _rates(**changes)


@given(total=st.integers(1, 300), warmup=st.integers(0, 400), ratio=st.floats(0, 1))
def test_warmup_rises_from_its_ratio_to_one(total, warmup, ratio):
    factors = warmup_factors(total, warmup, ratio)
    assert factors.shape == (total,) and (np.diff(factors) >= 0).all()
    assert factors[0] == (ratio if warmup else 1.0)
    assert factors.max() <= 1.0 and (factors[warmup:] == 1.0).all()
