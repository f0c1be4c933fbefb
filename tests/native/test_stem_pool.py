# SPDX-License-Identifier: Apache-2.0
"""ReLU and max pooling of the stem in one pass, against NumPy and the Cell it stands in for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.native.test_native import BUILT, behind, call, needs_operators, numbers, result_of

sizes = st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 40), st.integers(0, 99))


def tiles_of(image, before):
    """(B, C, H, W), no number below 0 -> (B, C, H / 2, W / 2, 9): its windows, zeros outside."""
    edge = (before, 1 - before)
    padded = np.pad(image, ((0, 0), (0, 0), edge, edge))
    found = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return found[:, :, ::2, ::2].reshape(*found.shape[:2], *(n // 2 for n in image.shape[2:]), 9)


@needs_operators
@settings(max_examples=40)
@given(sizes, st.sampled_from([0, 1]), st.booleans())
def test_the_maximum_of_each_window_and_its_gradient(size, before, tight):
    batch, height, width, seed = size
    rng = np.random.default_rng(seed)
    shape, half = (batch, 3, 2 * height, 2 * width), (batch, 3, height, width)
    image, gradient = numbers(rng, *shape), numbers(rng, *half)
    cells = rng.integers(1, shape[2:], (batch, 2), endpoint=True).astype(np.float32)
    hidden = behind(cells, shape) & tight
    hidden_half = behind((cells + 1) // 2, half) & tight
    windows = tiles_of(np.where(hidden, 0, np.maximum(image, 0)), before)
    expected = np.where(hidden_half, 0, windows.max(-1))
    image[hidden], gradient[hidden_half] = np.nan, np.nan  # not to be read
    place, more = np.int32([before]), [cells] if tight else []
    np.testing.assert_array_equal(result_of("pool_stem", half, image, place, *more), expected)

    of_image = result_of("pool_stem_gradient", shape, image, place, gradient, *more)
    takes = np.argwhere(expected > 0)
    rows, columns = np.divmod(windows.argmax(-1)[tuple(takes.T)], 3)
    plain = np.zeros(shape)
    at = (
        takes[:, 0],
        takes[:, 1],
        2 * takes[:, 2] + rows - before,
        2 * takes[:, 3] + columns - before,
    )
    np.add.at(plain, at, gradient[tuple(takes.T)])
    np.testing.assert_allclose(of_image, plain, rtol=1e-6, atol=1e-6)


@needs_operators
def test_it_hides_no_nan():
    """A training that diverges must show it."""
    image = np.ones((1, 1, 4, 4), np.float32)
    image[0, 0, 2, 2] = np.nan
    result = np.zeros((1, 1, 2, 2), np.float32)
    call("pool_stem", image, np.int32([1]), result)
    assert np.isnan(result[0, 0]).tolist() == [[False, False], [False, True]]


@needs_operators
@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("tight", [False, True])
def test_the_cell_computes_the_same_with_it(padding, tight):
    from mindspore import Tensor, nn, ops

    from src.FasterRcnn.resnet import StemPool
    from src.native.operators import use_native_operators

    class Step(nn.Cell):
        def __init__(self, pool):
            super().__init__()
            self.pool = pool
            self.step = ops.value_and_grad(self.total, 0)

        def total(self, x, shown, cells):
            return (self.pool(x, cells) ** 2 * shown).sum()

        def construct(self, x, shown, cells=None):
            return self.step(x, shown, cells)

    rng = np.random.default_rng(0)
    x, cells = numbers(rng, 2, 3, 16, 32), np.float32([[8, 32], [16, 16]])
    shown = np.ones((2, 3, 8, 16), np.float32)
    if tight:  # the windows of cells just behind the own canvas reach into it: nobody reads them
        shown[behind(cells / 2, shown.shape)] = 0
    inputs = [Tensor(x), Tensor(shown), *([Tensor(cells)] if tight else [])]
    results = []
    for native in (True, False):
        pool = StemPool(padding)
        assert not native or use_native_operators(pool, BUILT) == 1
        total, gradient = Step(pool)(*inputs)
        results.append((total.asnumpy(), gradient.asnumpy()))
    for own, plain in zip(*results, strict=True):
        np.testing.assert_allclose(own, plain, rtol=1e-5, atol=1e-6)
