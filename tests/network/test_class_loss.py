# SPDX-License-Identifier: Apache-2.0
"""Label smoothing and class weights, against torch's cross_entropy (tests/resources)."""

import functools

import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from src.base.errors import UserError
from src.detector import build_loss
from src.FasterRcnn.class_loss import ClassLoss
from src.model_utils.configuration.class_weights import class_weights
from tests.helpers.network_helpers import detector_of_few_blocks, small_config
from tests.helpers.paths import RESOURCES
from tests.helpers.plain_boxes import in_graph

with np.load(RESOURCES / "torch_losses.npz") as arrays:
    TORCH = dict(arrays)
LOGITS, LABELS = TORCH["logits"], TORCH["labels"]
WEIGHTS = tuple(TORCH["class_weights"].tolist())
ROIS, CLASSES = len(LABELS), LOGITS.shape[1] - 1
ALL = np.ones(ROIS, bool)


class _WithGradient(nn.Cell):
    """A class loss of as many RoIs as it is given, and its gradient."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss
        self.gradient = ops.GradOperation()

    def construct(self, logits, labels, chosen, count):
        arguments = (logits, labels, chosen, CLASSES, count)
        return self.loss(*arguments), self.gradient(self.loss)(*arguments)


@functools.cache
def _cell(smoothing, weights):
    return _WithGradient(ClassLoss(smoothing, weights))


def _loss(smoothing=0.0, weights=(), logits=LOGITS, labels=LABELS, chosen=ALL):
    cell = _cell(smoothing, weights)
    return in_graph(cell, logits, labels, chosen, np.array(chosen.sum(), np.float32))


@pytest.mark.parametrize(
    "name, smoothing, weights",
    [
        ("plain", 0.0, ()),
        ("smoothed", 0.1, ()),
        ("weighted", 0.0, WEIGHTS),
        ("both", 0.2, WEIGHTS),
        ("both", 0.2, tuple(1e-4 * weight for weight in WEIGHTS)),  # the sum divides
    ],
)
def test_the_numbers_are_torch_s(name, smoothing, weights):
    loss, gradient = _loss(smoothing, weights)
    expected = TORCH[f"{name}_gradient"]
    np.testing.assert_allclose(loss, TORCH[name], rtol=2e-6)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("smoothing, weights", [(0.0, ()), (0.2, WEIGHTS)])
def test_rois_that_were_not_chosen_do_not_count(smoothing, weights):
    chosen = np.arange(ROIS) % 3 > 0
    loss, gradient = _loss(smoothing, weights, chosen=chosen)
    alone, _ = _loss(smoothing, weights, LOGITS[chosen], LABELS[chosen], ALL[chosen])
    np.testing.assert_allclose(loss, alone, rtol=1e-6)
    assert not gradient[~chosen].any() and gradient[chosen].any()


def test_outputs_of_no_class_have_no_share_of_the_smoothing():
    """Where the softmax gives them nothing, the loss is that without them."""
    unused = np.full((ROIS, 3), -80, np.float32)
    wide = np.concatenate([LOGITS[:, :1], unused, LOGITS[:, 1:]], 1)
    for weights in ((), WEIGHTS):
        np.testing.assert_allclose(
            _loss(0.2, weights, logits=wide)[0], _loss(0.2, weights)[0], rtol=1e-5
        )


def test_rois_whose_weights_are_all_zero_cost_nothing():
    labels = np.full(ROIS, 3, np.int32)  # of weight 0
    loss, gradient = _loss(0.0, WEIGHTS, labels=labels)
    assert loss == 0 and not gradient.any()


def test_the_keys_are_those_of_the_loss():
    config = small_config(rcnn_label_smoothing=0.1, rcnn_class_weights={"class 1": 4.0})
    loss = build_loss(detector_of_few_blocks(config), config).rcnn_loss.class_loss
    assert loss.label_smoothing == 0.1
    assert isinstance(loss.class_weights, Tensor)
    np.testing.assert_array_equal(loss.class_weights.asnumpy(), [1, 1, 4])
    plain = build_loss(detector_of_few_blocks(small_config()), small_config()).rcnn_loss.class_loss
    assert plain.class_weights is None and not plain.label_smoothing


def test_weights_in_the_order_of_the_classes():
    assert class_weights(small_config(rcnn_class_weights=[0.5, 1, 2])) == (0.5, 1.0, 2.0)
    assert class_weights(small_config(rcnn_class_weights={"background": 0.1})) == (0.1, 1.0, 1.0)
    assert class_weights(small_config()) == ()


@pytest.mark.parametrize(
    "given, problem",
    [
        ({"class 7": 2.0}, "'class 7' is no class; the classes are background, class 0, class 1"),
        ([1, 2], r"\[1.0, 2.0\] has 2 weights for 3 classes with the background"),
        ([0, 0, 0], "has no weight above 0; give one"),
        ([1e-300, 1, 1], "has weights that are more than 1e\\+06 times others; give 0"),
    ],
)
def test_weights_of_other_classes_are_refused(given, problem):
    config = small_config(rcnn_class_weights=given)
    with pytest.raises(UserError, match=f"program: rcnn_class_weights: .*{problem}") as caught:
        class_weights(config)
    assert "\n" not in str(caught.value)
