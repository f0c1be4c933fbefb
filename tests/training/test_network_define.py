# SPDX-License-Identifier: Apache-2.0
"""The training step against the same arithmetic in numpy, overflow, and the loss scale."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

from src.FasterRcnn.names import LOSS_NAMES
from src.network_define import LossScaler, TrainOneStep, make_optimizer
from src.training.steps import AccumulatedStep
from tests.helpers.tiny_detector import TinyDetector, TinyWithLoss, tiny_batch

ms.set_context(mode=ms.GRAPH_MODE)


class _Quadratic(nn.Cell):
    """Losses whose gradient is `factor * weight` resp. `factor`: checked by hand."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.weight = Parameter(Tensor([3.0, -4.0], ms.float32), name="fc.weight")
        self.gamma = Parameter(Tensor([2.0], ms.float32), name="bn.gamma")

    def construct(self, factor):
        rpn = 0.5 * ops.square(self.weight).sum() * factor
        rcnn = self.gamma.sum() * factor
        return rpn, rcnn, rpn * 0.25, rpn * 0.75, rcnn * 0.5, rcnn * 0.5


def _quadratic_step(rates, clip_norm=0.0, momentum=0.9, weight_decay=0.0):
    network = _Quadratic()
    optimizer = make_optimizer(
        network.trainable_params(),
        np.asarray(rates, np.float32),
        momentum=momentum,
        weight_decay=weight_decay,
    )
    step = TrainOneStep(network, optimizer, clip_norm=clip_norm)
    step.set_train(True)
    return network, step


def _scale(value=1.0):
    return Tensor(value, ms.float32)


def _factor(value):
    return Tensor(value, ms.float32)


def test_momentum_decay_and_schedule_follow_the_formula():
    rates, momentum, decay = [0.1, 0.05, 0.01], 0.9, 0.01
    network, step = _quadratic_step(rates, momentum=momentum, weight_decay=decay)
    weight, gamma = np.array([3.0, -4.0]), np.array([2.0])
    velocity, gamma_velocity = np.zeros(2), np.zeros(1)
    for rate in rates:
        losses, norm = step(_scale(), _factor(1.0))
        expected_norm = np.sqrt((weight**2).sum() + 1.0)
        np.testing.assert_allclose(norm.asnumpy(), expected_norm, rtol=1e-6)
        np.testing.assert_allclose(losses.asnumpy()[0], 0.5 * (weight**2).sum(), rtol=1e-6)
        velocity = momentum * velocity + weight + decay * weight
        gamma_velocity = momentum * gamma_velocity + 1.0  # gamma is not decayed
        weight, gamma = weight - rate * velocity, gamma - rate * gamma_velocity
        np.testing.assert_allclose(network.weight.asnumpy(), weight, rtol=1e-6)
        np.testing.assert_allclose(network.gamma.asnumpy(), gamma, rtol=1e-6)


@pytest.mark.parametrize("clip_norm, factor", [(1.0, 1.0 / np.sqrt(26.0)), (100.0, 1.0)])
def test_gradients_are_clipped_to_the_global_norm(clip_norm, factor):
    network, step = _quadratic_step([0.1], clip_norm=clip_norm)
    _, norm = step(_scale(), _factor(1.0))
    np.testing.assert_allclose(norm.asnumpy(), np.sqrt(26.0), rtol=1e-6)  # before clipping
    np.testing.assert_allclose(
        network.weight.asnumpy(), np.array([3.0, -4.0]) * (1 - 0.1 * factor), rtol=1e-5
    )


def test_loss_scale_changes_no_bit_in_fp32():
    outcomes = []
    for scale in (1.0, 1024.0):
        ms.set_seed(1)
        network = TinyDetector()
        optimizer = make_optimizer(
            network.trainable_params(), np.full(3, 0.1, np.float32), momentum=0.9, weight_decay=1e-4
        )
        step = TrainOneStep(TinyWithLoss(network), optimizer, clip_norm=1.0)
        step.set_train(True)
        losses = [step(_scale(scale), *tiny_batch(seed=i))[0].asnumpy() for i in range(3)]
        outcomes.append((losses, [p.asnumpy() for p in network.get_parameters()]))
    np.testing.assert_array_equal(outcomes[0][0], outcomes[1][0])
    for one, other in zip(outcomes[0][1], outcomes[1][1], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("bad", [np.inf, np.nan, 1e30])
def test_overflow_leaves_weights_and_momentum_but_counts_the_step(bad):
    network, step = _quadratic_step([0.1, 0.1, 0.01])
    step(_scale(), _factor(1.0))
    before = [p.asnumpy().copy() for p in step.get_parameters()]
    names = [p.name for p in step.get_parameters()]
    # 1e30 * 1e30: finite losses, gradients beyond fp32 only because of the scale.
    _, norm = step(_scale(1e30 if bad == 1e30 else 1.0), _factor(bad))
    assert not np.isfinite(norm.asnumpy())
    for name, old, parameter in zip(names, before, step.get_parameters(), strict=True):
        if name == "global_step":
            assert parameter.asnumpy() == old + 1
        else:
            np.testing.assert_array_equal(parameter.asnumpy(), old, err_msg=name)
    weight = network.weight.asnumpy().copy()
    velocity = step.optimizer.moments[0].asnumpy().copy()
    step(_scale(), _factor(1.0))  # the third rate, though only two updates were made
    np.testing.assert_allclose(
        network.weight.asnumpy(), weight - 0.01 * (0.9 * velocity + weight), rtol=1e-6
    )


def test_accumulated_gradients_make_one_update_of_their_mean():
    """Two updates of three batches each, by hand: momentum, clipping, and an overflow between."""
    network = _Quadratic()
    parameters = network.trainable_params()
    optimizer = make_optimizer(parameters, np.float32([0.1] * 3), momentum=0.9, weight_decay=0.0)
    step = AccumulatedStep(network, optimizer, batches=3, clip_norm=1.0)
    step.set_train(True)
    weight, gamma = np.array([3.0, -4.0]), np.array([2.0])
    velocity, gamma_velocity = np.zeros(2), np.zeros(1)
    for factors in ([1.0, 2.0, 0.5], [1.0, np.inf, 1.0], [0.3, 0.0, 0.1]):
        batches = [(_factor(factor),) for factor in factors]
        losses, norm = step.make(lambda cell, *inputs: cell(*inputs), _scale(4.0), batches)
        mean = np.mean(factors)
        if not np.isfinite(mean):
            assert not np.isfinite(norm)
            continue
        expected = abs(mean) * np.sqrt((weight**2).sum() + 1.0)
        assert norm == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(losses[0], 0.5 * (weight**2).sum() * mean, rtol=1e-5)
        share = mean * min(1.0, 1.0 / expected)
        velocity, gamma_velocity = 0.9 * velocity + share * weight, 0.9 * gamma_velocity + share
        weight, gamma = weight - 0.1 * velocity, gamma - 0.1 * gamma_velocity
        np.testing.assert_allclose(network.weight.asnumpy(), weight, rtol=1e-5)
        np.testing.assert_allclose(network.gamma.asnumpy(), gamma, rtol=1e-5)
    assert optimizer.global_step.asnumpy() == 3


def test_frozen_parameters_stay():
    network = TinyDetector(frozen=True)
    frozen = network.backbone.conv1.weight
    before = frozen.asnumpy().copy()
    optimizer = make_optimizer(
        network.trainable_params(), np.full(2, 0.1, np.float32), momentum=0.9, weight_decay=0.1
    )
    step = TrainOneStep(TinyWithLoss(network), optimizer)
    step.set_train(True)
    head = network.rcnn.shared_fc_0.weight.asnumpy().copy()
    step(_scale(), *tiny_batch())
    np.testing.assert_array_equal(frozen.asnumpy(), before)
    assert (network.rcnn.shared_fc_0.weight.asnumpy() != head).any()


def test_losses_fall_and_keep_their_order():
    ms.set_seed(3)
    network = TinyDetector()
    optimizer = make_optimizer(
        network.trainable_params(), np.full(30, 0.02, np.float32), momentum=0.9, weight_decay=0.0
    )
    step = TrainOneStep(TinyWithLoss(network), optimizer)
    step.set_train(True)
    history = np.stack([step(_scale(), *tiny_batch())[0].asnumpy() for _ in range(30)])
    assert len(LOSS_NAMES) == history.shape[1] == 6
    np.testing.assert_allclose(history[:, 0], history[:, 2] + history[:, 3], rtol=1e-5)
    np.testing.assert_allclose(history[:, 1], history[:, 4] + history[:, 5], rtol=1e-5)
    assert history[-1, :2].sum() < 0.5 * history[0, :2].sum()


def test_dynamic_scale_halves_on_overflow_and_doubles_after_the_window():
    scaler = LossScaler(1024.0, dynamic=True, window=3)
    for finite, expected in [
        (True, 1024),
        (False, 512),
        (True, 512),
        (True, 512),
        (True, 1024),
        (True, 1024),
        (True, 1024),
        (False, 512),
        (True, 512),
        (True, 512),
        (True, 1024),
    ]:
        scaler.update(finite)
        assert scaler.scale == expected
    for _ in range(40):
        scaler.update(False)
    assert scaler.scale == LossScaler.LOWEST
    for _ in range(3 * 60):
        scaler.update(True)
    assert scaler.scale == LossScaler.HIGHEST


def test_scale_state_round_trip_and_static_scale_stays():
    scaler = LossScaler(256.0, dynamic=True, window=10)
    for finite in (True, False, True, True):
        scaler.update(finite)
    other = LossScaler(1.0, dynamic=True, window=10)
    other.restore(scaler.state())
    assert (other.scale, other.good_steps) == (128.0, 2)
    static = LossScaler(256.0)
    static.update(False)
    static.restore(scaler.state())
    assert static.scale == 256.0


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_scale_is_refused(scale):
    with pytest.raises(ValueError, match="loss scale"):
        LossScaler(scale)
