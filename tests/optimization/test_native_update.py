# SPDX-License-Identifier: Apache-2.0
"""The update as one operator: what MindSpore's operators compute, step by step."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from src.model_utils.config import load_config
from src.native.build import NotBuilt, library
from src.network_define import build_optimizer
from src.optimization.gradient_update import GradientUpdate
from src.optimization.native_update import native_update
from src.training.steps import StepInTwoGraphs

ms.set_context(mode=ms.GRAPH_MODE)

SHAPES = {
    "backbone.layer2.0.conv1.weight": (70, 300, 3, 3),  # more than a thread takes at once
    "backbone.layer3.0.bn1.gamma": (40,),
    "rpn.conv.weight": (5, 7),
    "rcnn.fc.bias": (3,),
}
RATES = np.float32([0.01, 0.02, 0.03, 0.015])
OVERFLOW_AT = 2
ADAM = ["--base_lr", "0.01", "--weight_decay", "0.1", "--adam_betas", "[0.8, 0.99]"]
GROUPS = ["--no_weight_decay", "[norms, biases]", "--backbone_lr_scale", "0.3"]


class _Plain(nn.Cell):
    """`GradientUpdate` with the arguments of `NativeUpdate`."""

    def __init__(self, update):
        super().__init__(auto_prefix=False)
        self.update = update

    def construct(self, loss_scale, *gradients):
        return self.update(gradients, loss_scale)


@pytest.fixture(scope="module")
def own():
    try:
        return library()
    except NotBuilt as reason:
        pytest.skip(str(reason))


def _gradients():
    rng = np.random.default_rng(1)
    for step in range(len(RATES)):
        arrays = [8 * rng.standard_normal(shape).astype(np.float32) for shape in SHAPES.values()]
        if step == OVERFLOW_AT:
            arrays[0][3] = np.inf
        yield arrays


def _parameters():
    rng = np.random.default_rng(0)
    return [
        Parameter(Tensor(rng.standard_normal(shape).astype(np.float32)), name=name)
        for name, shape in SHAPES.items()
    ]


def _norm_of(update, loss_scale, arrays):
    """Update with these gradients; return their norm."""
    gradients = [Tensor(array) for array in arrays]
    inputs = gradients if isinstance(update, _Plain) else [update.places(gradients)]
    return update(Tensor(loss_scale, ms.float32), *inputs).asnumpy().item()


@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
@pytest.mark.parametrize(
    "argv",
    [
        ["--momentum", "0.8"],
        ["--momentum", "0.8", *GROUPS],
        ["--optimizer", "adamw", *ADAM, *GROUPS],
        ["--optimizer", "adam", *ADAM],
    ],
)
def test_it_does_what_the_optimizer_does(own, argv, clip_norm):
    """Four steps; the third overflows, and moves the schedule alone."""
    config = load_config([*argv, "--device_target", "CPU"])
    found = []
    for native in (False, True):
        parameters = _parameters()
        optimizer = build_optimizer(config, parameters, RATES)
        if native:
            update = native_update(config, optimizer, RATES, own, clip_norm=clip_norm)
        else:
            update = _Plain(GradientUpdate(optimizer, clip_norm=clip_norm))
        norms = [_norm_of(update, 8.0, arrays) for arrays in _gradients()]
        state = {p.name: p.asnumpy().copy() for p in optimizer.get_parameters()}
        found.append((norms, state))
    (norms, expected), (own_norms, state) = found
    np.testing.assert_allclose(own_norms, norms, rtol=1e-6)
    assert np.isinf(own_norms[OVERFLOW_AT])
    assert state["global_step"] == len(RATES)
    for name in state.keys() - {"global_step"}:
        if not name.startswith("learning_rate"):
            np.testing.assert_allclose(
                state[name], expected[name], rtol=2e-5, atol=2e-6, err_msg=name
            )
    start = {p.name: p.asnumpy() for p in _parameters()}
    assert all((state[name] != array).any() for name, array in start.items())


def test_sums_of_batches_are_averaged_and_cleared(own):
    config = load_config(["--momentum", "0.8", "--device_target", "CPU"])
    plain, summed = (build_optimizer(config, _parameters(), RATES) for _ in "ab")
    arrays = next(_gradients())
    whole = native_update(config, plain, RATES, own, clip_norm=0.5)
    norm = _norm_of(whole, 2.0, arrays)
    sums = ParameterTuple(
        [Parameter(Tensor(3 * array), name=f"sum.{number}") for number, array in enumerate(arrays)]
    )
    update = native_update(config, summed, RATES, own, clip_norm=0.5, sums=sums, batches=3)
    again = update(Tensor(2.0, ms.float32))
    np.testing.assert_allclose(again.asnumpy(), norm, rtol=1e-6)
    for one, other in zip(plain.parameters, summed.parameters, strict=True):
        np.testing.assert_allclose(one.asnumpy(), other.asnumpy(), rtol=1e-6, atol=1e-7)
    assert not any(one.asnumpy().any() for one in sums)


def test_a_run_longer_than_its_rates_keeps_the_last(own):
    config = load_config(["--momentum", "0", "--weight_decay", "0", "--device_target", "CPU"])
    parameters = [Parameter(Tensor(np.ones(3, np.float32)), name="rcnn.weight")]
    optimizer = build_optimizer(config, parameters, RATES)
    optimizer.global_step.set_data(Tensor([1 << 20], ms.int32))
    update = native_update(config, optimizer, RATES, own, clip_norm=0.0)
    _norm_of(update, 1.0, [np.ones(3, np.float32)])
    np.testing.assert_allclose(parameters[0].asnumpy(), 1 - RATES[-1], rtol=1e-6)


def test_other_types_are_refused(own):
    config = load_config(["--device_target", "CPU"])
    parameters = [Parameter(Tensor(np.ones(3, np.float16)), name="rcnn.weight")]
    optimizer = build_optimizer(config, parameters, RATES)
    with pytest.raises(TypeError, match="take float32"):
        native_update(config, optimizer, RATES, own, clip_norm=0.0)


@pytest.mark.parametrize(
    "gradient", [np.ones(4, np.float32), np.ones(3, np.float16), np.ones((3, 1), np.float32)]
)
def test_gradients_of_other_weights_are_refused(own, gradient):
    """They are read by address: the update itself does not see their shapes."""
    config = load_config(["--device_target", "CPU"])
    parameters = [Parameter(Tensor(np.ones(3, np.float32)), name="rcnn.weight")]
    update = native_update(
        config, build_optimizer(config, parameters, RATES), RATES, own, clip_norm=0.0
    )
    with pytest.raises(ValueError, match="the gradient of rcnn.weight"):
        update.places([Tensor(gradient)])


def test_gradients_do_not_outlive_their_step(own):
    """MindSpore keeps what a graph was given until its next run; the next gradients take their
    place in memory all the same."""
    config = load_config(["--momentum", "0.8", "--device_target", "CPU"])
    loss = _Loss()
    optimizer = build_optimizer(config, loss.trainable_params(), RATES)
    update = native_update(config, optimizer, RATES, own, clip_norm=0.0)
    step = StepInTwoGraphs(loss, optimizer, update)
    places = []

    def call(cell, *inputs):
        outputs = cell(*inputs)
        if cell is step.gradients:
            places.append(outputs[1][0].data_ptr())
        return outputs

    for number in range(4):
        factors = Tensor(np.full(loss.weight.shape, number, np.float32))
        losses, norm = step.make(call, Tensor(2.0, ms.float32), [(factors,)])
        assert losses[1] == number * loss.weight.size
        np.testing.assert_allclose(norm, number * np.sqrt(loss.weight.size), rtol=1e-5)
    assert abs(places[2] - places[3]) < loss.weight.nbytes  # small tensors may lie before it


class _Loss(nn.Cell):
    """Losses whose gradient is the factors, for a weight of 8 MB."""

    def __init__(self):
        super().__init__()
        self.weight = Parameter(Tensor(np.zeros((2048, 1024), np.float32)), name="rcnn.weight")

    def construct(self, factors):
        return ops.reduce_sum(self.weight * factors), ops.reduce_sum(factors)
