# SPDX-License-Identifier: Apache-2.0
"""The moving average of weights: its formula, by both operators, and in the weights' place."""

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mindspore import Parameter, Tensor

from src.native.build import NotBuilt, library
from src.optimization.moving_average import MovingAverage, decay_at

ms.set_context(mode=ms.GRAPH_MODE)


def _library(kind):
    if kind == "MindSpore":
        return None
    try:
        return library()
    except NotBuilt as reason:
        pytest.skip(str(reason))


def _parameters():
    rng = np.random.default_rng(0)
    shapes = {"conv.weight": (300, 70, 3, 3), "bn.moving_mean": (7,), "fc.bias": (1,)}
    return [
        Parameter(Tensor(rng.standard_normal(shape), ms.float32), name=name)
        for name, shape in shapes.items()
    ]


@given(step=st.integers(0, 10**6), decay=st.floats(0, 0.999999))
def test_the_decay_rises_to_its_highest(step, decay):
    assert decay_at(step, decay) <= decay_at(step + 1, decay) <= decay
    assert decay_at(10**9, decay) == decay


@pytest.mark.parametrize("operators", ["MindSpore", "ours"])
def test_it_follows_its_formula(operators):
    parameters = _parameters()
    average = MovingAverage(parameters, 0.3, _library(operators))
    expected = [p.asnumpy().astype(np.float64) for p in parameters]
    rng = np.random.default_rng(1)
    for step in (1, 2, 3):
        for parameter in parameters:
            parameter.set_data(Tensor(rng.standard_normal(parameter.shape), ms.float32))
        average.take(step)
        decay = [0.1, 2 / 11, 3 / 12][step - 1]
        expected = [
            decay * before + (1 - decay) * p.asnumpy()
            for before, p in zip(expected, parameters, strict=True)
        ]
        for found, wanted in zip(average.averages, expected, strict=True):
            np.testing.assert_allclose(found.asnumpy(), wanted, rtol=1e-5, atol=1e-6)


def test_in_place_and_back_bit_for_bit():
    parameters = _parameters()
    average = MovingAverage(parameters, 0.9)
    for parameter in parameters:
        parameter.set_data(Tensor(parameter.asnumpy() + 1))
    average.take(1)
    trained = [p.asnumpy().copy() for p in parameters]
    averaged = [e.asnumpy().copy() for e in average.averages]
    with pytest.raises(KeyboardInterrupt), average.in_place():
        for parameter, expected in zip(parameters, averaged, strict=True):
            np.testing.assert_array_equal(parameter.asnumpy(), expected)
        raise KeyboardInterrupt
    for parameter, one, other in zip(parameters, trained, averaged, strict=True):
        np.testing.assert_array_equal(parameter.asnumpy(), one)
        assert (one != other).all()
    average.take(2)  # and it goes on from both
    for found, before, value in zip(average.averages, averaged, trained, strict=True):
        np.testing.assert_allclose(
            found.asnumpy(), before + (1 - 2 / 11) * (value - before), rtol=1e-5, atol=1e-6
        )


def test_it_begins_anew():
    parameters = _parameters()
    average = MovingAverage(parameters, 0.9)
    parameters[2].set_data(Tensor([5.0], ms.float32))
    average.begin()
    assert average.by_name()["fc.bias"].asnumpy().tolist() == [5.0]
