# SPDX-License-Identifier: Apache-2.0
"""ReLU and shortcuts in the pass that writes a convolution's results."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.native.test_native import BUILT, needs_operators, numbers, result_of

NAMES = ("conv3x3", "strided3x3", "conv1x1", "strided1x1")
sizes = st.tuples(st.integers(1, 2), st.integers(1, 13), st.integers(1, 70), st.integers(0, 99))


@needs_operators
@settings(max_examples=40)
@given(sizes, st.sampled_from(NAMES), st.booleans(), st.booleans())
def test_relu_and_shortcut_change_no_bit(size, name, rounds, tight):
    """The same numbers as in passes of their own, behind the own canvas zeros."""
    batch, height, width, seed = size
    rng = np.random.default_rng(seed)
    side, step = (3 if "3x3" in name else 1), (2 if name.startswith("strided") else 1)
    image, weight = numbers(rng, batch, 32, height, width), numbers(rng, 64, 32, side, side)
    cells = rng.integers(1, (height, width), (batch, 2), endpoint=True).astype(np.float32)
    more = (numbers(rng, 64), *([cells] if tight else []))
    shape = (batch, 64, -(-height // step), -(-width // step))
    name += "_bf16" if rounds else ""
    plain = result_of(name, shape, image, weight, *more)
    assert (plain < 0).any() or plain.size < 999
    positive = result_of(f"{name}_relu", shape, image, weight, *more)
    np.testing.assert_array_equal(positive, np.maximum(plain, 0))
    if side == 1:
        shortcut = numbers(rng, *shape)
        there = result_of(name, shape, np.ones_like(image), np.ones_like(weight), *more[1:]) > 0
        expected = np.where(there, np.maximum(plain + shortcut, 0), 0)
        result = result_of(f"{name}_relu", shape, image, weight, *more, shortcut)
        np.testing.assert_array_equal(result, expected)


@needs_operators
@pytest.mark.parametrize("name", NAMES)
def test_relu_hides_no_nan(name):
    """A training that diverges must show it."""
    side = 3 if "3x3" in name else 1
    image, weight = np.ones((1, 32, 2, 2), np.float32), np.ones((32, 32, side, side), np.float32)
    image[0, 0, 0, 0] = np.nan
    shape = (1, 32, *((1, 1) if name.startswith("strided") else (2, 2)))
    assert np.isnan(result_of(f"{name}_relu", shape, image, weight)[:, :, 0, 0]).all()


@needs_operators
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("past", [True, False])
def test_gradients_go_through_relu_and_shortcut(kernel, past):
    from mindspore import Tensor, nn, ops

    from src.FasterRcnn.layers import activate, conv2d
    from src.native.operators import use_native_operators

    class Step(nn.Cell):
        def __init__(self, conv):
            super().__init__(auto_prefix=False)
            self.conv = conv
            self.step = ops.value_and_grad(self.total, (0, 1, 2, 3))

        def total(self, x, weight, bias, shortcut):
            shortcut = shortcut * 1.0 if past else None
            return (activate(self.conv, x, weight, bias, None, shortcut) ** 2).sum()

        def construct(self, *inputs):
            return self.step(*inputs)

    rng = np.random.default_rng(0)
    inputs = [numbers(rng, 2, 32, 5, 9), numbers(rng, 64, 32, kernel, kernel), numbers(rng, 64)]
    inputs = [Tensor(array) for array in (*inputs, numbers(rng, 2, 64, 5, 9))]
    results = []
    for native in (True, False):
        conv = conv2d(32, 64, kernel)
        assert not native or use_native_operators(conv, BUILT) == 1
        total, gradients = Step(conv)(*inputs)
        results.append([out.asnumpy() for out in (total, *gradients)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-2)


@needs_operators
@pytest.mark.parametrize("depth", [1, 2])
def test_an_rpn_head_computes_the_same_in_fewer_maps(depth):
    """ReLU with the convolution, logits and deltas in one: the same results and gradients."""
    from mindspore import ParameterTuple, Tensor, nn, ops

    from src.FasterRcnn.rpn import RpnRegClsBlock
    from src.native.operators import use_native_operators
    from tests.helpers.network_helpers import fill_by_recipe

    class Step(nn.Cell):
        def __init__(self, head):
            super().__init__(auto_prefix=False)
            self.head = head
            weights = ParameterTuple(head.trainable_params())
            self.step = ops.value_and_grad(self.total, 0, weights, has_aux=True)

        def total(self, x):
            logits, deltas = self.head(x)
            return (logits**2).sum() + (deltas**2).sum(), logits, deltas

        def construct(self, x):
            return self.step(x)

    x = Tensor(numbers(np.random.default_rng(0), 2, 32, 5, 9))
    results = []
    for native in (True, False):
        head = RpnRegClsBlock(32, 32, 3, depth)
        fill_by_recipe(head)
        if native:
            assert use_native_operators(head, BUILT) > depth + 2
        outputs, (of_x, of_weights) = Step(head)(x)
        results.append([out.asnumpy() for out in (*outputs, of_x, *of_weights)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())
