# SPDX-License-Identifier: Apache-2.0
"""The rounding of Winograd's filtering in float32, over maps that tiles fit and do not fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.native.test_native import behind, needs_operators, numbers, result_of, windows

BOUND = 2e-6  # of the result's root mean square; plain sums in float32 make up to 1e-6
sizes = st.tuples(st.integers(1, 3), st.integers(1, 45), st.integers(1, 45), st.integers(0, 99))


def relative_error(found, exact):
    """The root mean square of the error, in that of the exact numbers."""
    return np.sqrt(np.square(found - exact).mean() / np.square(exact).mean())


def check_errors(image, weight, gradient, cells):
    """Compare a convolution and both gradients with float64."""
    hidden = [behind(cells, array.shape) for array in (image, gradient)]
    seen, seen_gradient = (
        np.where(mask, 0, array).astype(np.float64)
        for mask, array in zip(hidden, (image, gradient), strict=True)
    )
    spec, of_weight = "bchwij,ocij->bohw", "bchwij,bohw->ocij"
    turned = weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    for suffix, inputs, formula, factors, mask in (
        ("", (image, weight), spec, (seen, weight), hidden[1]),
        ("_input_gradient", (gradient, weight), spec, (seen_gradient, turned), hidden[0]),
        ("_weight_gradient", (image, gradient), of_weight, (seen, seen_gradient), False),
    ):
        first, second = factors
        exact = np.einsum(formula, windows(first), second.astype(np.float64), optimize=True)
        exact[np.broadcast_to(mask, exact.shape)] = 0
        found = result_of(f"conv3x3{suffix}", exact.shape, *inputs, cells)
        assert relative_error(found, exact) < BOUND, suffix


@needs_operators
@settings(max_examples=30)
@given(sizes, st.sampled_from([(32, 64), (64, 32), (256, 32), (32, 256)]), st.booleans())
def test_errors_over_odd_shapes(size, channels, tight):
    batch, height, width, seed = size
    rng = np.random.default_rng(seed)
    inputs, outputs = channels
    lowest = 1 if tight else (height, width)
    cells = rng.integers(lowest, (height, width), (batch, 2), endpoint=True).astype(np.float32)
    image, weight = numbers(rng, batch, inputs, height, width), numbers(rng, outputs, inputs, 3, 3)
    check_errors(image, weight, numbers(rng, batch, outputs, height, width), cells)


@needs_operators
@pytest.mark.parametrize("shape", [(2, 256, 48, 80), (1, 512, 24, 40), (1, 32, 191, 321)])
def test_errors_of_maps_as_they_come_from_a_relu(shape):
    """Their sums are large beside their differences, which the transforms take."""
    rng = np.random.default_rng(0)
    image = np.maximum(numbers(rng, *shape), 0)
    weight, gradient = numbers(rng, 32, shape[1], 3, 3), numbers(rng, shape[0], 32, *shape[2:])
    check_errors(image, weight, gradient, np.float32([shape[2:]] * shape[0]))
