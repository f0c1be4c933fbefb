# SPDX-License-Identifier: Apache-2.0
"""The regression losses by their names, and that each stage gets its own.

What torchvision 0.29 computes in float64 of some boxes, losses and their gradients, is in
tests/resources/torch_losses.npz.
"""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import nn, ops

from src.detector import build_loss
from src.FasterRcnn.box_losses import (
    L1Loss,
    SmoothL1Loss,
    build_box_loss,
    ciou_loss,
    diou_loss,
    giou_loss,
)
from src.FasterRcnn.box_ops import BoxCoder
from src.FasterRcnn.class_loss import ClassLoss
from src.FasterRcnn.nms import build_suppression
from src.FasterRcnn.rcnn import RcnnLoss
from src.FasterRcnn.rpn import RpnLoss
from tests.helpers.network_helpers import detector_of_few_blocks, small_config
from tests.helpers.paths import RESOURCES
from tests.helpers.plain_boxes import in_graph

CODER = BoxCoder((0.0,) * 4, (1.0,) * 4, 0.0)
RNG = np.random.default_rng(4)
DELTAS, TARGETS = RNG.normal(0, 0.4, (2, 5, 7, 4)).astype(np.float32)
REFERENCES = np.tile(np.array([10, 20, 50, 45], np.float32), (5, 7, 1))
OVERLAP_LOSSES = {"giou": giou_loss, "diou": diou_loss, "ciou": ciou_loss}


class _WithGradient(nn.Cell):
    """A loss, and the gradient of its first argument."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss
        self.gradient = ops.GradOperation()

    def construct(self, *arguments):
        return self.loss(*arguments), self.gradient(self.loss)(*arguments)


WITH_GRADIENT = {name: _WithGradient(loss) for name, loss in OVERLAP_LOSSES.items()}


@pytest.mark.parametrize("beta", [1 / 9, 1.0])
def test_smooth_l1_is_square_near_zero_and_linear_beyond_beta(beta):
    difference = np.abs(DELTAS - TARGETS)
    square = difference**2 / (2 * beta)
    expected = np.where(difference < beta, square, difference - beta / 2).sum(-1)
    found = in_graph(build_box_loss("smooth_l1", CODER, beta), DELTAS, TARGETS, REFERENCES)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_l1_is_the_distance():
    found = in_graph(build_box_loss("l1", CODER, 1.0), DELTAS, TARGETS, REFERENCES)
    np.testing.assert_allclose(found, np.abs(DELTAS - TARGETS).sum(-1), rtol=1e-5)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="'giou-2' is none of smooth_l1, l1, giou"):
        build_box_loss("giou-2", CODER, 1.0)
    with pytest.raises(ValueError, match="'none' is none of per_class, agnostic"):
        build_suppression("none", None)


def test_each_stage_has_the_loss_that_its_key_names():
    config = small_config(rpn_loss_beta=0.5, rcnn_box_loss="l1")
    loss = build_loss(detector_of_few_blocks(config), config)
    assert isinstance(loss.rpn_loss.box_loss, SmoothL1Loss) and loss.rpn_loss.box_loss.beta == 0.5
    assert isinstance(loss.rcnn_loss.box_loss, L1Loss)


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-8), (np.float32, 1e-6)])
@pytest.mark.parametrize("name", OVERLAP_LOSSES)
def test_overlap_losses_are_torchvision_s(name, dtype, tolerance):
    with np.load(RESOURCES / "torch_losses.npz") as arrays:
        boxes, targets = arrays["boxes"].astype(dtype), arrays["targets"].astype(dtype)
        expected, gradient = arrays[name], arrays[f"{name}_gradient"]
    loss, found = in_graph(WITH_GRADIENT[name], boxes, targets)
    assert loss.dtype == dtype and loss.min() < 0.3 and loss.max() > 1.2
    np.testing.assert_allclose(loss, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(
        found, gradient, rtol=10 * tolerance, atol=tolerance * np.abs(gradient).max()
    )


@pytest.mark.parametrize("name", OVERLAP_LOSSES)
@settings(max_examples=60)
@given(
    rows=st.lists(
        st.tuples(*[st.sampled_from([0.0, 1.0, 1.0, 3.5, 4.0, 1e-6, -2.0, 1e4, 8e4])] * 8),
        min_size=6,
        max_size=6,
    )
)
def test_boxes_without_an_area_have_finite_gradients(name, rows):
    """Points, lines, boxes that end before they start, and boxes far away."""
    numbers = np.array(rows, np.float32)
    loss, gradient = in_graph(WITH_GRADIENT[name], numbers[:, :4].copy(), numbers[:, 4:].copy())
    assert np.isfinite(loss).all() and np.isfinite(gradient).all()
    proper = (numbers[:, [2, 3, 6, 7]] > numbers[:, [0, 1, 4, 5]]).all(1)
    assert (loss[proper] >= -1e-5).all() and (loss[proper] <= 3.0).all()


@functools.cache
def _coder(offset):
    return BoxCoder((0.1, 0.0, 0.0, -0.1), (0.1, 0.1, 0.2, 0.2), offset)


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("name", OVERLAP_LOSSES)
def test_overlap_losses_are_of_the_decoded_boxes(name, offset):
    """In the legacy convention a box from 3 to 5 is 3 wide, so it ends at 6."""
    coder = _coder(offset)
    box_loss = build_box_loss(name, coder, 1.0)
    references = REFERENCES + RNG.uniform(-5, 5, REFERENCES.shape).astype(np.float32)
    ends = np.array([0, 0, offset, offset], np.float32)
    boxes, targets = (in_graph(coder.decode, references, d) + ends for d in (DELTAS, TARGETS))
    found = in_graph(box_loss, DELTAS, TARGETS, references)
    np.testing.assert_allclose(found, in_graph(OVERLAP_LOSSES[name], boxes, targets), rtol=1e-5)
    same = in_graph(box_loss, DELTAS, DELTAS, references)
    np.testing.assert_allclose(same, 0, atol=1e-5)


INDEX = np.int32([[0, 2, 3, 8, 7], [1, 4, 6, 8, 8]])
POSITIVE = np.array([[1, 1, 0, 0, 0], [1, 0, 0, 0, 0]], bool)
CHOSEN = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 0, 0]], bool)
ANCHORS = np.concatenate([REFERENCES[0], np.zeros((2, 4), np.float32)])


def _samples(offset):
    """The loss, deltas of nine anchors, and of the samples their own, targets, and the sum."""
    box_loss = build_box_loss("ciou", BoxCoder((0.0,) * 4, (1.0,) * 4, offset), 1.0)
    deltas = RNG.normal(0, 0.4, (2, 9, 4)).astype(np.float32)
    targets = RNG.normal(0, 0.4, (2, 5, 4)).astype(np.float32)
    own = np.stack([deltas[image, INDEX[image]] for image in range(2)])
    each = in_graph(box_loss, own, targets, ANCHORS[INDEX])
    return box_loss, deltas, own, targets, each[POSITIVE].sum()


@pytest.mark.parametrize("expected, offset", [(None, 0.0), (9, 1.0)])
def test_the_rpn_divides_them_as_it_divides_smooth_l1(expected, offset):
    """By the samples, positives or not; and where there is padding gradients are finite."""
    box_loss, deltas, _, targets, total = _samples(offset)
    logits = np.zeros((2, 9), np.float32)
    stage = _WithGradient(_RpnBoxLoss(RpnLoss(box_loss, expected)))
    loss, gradient = in_graph(stage, deltas, logits, INDEX, POSITIVE, CHOSEN, targets, ANCHORS)
    np.testing.assert_allclose(loss, total / (6 if expected is None else 2 * 9), rtol=1e-6)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_the_head_divides_them_as_it_divides_smooth_l1(offset):
    """By the samples, positives or not; and where there is padding gradients are finite."""
    box_loss, _, own, targets, total = _samples(offset)
    classes = np.zeros((10, 3), np.float32)
    labels = np.where(POSITIVE, 2, 0).astype(np.int32)
    of_classes = np.stack([own.reshape(10, 4) + 9, own.reshape(10, 4)], 1)  # the second is theirs
    stage = _WithGradient(_RcnnBoxLoss(RcnnLoss(box_loss, ClassLoss())))
    arguments = (labels, CHOSEN, targets, ANCHORS[INDEX])
    loss, gradient = in_graph(stage, of_classes, classes, *arguments)
    np.testing.assert_allclose(loss, total / 6, rtol=1e-6)
    assert np.isfinite(gradient).all() and np.abs(gradient[:, 1]).max() > 0
    assert not gradient[:, 0].any()


class _RpnBoxLoss(nn.Cell):
    """The RPN's box loss, with the deltas first."""

    def __init__(self, stage):
        super().__init__()
        self.stage = stage

    def construct(self, deltas, logits, *others):
        return self.stage((logits,), (deltas,), *others)[1]


class _RcnnBoxLoss(_RpnBoxLoss):
    """The RCNN's."""

    def construct(self, deltas, logits, *others):
        return self.stage(logits, deltas, *others)[1]
