# SPDX-License-Identifier: Apache-2.0
"""Products in bfloat16: the C++ operators against float64, and when they are used."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.model_utils import cpu_operators, device_adapter
from src.model_utils.config import load_config
from src.native import build
from tests.native.test_native import BUILT, behind, needs_operators, numbers, result_of, windows

sizes = st.tuples(st.integers(1, 3), st.integers(1, 23), st.integers(1, 70), st.integers(0, 99))


def rounded(numbers_in):
    """The nearest numbers in bfloat16, of two the even one, as float64."""
    bits = np.ascontiguousarray(numbers_in, np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def close_to_sums(result, expected):
    """Whether float32 sums of exact products are what they should be."""
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=3e-6 * scale)


def on_canvas(rng, shape, step=1):
    """A map that is not a number behind its own canvas, its float64 form with zeros, the mask."""
    cells = rng.integers(1, shape[2:], (shape[0], 2), endpoint=True).astype(np.float32)
    small = (*shape[:2], -(-shape[2] // step), -(-shape[3] // step))
    masks = behind(cells, shape), behind((cells + step - 1) // step, small)
    return cells, small, masks


@needs_operators
@settings(max_examples=30)
@given(sizes, st.sampled_from([(32, 64), (608, 32), (32, 3), (64, 13)]), st.sampled_from([1, 2]))
def test_pointwise_products_are_those_of_rounded_factors(size, channels, step):
    batch, height, width, seed = size
    rng = np.random.default_rng(seed)
    inputs, outputs = channels
    shape = (batch, inputs, height, width)
    cells, small, (hidden, hidden_gradient) = on_canvas(rng, shape, step)
    image, gradient = numbers(rng, *shape), numbers(rng, batch, outputs, *small[2:])
    weight, bias = numbers(rng, outputs, inputs, 1, 1), numbers(rng, outputs)
    hidden_gradient = np.broadcast_to(hidden_gradient[:, :1], gradient.shape)
    seen = rounded(np.where(hidden, 0, image))[:, :, ::step, ::step]
    seen_gradient = rounded(np.where(hidden_gradient, 0, gradient))
    image[hidden], gradient[hidden_gradient] = np.nan, np.nan
    table = rounded(weight)[:, :, 0, 0]
    name, first = ("strided1x1_bf16", [image]) if step == 2 else ("conv1x1_bf16", [])

    expected = np.einsum("bchw,oc->bohw", seen, table) + bias[:, None, None]
    expected[hidden_gradient] = 0
    close_to_sums(result_of(name, expected.shape, image, weight, bias, cells), expected)
    of_image = np.zeros(shape)
    of_image[:, :, ::step, ::step] = np.einsum("bohw,oc->bchw", seen_gradient, table)
    inputs_of_gradient = (*first, gradient, weight, cells)
    close_to_sums(result_of(f"{name}_input_gradient", shape, *inputs_of_gradient), of_image)
    of_weight = np.einsum("bchw,bohw->oc", seen, seen_gradient).reshape(weight.shape)
    found_weight = result_of(f"{name}_weight_gradient", weight.shape, image, gradient, cells)
    close_to_sums(found_weight, of_weight)


@needs_operators
@settings(max_examples=20)
@given(sizes)
def test_strided_products_are_those_of_rounded_factors(size):
    batch, height, width, seed = size
    rng = np.random.default_rng(seed)
    inputs, outputs = (BUILT.channels * int(n) for n in rng.integers(1, 3, 2))
    shape = (batch, inputs, height, width)
    cells, small, (hidden, hidden_gradient) = on_canvas(rng, shape, 2)
    image, gradient = numbers(rng, *shape), numbers(rng, batch, outputs, *small[2:])
    weight = numbers(rng, outputs, inputs, 3, 3)
    hidden_gradient = np.broadcast_to(hidden_gradient[:, :1], gradient.shape)
    seen = windows(rounded(np.where(hidden, 0, image)))[:, :, ::2, ::2]
    whole = np.zeros((batch, outputs, height, width))
    whole[:, :, ::2, ::2] = rounded(np.where(hidden_gradient, 0, gradient))
    image[hidden], gradient[hidden_gradient] = np.nan, np.nan

    expected = np.einsum("bchwij,ocij->bohw", seen, rounded(weight), optimize=True)
    expected[hidden_gradient] = 0
    close_to_sums(result_of("strided3x3_bf16", gradient.shape, image, weight, cells), expected)
    turned = rounded(weight)[:, :, ::-1, ::-1]
    of_image = np.einsum("bohwij,ocij->bchw", windows(whole), turned, optimize=True)
    of_image[hidden] = 0
    name = "strided3x3_bf16_input_gradient"
    close_to_sums(result_of(name, shape, image, gradient, weight, cells), of_image)
    name, inputs_of_gradient = "strided3x3_bf16_weight_gradient", (image, gradient, cells)
    of_weight = np.einsum("bchwij,bohw->ocij", seen, whole[:, :, ::2, ::2], optimize=True)
    close_to_sums(result_of(name, weight.shape, *inputs_of_gradient), of_weight)


@needs_operators
@settings(max_examples=15)
@given(
    st.integers(1, 70),
    st.sampled_from([(32, 64), (64, 32), (1088, 32), (32, 1600)]),
    st.integers(0, 99),
)
def test_dense_products_are_those_of_rounded_factors(examples, sides, seed):
    rng = np.random.default_rng(seed)
    inputs, outputs = sides
    x, weight = numbers(rng, examples, inputs), numbers(rng, inputs, outputs)
    bias, gradient = numbers(rng, outputs), numbers(rng, examples, outputs)
    result = result_of("dense_bf16", gradient.shape, x, weight, bias)
    close_to_sums(result, rounded(x) @ rounded(weight) + bias)
    of_x = result_of("dense_bf16_input_gradient", x.shape, gradient, weight)
    close_to_sums(of_x, rounded(gradient) @ rounded(weight).T)
    of_weight = result_of("dense_bf16_weight_gradient", weight.shape, x, gradient)
    close_to_sums(of_weight, rounded(x).T @ rounded(gradient))


@needs_operators
def test_dense_gradients_of_more_examples_than_are_multiplied_together():
    rng = np.random.default_rng(0)
    x, gradient = numbers(rng, 2051, 1568), numbers(rng, 2051, 32)
    of_weight = result_of("dense_bf16_weight_gradient", (1568, 32), x, gradient)
    close_to_sums(of_weight, rounded(x).T @ rounded(gradient))


@needs_operators
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("shape", [(1, 64, 24, 40), (2, 128, 13, 9), (1, 32, 1, 1)])
def test_winograd_in_bfloat16_makes_at_most_twice_the_error_of_plain_products(shape, positive):
    """Of maps as they come from a ReLU, too: their differences are small, their sums large."""
    rng = np.random.default_rng(0)
    image = np.maximum(numbers(rng, *shape), 0) if positive else numbers(rng, *shape)
    weight, gradient = numbers(rng, shape[1], shape[1], 3, 3), numbers(rng, *shape)
    turned = weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    spec, of_weight = "bchwij,ocij->bohw", "bchwij,bohw->ocij"
    for name, inputs, formula, factors, out in (
        ("conv3x3_bf16", (image, weight), spec, (image, weight), shape),
        ("conv3x3_bf16_input_gradient", (gradient, weight), spec, (gradient, turned), shape),
        (
            "conv3x3_bf16_weight_gradient",
            (image, gradient),
            of_weight,
            (image, gradient),
            weight.shape,
        ),
    ):
        first, second = factors
        exact = np.einsum(formula, windows(first), second.astype(np.float64), optimize=True)
        plain = np.einsum(formula, windows(rounded(first)), rounded(second), optimize=True)
        error, usual = (
            np.sqrt(np.square(a - exact).mean()) for a in (result_of(name, out, *inputs), plain)
        )
        assert 0 < error <= 2 * usual, name


@needs_operators
def test_winograd_in_bfloat16_neither_reads_nor_writes_behind_the_own_canvas():
    rng = np.random.default_rng(0)
    shape = (2, 32, 9, 21)
    image, weight, gradient = numbers(rng, *shape), numbers(rng, 32, 32, 3, 3), numbers(rng, *shape)
    cells = np.float32([[7, 20], [9, 5]])
    hidden = behind(cells, shape)
    shown = [np.where(hidden, 0, array).astype(np.float32) for array in (image, gradient)]
    image[hidden], gradient[hidden] = np.nan, np.nan
    result = result_of("conv3x3_bf16", shape, image, weight, cells)
    whole = result_of("conv3x3_bf16", shape, shown[0], weight)
    np.testing.assert_array_equal(result, np.where(hidden, 0, whole))
    of_image = result_of("conv3x3_bf16_input_gradient", shape, gradient, weight, cells)
    whole = result_of("conv3x3_bf16_input_gradient", shape, shown[1], weight)
    np.testing.assert_array_equal(of_image, np.where(hidden, 0, whole))
    name = "conv3x3_bf16_weight_gradient"
    of_weight = result_of(name, weight.shape, image, gradient, cells)
    whole = result_of(name, weight.shape, *shown)
    np.testing.assert_allclose(of_weight, whole, rtol=0, atol=0.02 * np.abs(whole).max())


@needs_operators
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_no_number_stays_none(value):
    """A training that diverges must show it."""
    image, weight = np.ones((1, 32, 1, 1), np.float32), np.ones((32, 32, 1, 1), np.float32)
    image[0, 3] = value
    np.testing.assert_array_equal(result_of("conv1x1_bf16", image.shape, image, weight), value)


@needs_operators
def test_convolutions_take_them_when_the_library_shall():
    from src.FasterRcnn.layers import Dense, conv2d
    from src.native.convolutions import NativeConv, conv_settings
    from src.native.dense import dense_settings

    rounds = BUILT._replace(bfloat16=True)
    for kernel, stride in ((3, 1), (3, 2), (1, 1), (1, 2)):
        conv = conv2d(32, 32, kernel, stride)
        for library, is_rounded in ((BUILT, False), (rounds, True)):
            own = NativeConv(library, *conv_settings(conv, library))
            for step in (own.forward, own.input_gradient, own.weight_gradient):
                assert ("_bf16" in step.func) == is_rounded
    grouped = NativeConv(rounds, *conv_settings(conv2d(32, 32, 3, groups=4), rounds))
    assert "_bf16" not in grouped.forward.func
    assert dense_settings(Dense(256, 256), rounds) is not None
    assert dense_settings(Dense(256, 256), BUILT) is dense_settings(Dense(256, 96), rounds) is None


def bf16(**changes):
    """A configuration with `compute_type: bf16` on a CPU."""
    changes = {"device_target": "CPU", "compute_type": "bf16", "cpu_kernels": "auto", **changes}
    return load_config([]).replace(**changes)


def operators(monkeypatch, **changes):
    """Let the machine have operators, with or without bfloat16."""
    library = build.Library(None, 32, 4)._replace(**changes)
    monkeypatch.setattr(build, "_try_once", lambda: (library, ""))
    device_adapter.say_once.cache_clear()


def test_a_processor_with_bfloat16_is_used_without_a_word(monkeypatch, capsys):
    operators(monkeypatch, has_bfloat16=True)
    assert cpu_operators.cpu_library(bf16()).bfloat16
    assert not cpu_operators.cpu_library(bf16(compute_type="auto")).bfloat16
    assert not cpu_operators.cpu_library(bf16(compute_type="fp32")).bfloat16
    assert cpu_operators.cpu_library(bf16(device_target="Ascend")) is None
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "reason"), [({}, "no AVX512-BF16"), ({"cpu_kernels": "off"}, "cpu_kernels is off")]
)
def test_without_it_one_line_says_so_and_float32_is_taken(monkeypatch, capsys, changes, reason):
    operators(monkeypatch)
    for _ in range(2):
        library = cpu_operators.cpu_library(bf16(**changes))
        assert library is None or not library.bfloat16
    (line,) = capsys.readouterr().err.splitlines()
    assert "compute_type bf16: computing in fp32" in line and reason in line


def test_training_says_when_bfloat16_would_be_faster(monkeypatch):
    operators(monkeypatch, has_bfloat16=True)
    (line,) = cpu_operators.faster_format(bf16(compute_type="auto"))
    assert "--compute_type bf16" in line
    for other in ({}, {"compute_type": "fp32"}, {"compute_type": "auto", "device_target": "GPU"}):
        assert not cpu_operators.faster_format(bf16(**other))
    operators(monkeypatch)
    assert not cpu_operators.faster_format(bf16(compute_type="auto"))


@needs_operators
@pytest.mark.slow
def test_a_training_step_in_bfloat16_is_close_to_one_in_float32():
    from src.detector import build_detector, build_loss
    from tests.helpers.network_helpers import (
        LOSSES,
        fill_by_recipe,
        small_batch,
        small_config,
        tensors,
    )

    losses = []
    for compute_type in ("fp32", "bf16"):
        config = small_config(backbone="resnet_v1.5_18", compute_type=compute_type)
        network = build_detector(config)
        fill_by_recipe(network)
        loss = build_loss(network, config)
        loss.set_train(False)
        losses.append([float(value.asnumpy()) for value in loss(*tensors(small_batch(64, 96, 2)))])
    # The second stage samples other RoIs as soon as two proposals change places.
    first_stage = np.array(losses)[:, [LOSSES.index(n) for n in ("rpn_loss", "rpn_cls", "rpn_reg")]]
    np.testing.assert_allclose(first_stage[1], first_stage[0], rtol=0.02)
    assert np.isfinite(losses).all()
    assert BUILT.has_bfloat16 is False or losses[0] != losses[1]
