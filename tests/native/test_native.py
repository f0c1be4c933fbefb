# SPDX-License-Identifier: Apache-2.0
"""The C++ operators against plain formulas, and against the Cells whose place they take."""

import ctypes
import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.native import build
from tests.helpers.paths import REPO, importing

BUILT, WHY_NOT = build._try_once()
TRY_AGAIN = build._try_once.__wrapped__
needs_operators = pytest.mark.skipif(
    BUILT is None, reason=f"the C++ operators cannot be compiled: {WHY_NOT}"
)


def call(name, *arrays):
    """Call an operator as MindSpore does; the last arrays are written to."""
    count = len(arrays)
    addresses = (ctypes.c_void_p * count)(*(a.ctypes.data for a in arrays))
    sizes = (ctypes.c_int * count)(*(a.ndim for a in arrays))
    held = [(ctypes.c_int64 * a.ndim)(*a.shape) for a in arrays]
    shapes = (ctypes.c_void_p * count)(*(ctypes.addressof(shape) for shape in held))
    function = getattr(ctypes.CDLL(str(BUILT.path)), name)
    assert function(count, addresses, sizes, shapes, None, None, None) == 0


def result_of(name, shape, *inputs):
    """What an operator makes of its inputs."""
    result = np.full(shape, np.nan, np.float32)
    call(name, *inputs, result)
    return result


def numbers(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def windows(image):
    """(B, C, H, W) -> (B, C, H, W, 3, 3) float64, padded with zeros."""
    padded = np.pad(image.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))


sizes = st.tuples(st.integers(1, 3), st.integers(1, 23), st.integers(1, 70), st.integers(0, 99))


@needs_operators
@settings(max_examples=40)
@given(sizes, st.sampled_from([1, 2]))
def test_convolutions_and_their_gradients_are_the_plain_sums(size, stride):
    batch, height, width, seed = size
    rng = np.random.default_rng(seed)
    inputs, outputs = (BUILT.channels * int(n) for n in rng.integers(1, 3, 2))
    check_convolution(rng, (batch, inputs, height, width), outputs, stride)


@needs_operators
@settings(max_examples=40)
@given(sizes, st.sampled_from([1, 2]))
def test_convolutions_neither_read_nor_write_behind_the_own_canvas(size, stride):
    batch, height, width, seed = size
    rng = np.random.default_rng(seed)
    cells = rng.integers(1, (height, width), (batch, 2), endpoint=True).astype(np.float32)
    shape = (batch, BUILT.channels, height, width)
    check_convolution(rng, shape, BUILT.channels, stride, cells)


@needs_operators
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("inputs, outputs", [(256, 32), (32, 256)])
def test_convolutions_that_are_cut_into_blocks(stride, inputs, outputs):
    shape = (2, inputs, 11, 461)
    check_convolution(np.random.default_rng(0), shape, outputs, stride)
    cells = np.float32([[11, 203], [6, 460]])
    check_convolution(np.random.default_rng(0), shape, outputs, stride, cells)


def behind(cells, shape):
    """What is not there of a map of a shape, as a mask."""
    rows, columns = (np.arange(n) for n in shape[2:])
    there = (rows < cells[:, :1])[:, :, None] & (columns < cells[:, 1:])[:, None]
    return np.broadcast_to(~there[:, None], shape)


@needs_operators
@settings(max_examples=30)
@given(sizes, st.sampled_from([(32, 64), (64, 32), (608, 32), (32, 3), (64, 13)]), st.booleans())
def test_pointwise_convolutions_and_their_gradients_are_the_plain_sums(size, channels, strides):
    batch, height, width, seed = size
    rng = np.random.default_rng(seed)
    inputs, outputs = channels
    step = 2 if strides else 1
    cells = rng.integers(1, (height, width), (batch, 2), endpoint=True).astype(np.float32)
    image, weight = numbers(rng, batch, inputs, height, width), numbers(rng, outputs, inputs, 1, 1)
    bias = numbers(rng, outputs)
    gradient = numbers(rng, batch, outputs, -(-height // step), -(-width // step))
    not_there = behind(cells, image.shape), behind((cells + step - 1) // step, gradient.shape)
    shown, shown_gradient = (
        np.where(mask, 0, m).astype(np.float64)
        for mask, m in zip(not_there, (image, gradient), strict=True)
    )
    for mask, array in zip(not_there, (image, gradient), strict=True):
        array[mask] = np.nan
    seen, table = shown[:, :, ::step, ::step], weight[:, :, 0, 0].astype(np.float64)
    of_image = np.zeros_like(shown)
    of_image[:, :, ::step, ::step] = np.einsum("bohw,oc->bchw", shown_gradient, table)
    result = np.einsum("bchw,oc->bohw", seen, table) + bias[:, None, None]
    result[not_there[1]] = 0
    of_weight = np.einsum("bchw,bohw->oc", seen, shown_gradient).reshape(weight.shape)

    name, first = ("strided1x1", [image]) if strides else ("conv1x1", [])
    for suffix, given_inputs, expected in (
        ("", (image, weight, bias, cells), result),
        ("_input_gradient", (*first, gradient, weight, cells), of_image),
        ("_weight_gradient", (image, gradient, cells), of_weight),
    ):
        found = np.full(expected.shape, np.nan, np.float32)
        call(name + suffix, *given_inputs, found)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)


@needs_operators
@settings(max_examples=60)
@given(sizes, st.sampled_from([1, 2]), st.integers(2, 4), st.booleans())
def test_grouped_convolutions_and_their_gradients_are_the_plain_sums(size, stride, groups, tight):
    batch, height, width, seed = size
    rng = np.random.default_rng(seed)
    multiple = groups * BUILT.grouped_channels
    inputs, outputs = (multiple * int(n) for n in rng.integers(1, 4, 2))
    cells = rng.integers(1, (height, width), (batch, 2), endpoint=True).astype(np.float32)
    shape = (batch, inputs, height, width)
    check_convolution(rng, shape, outputs, stride, cells if tight else None, groups)


@needs_operators
@pytest.mark.parametrize("stride", [1, 2])
def test_grouped_convolutions_that_are_cut_into_bands(stride):
    rng = np.random.default_rng(0)
    check_convolution(rng, (2, 128, 61, 91), 64, stride, np.float32([[61, 91], [40, 33]]), 2)


def table_of_groups(weight, groups):
    """Weights of groups as those of one convolution, zeros between channels of other groups."""
    outputs, inputs = len(weight) // groups, weight.shape[1]
    table = np.zeros((len(weight), inputs * groups, *weight.shape[2:]), weight.dtype)
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        table[rows, group * inputs : (group + 1) * inputs] = weight[rows]
    return table


def check_convolution(rng, shape, outputs, stride, cells=None, groups=1):
    batch, inputs, height, width = shape
    image, weight = numbers(rng, *shape), numbers(rng, outputs, inputs // groups, 3, 3)
    name = {1: "conv3x3", 2: "strided3x3"}[stride]
    if groups > 1:
        name = {1: "grouped3x3", 2: "strided_grouped3x3"}[stride]
    table = table_of_groups(weight, groups)
    of_groups = table_of_groups(np.ones_like(weight), groups).astype(bool)
    steps = slice(None, None, stride)
    last = [] if cells is None else [cells]
    cells = np.float32([shape[2:]] * batch) if cells is None else cells

    image[behind(cells, image.shape)] = 0
    expected = np.einsum(
        "bchwij,ocij->bohw", windows(image)[:, :, steps, steps], table, optimize=True
    )
    not_there = behind((cells + stride - 1) // stride, expected.shape)
    bias = numbers(rng, outputs)
    image[behind(cells, image.shape)] = np.nan
    results = []
    for added in ([], [bias]):
        results.append(np.full(expected.shape, np.nan, np.float32))
        call(name, image, weight, *added, *last, results[-1])
    result, biased = results
    expected[not_there] = 0
    # float32 sums of products of numbers around 1: a few hundred, or as many times more
    atol = 2e-4 * np.sqrt(max(1, max(inputs, outputs) / (2 * BUILT.channels)))
    if name == "conv3x3":  # Winograd's F(4x4, 3x3): its usual error is bounded in test_winograd.py
        atol *= 2.5
    close = {"rtol": 1e-5, "atol": atol}
    np.testing.assert_allclose(result, expected, **close)
    np.testing.assert_allclose(
        biased, np.where(not_there, 0, expected + bias[:, None, None]), **close
    )

    gradient = numbers(rng, *expected.shape)
    gradient[not_there] = 0
    whole = np.zeros((batch, outputs, height, width), np.float32)
    whole[:, :, steps, steps] = gradient
    gradient[not_there] = np.nan
    of_image = np.full_like(image, np.nan)
    first = [image] if stride > 1 or groups > 1 else []
    call(f"{name}_input_gradient", *first, gradient, weight, *last, of_image)
    turned = table[:, :, ::-1, ::-1]
    expected = np.einsum("bohwij,ocij->bchw", windows(whole), turned, optimize=True)
    expected[behind(cells, expected.shape)] = 0
    np.testing.assert_allclose(of_image, expected, **close)

    of_weight = np.full_like(weight, np.nan)
    call(f"{name}_weight_gradient", image, gradient, *last, of_weight)
    image[behind(cells, image.shape)] = 0
    expected = np.einsum("bchwij,bohw->ocij", windows(image), whole, optimize=True)
    expected = expected[of_groups].reshape(weight.shape)
    atol = 1e-3 * np.sqrt(max(1, batch * height * width / (3 * 23 * 70)))
    np.testing.assert_allclose(of_weight, expected, rtol=1e-5, atol=atol)


def axis_weights(start, length, size, bins, samples, cells):
    """(bins, cells) float64: what each cell of a line adds to each bin's average."""
    number = samples or max(0, int(np.ceil(np.float32(length) / np.float32(bins))))
    weights = np.zeros((bins, cells))
    for bin_, sample in np.ndindex(bins, number):
        position = start + length * (bin_ * number + sample + 0.5) / (bins * number)
        if -1 <= position <= size:
            distance = abs(np.arange(size) - min(max(position, 0), size - 1))
            weights[bin_, : int(size)] += np.maximum(0, 1 - distance) / number
    return weights


@needs_operators
@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(0, 3), st.integers(1, 4), st.integers(0, 99))
def test_pool_averages_samples_and_its_gradient_spreads_them(channels, samples, bins, seed):
    """Regions of two maps, of less than a cell to more than the map, at and beyond its border."""
    rng = np.random.default_rng(seed)
    maps = [numbers(rng, 2, channels, *rng.integers(1, 12, 2)) for _ in range(2)]
    starts = np.cumsum([0] + [m[:, 0].size for m in maps])
    boxes, places, expected = [], [], []
    gradient = numbers(rng, 6, channels, bins, bins)
    spread = [np.zeros(m.shape) for m in maps]
    for region in range(6):
        level, image = rng.integers(0, 2, 2)
        height, width = maps[level].shape[2:]
        sizes = rng.integers(1, (height + 1, width + 1))
        box = np.float32([*rng.uniform(-3, 9, 2), *rng.choice([-0.5, 0, 0.3, 2, 7.5, 14], 2)])
        boxes.append(box)
        places.append([starts[level] + image * height * width, width, *sizes])
        rows, columns = (
            axis_weights(float(box[a]), float(box[2 + a]), sizes[a], bins, samples, cells)
            for a, cells in enumerate((height, width))
        )
        expected.append(np.einsum("ay,cyx,bx->cab", rows, maps[level][image], columns))
        spread[level][image] += np.einsum("ay,cab,bx->cyx", rows, gradient[region], columns)
    inputs = *maps, np.float32(boxes), np.int32(places), np.int32([samples])

    result = np.full(gradient.shape, np.nan, np.float32)
    call("pool", *inputs, result)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=2e-5)
    found = [np.full_like(m, np.nan) for m in maps]
    call("pool_gradient", *inputs, gradient, *found)
    for one, other in zip(found, spread, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-5)


@needs_operators
@pytest.mark.parametrize("box", [(0, 0, np.nan, 1), (np.nan, 0, 1, 1), (0, 0, np.inf, 1)])
def test_a_region_that_is_no_number_pools_to_zeros(box):
    result = np.full((1, 1, 2, 2), np.nan, np.float32)
    image, place = np.ones((1, 1, 4, 4), np.float32), np.int32([[0, 4, 4, 4]])
    call("pool", image, np.float32([box]), place, np.int32([0]), result)
    assert (result == 0).all()


@needs_operators
def test_zeros_behind_the_own_canvas():
    image, cells = numbers(np.random.default_rng(0), 2, 3, 4, 7), np.float32([[4, 5], [2, 7]])
    result = np.full_like(image, np.nan)
    call("zero_behind", image, cells, result)
    np.testing.assert_array_equal(result, np.where(behind(cells, image.shape), 0, image))


@needs_operators
def test_add_upsampled():
    rng = np.random.default_rng(0)
    fine, coarse = numbers(rng, 2, 3, 6, 10), numbers(rng, 2, 3, 3, 5)
    result = np.empty_like(fine)
    call("add_upsampled", fine, coarse, result)
    np.testing.assert_array_equal(result, fine + coarse.repeat(2, 2).repeat(2, 3))
    of_coarse = np.empty_like(coarse)
    call("add_upsampled_gradient", fine, of_coarse)
    blocks = fine.reshape(2, 3, 3, 2, 5, 2).astype(np.float64)
    np.testing.assert_allclose(of_coarse, blocks.sum((3, 5)), rtol=1e-5, atol=1e-6)


@needs_operators
def test_a_folded_norm_has_the_bits_of_mindspores_operators():
    rng = np.random.default_rng(0)
    weight, gamma, beta, mean = (numbers(rng, 50, 3, 3, 3), *numbers(rng, 3, 50))
    variance, eps = numbers(rng, 50) ** 2, np.float32([1e-5])
    scale = gamma / np.sqrt(variance + eps)
    folded, bias = np.empty_like(weight), np.empty_like(beta)
    call("fold_norm", weight, gamma, beta, mean, variance, eps, folded, bias)
    np.testing.assert_array_equal(folded, weight * scale[:, None, None, None])
    np.testing.assert_array_equal(bias, beta - mean * scale)
    of_weight = np.empty_like(weight)
    call("fold_norm_gradient", weight, gamma, variance, eps, of_weight)
    np.testing.assert_array_equal(of_weight, folded)


def normalised(image, scale, shift, groups, shown):
    """Result, means and variances in float64; `groups` 0: over the batch."""
    batch, channels = image.shape[:2]
    sets = (batch, groups) if groups else (1, channels)
    axes = (2, 3, 4) if groups else (0, 2, 3, 4)
    split = (batch, groups or channels, -1, *image.shape[2:])
    image, shown = (np.broadcast_to(a, image.shape).reshape(split) for a in (image, shown))
    count = shown.sum(axes, keepdims=True)
    mean = (image * shown).sum(axes, keepdims=True) / count
    variance = ((image - mean) ** 2 * shown).sum(axes, keepdims=True) / count
    result = ((image - mean) * shown / np.sqrt(variance + 1e-5)).reshape(
        batch, channels, *split[3:]
    )
    result = result * scale[:, None, None] + shift[:, None, None]
    return result, mean.reshape(sets).ravel(), variance.reshape(sets).ravel()


@needs_operators
@settings(max_examples=30)
@given(sizes, st.sampled_from([(3, 0), (6, 2), (8, 8)]), st.booleans())
def test_normalisation_and_its_gradients_are_the_plain_formula(size, kind, tight):
    batch, height, width, seed = size
    channels, groups = kind
    rng = np.random.default_rng(seed)
    image = numbers(rng, batch, channels, height, width) * 3 + 20
    scale, shift, gradient = (
        numbers(rng, channels),
        numbers(rng, channels),
        numbers(rng, *image.shape),
    )
    cells = rng.integers(1, (height, width), (batch, 2), endpoint=True).astype(np.float32)
    if batch > 1 and groups == 0:
        cells[0] = 0  # nothing of the first image counts
    shown = ~behind(cells, image.shape) | (not tight)
    last, sets = [cells] if tight else [], batch * groups or channels
    options = np.float32([groups, 1e-5])
    got = [np.full_like(image, np.nan), *np.full((2, sets), np.nan, np.float32)]
    call("normalise", image, scale, shift, options, *last, *got)
    exact = [a.astype(np.float64) for a in (image, scale, shift)]
    want = normalised(*exact, groups, shown)
    np.testing.assert_allclose(got[0] * shown, want[0] * shown, rtol=1e-4, atol=2e-4)
    assert not got[0][~shown].any()
    np.testing.assert_allclose(got[1], want[1], rtol=1e-6)
    np.testing.assert_allclose(got[2], want[2], rtol=1e-4, atol=1e-5)

    of = [np.full_like(a, np.nan) for a in (image, scale, shift)]
    gradient[~shown] = np.nan  # is not read
    call("normalise_gradient", image, scale, options, *got[1:], gradient, *last, *of)
    step = [numbers(rng, *a.shape).astype(np.float64) for a in exact]
    ends = [
        normalised(*(a + sign * 1e-4 * d for a, d in zip(exact, step, strict=True)), groups, shown)
        for sign in (1, -1)
    ]
    slope = (ends[0][0] - ends[1][0]) / 2e-4
    along = sum((a * d).sum() for a, d in zip(of, step, strict=True))
    if want[2].min() > 1e-3:  # of a single cell the formula is nearly a step
        size = np.abs(slope * np.where(shown, gradient, 0)).sum() + 1
        assert abs(along - (slope * np.where(shown, gradient, 0)).sum()) < 2e-4 * size
    assert not of[0][~shown].any()


@needs_operators
@settings(max_examples=15)
@given(sizes, st.integers(1, 20), st.booleans())
def test_per_anchor_is_the_transpose_and_hides_what_is_not_there(size, anchors, tight):
    batch, height, width, seed = size
    rng = np.random.default_rng(seed)
    cells = rng.integers(1, (height, width), (batch, 2), endpoint=True).astype(np.float32)
    logits, deltas = (numbers(rng, batch, n * anchors, height, width) for n in (1, 4))
    hidden = behind(cells, logits.shape) & tight
    last = [cells] if tight else []

    def per_anchor(maps):
        count = height * width * anchors
        return maps.transpose(0, 2, 3, 1).reshape(batch, count, maps.shape[1] // anchors)

    results = [np.full(per_anchor(maps).shape, np.nan, np.float32) for maps in (logits, deltas)]
    call("per_anchor", logits, deltas, np.float32([-7]), *last, results[0][..., 0], results[1])
    np.testing.assert_array_equal(results[0], per_anchor(np.where(hidden, -7, logits)))
    np.testing.assert_array_equal(results[1], per_anchor(deltas))

    of_maps = np.full_like(logits, np.nan), np.full_like(deltas, np.nan)
    call("per_anchor_gradient", logits, results[0][..., 0], results[1], *last, *of_maps)
    np.testing.assert_array_equal(of_maps[0], np.where(hidden, 0, logits))
    np.testing.assert_array_equal(of_maps[1], deltas)


@needs_operators
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_anchor_overlaps_are_those_of_the_table(offset):
    from mindspore import Tensor

    from src.FasterRcnn.anchor_generator import pyramid_anchors
    from src.FasterRcnn.matcher import AnchorOverlaps
    from src.FasterRcnn.names import feature_shapes
    from src.native import operators

    strides = (4, 8, 16, 32, 64)
    anchors = np.concatenate(
        pyramid_anchors(
            feature_shapes(96, 128, strides), strides, [8], [0.5, 1.0, 2.0], offset, True
        )
    )
    rng = np.random.default_rng(3)
    corners = rng.uniform(0, 100, (3, 12, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 60, (3, 12, 2))], -1).round(1)
    boxes[0, 1] = boxes[0, 0]  # two boxes with the same best anchors
    kinds = rng.integers(0, 3, (3, 12))  # padding, box, crowd region
    kinds[0, :2], kinds[2] = 1, 0  # an image without boxes
    usable = rng.uniform(size=(3, len(anchors))) < 0.7
    arrays = anchors.astype(np.float32), boxes.astype(np.float32), kinds == 1, kinds == 2, usable
    inputs = [Tensor(array) for array in arrays]
    expected = AnchorOverlaps(offset, 0.3)(*inputs)
    found = operators.NativeAnchorOverlaps(BUILT, offset, 0.3)(*inputs)
    for name, one, other in zip(
        ("best", "gt_index", "best_of", "in_crowd"), found, expected, strict=True
    ):
        np.testing.assert_array_equal(one.asnumpy(), other.asnumpy(), err_msg=name)
    assert (found[2].asnumpy() > 0).any() and (found[3].asnumpy() > 0).any()


@needs_operators
@pytest.mark.slow
def test_a_network_computes_the_same_with_them_and_with_gradients(monkeypatch):
    import mindspore as ms
    from mindspore import Tensor

    from src.detector import build_detector, build_loss
    from src.network_define import TrainOneStep, make_optimizer
    from tests.helpers.network_helpers import small_config, tiny_backbone

    monkeypatch.setattr("src.detector.build_backbone", tiny_backbone)
    config = small_config(64, 96, 3)
    rng = np.random.default_rng(0)
    boxes = np.zeros((1, config.num_gts, 4), np.float32)
    boxes[0, :2] = [[4, 6, 40, 44], [30, 10, 90, 60]]
    labels = (boxes[..., 2] > 0).astype(np.int32)
    batch = (
        numbers(rng, 1, 3, 64, 96),
        np.float32([[64, 96, 1, 1]]),
        boxes,
        labels,
        labels > 0,
        labels > 9,
        np.int32([5]),
    )
    results = []
    for kernels in ("off", "auto"):
        ms.set_seed(7)
        own = config.replace(cpu_kernels=kernels)
        network = build_detector(own)
        optimizer = make_optimizer(
            network.trainable_params(), np.float32([0.1]), momentum=0.9, weight_decay=0.0
        )
        step = TrainOneStep(build_loss(network, own), optimizer)
        step.set_train(True)
        losses, norm = step(Tensor(1.0, ms.float32), *map(Tensor, batch))
        weights = {p.name: p.asnumpy() for p in network.get_parameters()}
        results.append((losses.asnumpy(), float(norm.asnumpy()), weights))
    (losses, norm, weights), (own_losses, own_norm, own_weights) = results
    assert list(weights) == list(own_weights)
    np.testing.assert_allclose(own_losses, losses, rtol=1e-4)
    assert own_norm == pytest.approx(norm, rel=1e-3)
    for name, weight in weights.items():
        distance = np.abs(own_weights[name] - weight).max()
        assert distance <= 1e-3 * max(np.abs(weight).max(), 1e-2), name


@needs_operators
@pytest.mark.parametrize("stride", [1, 2])
def test_a_grouped_convolution_has_them_and_their_gradients(stride):
    from mindspore import ParameterTuple, Tensor, nn, ops

    from src.FasterRcnn.layers import conv2d
    from src.native.operators import use_native_operators

    class Step(nn.Cell):
        def __init__(self, conv):
            super().__init__(auto_prefix=False)
            self.conv = conv
            weights = ParameterTuple([conv.weight, conv.bias])
            self.step = ops.value_and_grad(self.total, 0, weights)

        def total(self, x):
            return (self.conv(x) ** 2).sum()

        def construct(self, x):
            return self.step(x)

    rng = np.random.default_rng(0)
    image, weight = numbers(rng, 2, 24, 9, 14), numbers(rng, 48, 4, 3, 3)
    found = []
    for native in (True, False):
        conv = conv2d(24, 48, 3, stride, groups=6, has_bias=True)
        conv.weight.set_data(Tensor(weight))
        assert use_native_operators(conv, BUILT) == 1 if native else conv.own is None
        total, (of_image, of_parameters) = Step(conv)(Tensor(image))
        found.append([out.asnumpy() for out in (total, of_image, *of_parameters)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-2)


@needs_operators
def test_other_groups_are_left_to_mindspore():
    from src.FasterRcnn.layers import conv2d
    from src.native.convolutions import conv_settings

    assert conv_settings(conv2d(8, 8, 3, groups=2), BUILT) is not None
    assert conv_settings(conv2d(12, 12, 3, groups=6), BUILT) is None  # two channels of a group
    assert conv_settings(conv2d(8, 8, 1, groups=2), BUILT) is None


@needs_operators
def test_the_number_of_threads_changes_no_bit():
    program = (
        "import numpy as np, tests.native.test_native as t;"
        "rng = np.random.default_rng(1); c = 2 * t.BUILT.channels;"
        "x, w, g = t.numbers(rng, 2, c, 30, 41), t.numbers(rng, c, c, 3, 3),"
        " t.numbers(rng, 2, c, 30, 41);"
        "y, dw = np.empty_like(g), np.empty_like(w);"
        "t.call('conv3x3', x, w, y); t.call('conv3x3_weight_gradient', x, g, dw);"
        "import hashlib; print(hashlib.sha256(y.tobytes() + dw.tobytes()).hexdigest());"
        "g = t.numbers(rng, 2, c, 15, 21); y, dx = np.empty_like(g), np.empty_like(x);"
        "t.call('strided3x3', x, w, y); t.call('strided3x3_input_gradient', x, g, w, dx);"
        "t.call('strided3x3_weight_gradient', x, g, dw);"
        "print(hashlib.sha256(y.tobytes() + dx.tobytes() + dw.tobytes()).hexdigest());"
        "w = t.numbers(rng, c, 4, 3, 3); dw = np.empty_like(w);"
        "t.call('strided_grouped3x3', x, w, y);"
        "t.call('strided_grouped3x3_input_gradient', x, g, w, dx);"
        "t.call('strided_grouped3x3_weight_gradient', x, g, dw);"
        "print(hashlib.sha256(y.tobytes() + dx.tobytes() + dw.tobytes()).hexdigest())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=REPO,
            check=True,
            capture_output=True,
            text=True,
            env=importing(OMP_NUM_THREADS=str(threads)),
        ).stdout
        for threads in (1, 2)
    }
    assert len(printed) == 1


def _library_elsewhere(monkeypatch, folder, **environment):
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(build, "_try_once", TRY_AGAIN)
    return build.library()


def _compiler(folder, command):
    """A program that compiles as this shell command does."""
    path = folder / "compiler"
    path.write_text(f'#!/bin/sh\n[ "$2" = --version ] && echo 1 && exit\n{command}\n')
    path.chmod(0o755)
    return f"{path} --verbose"


@pytest.fixture
def copying(monkeypatch, tmp_path_factory):
    """In the compiler's place: a program that hands out the library that is there already."""
    unsealed = f"head -c -{build._SEAL} {shlex.quote(str(BUILT.path))}"
    command = f'while [ $# -gt 1 ]; do shift; done\n{unsealed} >"$1"'
    monkeypatch.setenv("CXX", _compiler(tmp_path_factory.mktemp("copying"), command))


@needs_operators
def test_the_sources_are_compiled(monkeypatch, tmp_path):
    """Not optimised, which the other tests' library is."""
    command = _compiler(tmp_path, 'shift\nexec g++ "$@" -O0')
    found = _library_elsewhere(monkeypatch, tmp_path / "cache", CXX=command)
    assert found.path != BUILT.path and found._replace(path=BUILT.path) == BUILT


@needs_operators
def test_compiled_once_then_found(monkeypatch, tmp_path, copying):
    first = _library_elsewhere(monkeypatch, tmp_path)
    stamp = first.path.stat().st_mtime_ns
    assert _library_elsewhere(monkeypatch, tmp_path) == first
    assert first.path.stat().st_mtime_ns == stamp
    assert [path.name for path in first.path.parent.iterdir()] == ["kernels.so"]


@needs_operators
def test_a_library_of_root_is_taken(monkeypatch, tmp_path, copying):
    first = _library_elsewhere(monkeypatch, tmp_path)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(build.os, "utime", refuse)
    assert _library_elsewhere(monkeypatch, tmp_path) == first


def test_without_a_home_folder_nothing_is_kept(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("src.base.user_cache.home_folder", lambda: None)  # as for an unknown user
    with pytest.raises(build.NotBuilt, match="set HOME"):
        _library_elsewhere(monkeypatch, "")
    assert list(tmp_path.iterdir()) == []


@needs_operators
def test_a_damaged_library_is_compiled_anew(monkeypatch, tmp_path, copying):
    path = _library_elsewhere(monkeypatch, tmp_path / "whole").path
    damaged = tmp_path / "damaged" / path.relative_to(tmp_path / "whole")
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert _library_elsewhere(monkeypatch, tmp_path / "damaged").path == damaged
    assert damaged.stat().st_size == path.stat().st_size


@needs_operators
@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_library_in_a_folder_that_others_can_write_to_is_not_loaded(level, monkeypatch, tmp_path):
    cache = BUILT.path.parent.parent
    path = tmp_path / cache.name / BUILT.path.relative_to(cache)
    path.parent.mkdir(parents=True)
    path.write_bytes(BUILT.path.read_bytes())
    assert _library_elsewhere(monkeypatch, tmp_path).path == path
    folder = path.parents[level - 1]
    folder.chmod(0o777)
    with pytest.raises(build.NotBuilt, match=f"write to {folder}"):
        _library_elsewhere(monkeypatch, tmp_path)
    folder.chmod(0o755)
    path.chmod(0o775)
    assert not build._is_whole(path)  # that one is compiled anew


def _fake_compiler(monkeypatch):
    """Let compiling write a few bytes, in a file as open as the umask lets it be."""

    def run(command, **_):
        if "-o" in command:
            os.close(os.open(command[-1], os.O_CREAT | os.O_WRONLY, 0o777))
        return "1.0"

    monkeypatch.setattr(build, "_run", run)


@needs_operators
@pytest.mark.parametrize("umask", [0, 0o077])
def test_the_umask_opens_nothing(umask, monkeypatch, tmp_path):
    _fake_compiler(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new" / "cache"))
    before = os.umask(umask)
    try:
        path = build._find_or_compile()
    finally:
        os.umask(before)
    for place in (path, *path.parents[:4]):
        assert place.stat().st_mode & 0o777 == 0o700, place
    assert build._find_or_compile() == path


def test_no_compiler_of_the_current_folder(monkeypatch, tmp_path):
    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\ntouch ran\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", ":.")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(build.NotBuilt, match=r"no C\+\+ compiler"):
        _library_elsewhere(monkeypatch, tmp_path / "cache")
    assert not (tmp_path / "ran").exists()


def test_without_a_compiler_the_reason_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(build.NotBuilt, match=r"no C\+\+ compiler"):
        _library_elsewhere(monkeypatch, tmp_path)


def test_a_compiler_that_fails_is_no_error(monkeypatch, tmp_path):
    broken = _compiler(tmp_path, "echo 'out of luck' >&2\nexit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.NotBuilt, match="out of luck"):
        _library_elsewhere(monkeypatch, tmp_path, CXX=broken)
    assert not list(tmp_path.rglob("*.so"))


def test_a_path_that_mindspore_cannot_load_from(monkeypatch, tmp_path):
    with pytest.raises(build.NotBuilt, match="colon"):
        _library_elsewhere(monkeypatch, tmp_path / "a:b")


@needs_operators
@pytest.mark.parametrize("place", [(1, 2, 2, 2), (-1, 2, 2, 2), (0, 2, 2, 3), (0, 2, 0, 2)])
def test_cells_outside_the_maps_are_refused(place):
    image, box = np.zeros((1, 1, 2, 2), np.float32), np.float32([[0, 0, 1, 1]])
    result = np.zeros((1, 1, 1, 1), np.float32)
    with pytest.raises(AssertionError):
        call("pool", image, box, np.int32([place]), np.int32([0]), result)


@needs_operators
def test_shapes_and_types_that_do_not_fit_are_refused():
    from mindspore import Tensor

    from src.native import convolutions

    conv = convolutions.NativeConv(BUILT, "conv3x3")
    weight = Tensor(np.zeros((32, 64, 3, 3), np.float32))
    bias = Tensor(np.zeros(32, np.float32))
    with pytest.raises(ValueError, match="do not fit"):
        conv(Tensor(np.zeros((1, 32, 4, 4), np.float32)), weight, bias)
    with pytest.raises(TypeError, match="float32"):
        conv(Tensor(np.zeros((1, 64, 4, 4), np.float16)), weight, bias)


def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch, tmp_path):
    (tmp_path / "faster_rcnn_mindspore").write_text("a file in the way")
    with pytest.raises(build.NotBuilt):
        _library_elsewhere(monkeypatch, tmp_path)


def test_a_network_without_operators_says_so_once(monkeypatch, capsys):
    from src.model_utils import cpu_operators, device_adapter
    from tests.helpers.network_helpers import small_config

    monkeypatch.setattr(build, "_try_once", lambda: (None, "no C++ compiler (g++)"))
    device_adapter.say_once.cache_clear()
    config = small_config(64, 96, 3, cpu_kernels="auto")
    assert cpu_operators.cpu_library(config) is None
    assert cpu_operators.cpu_library(config) is None
    assert capsys.readouterr().err.count("no C++ compiler (g++)") == 1
    assert cpu_operators.cpu_library(config.replace(cpu_kernels="off")) is None
    assert not capsys.readouterr().err
