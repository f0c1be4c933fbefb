# SPDX-License-Identifier: Apache-2.0
"""Adam and AdamW against their formulas in float64."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor

from src.model_utils.config import load_config
from src.network_define import build_optimizer
from src.optimization.groups import GroupRules

ms.set_context(mode=ms.GRAPH_MODE)

SHAPES = {"backbone.conv1.weight": (3, 2, 2, 2), "rcnn.cls_scores.bias": (5,), "bn.gamma": (7,)}
RATES = np.float32([0.01, 0.02, 0.005, 0.01, 0.01])
DECAY, BETAS, EPS = 0.1, (0.9, 0.99), 1e-3


def _expected(weights, gradients, rules, decoupled):
    """PyTorch's definition."""
    first = {name: np.zeros_like(weight) for name, weight in weights.items()}
    second = {name: np.zeros_like(weight) for name, weight in weights.items()}
    for step, gradient in enumerate(gradients, start=1):
        for name in weights:
            rate = float(RATES[step - 1]) * rules.rate_scale_of(name)
            decay, slope = rules.decay_of(name), gradient[name].astype(np.float64)
            if decoupled:
                weights[name] = weights[name] * (1 - rate * decay)
            else:
                slope = slope + decay * weights[name]
            first[name] = BETAS[0] * first[name] + (1 - BETAS[0]) * slope
            second[name] = BETAS[1] * second[name] + (1 - BETAS[1]) * slope**2
            mean = first[name] / (1 - BETAS[0] ** step)
            root = np.sqrt(second[name] / (1 - BETAS[1] ** step))
            weights[name] = weights[name] - rate * mean / (root + EPS)
    return weights


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_it_follows_its_formula(kind):
    rng = np.random.default_rng(3)
    start = {name: rng.standard_normal(shape) for name, shape in SHAPES.items()}
    # Small ones, where epsilon counts.
    gradients = [
        {
            name: (1e-3 * rng.standard_normal(shape)).astype(np.float32)
            for name, shape in SHAPES.items()
        }
        for _ in RATES
    ]
    argv = ["--optimizer", kind, "--weight_decay", str(DECAY), "--backbone_lr_scale", "0.5"]
    argv += ["--adam_betas", str(list(BETAS)), "--adam_eps", str(EPS)]
    config = load_config(argv)
    parameters = [Parameter(Tensor(v, ms.float32), name=name) for name, v in start.items()]
    optimizer = build_optimizer(config, parameters, RATES)
    for gradient in gradients:
        optimizer(tuple(Tensor(gradient[p.name]) for p in parameters))
    rules = GroupRules.from_config(config)
    expected = _expected({n: v.copy() for n, v in start.items()}, gradients, rules, kind == "adamw")
    for parameter in parameters:
        found, name = parameter.asnumpy(), parameter.name
        np.testing.assert_allclose(found - start[name], expected[name] - start[name], atol=3e-7)
        assert (found != start[name].astype(np.float32)).all()


def test_a_skipped_step_is_no_update_of_adam():
    """The correction belongs to the updates that were made, the rate to the steps of the run."""
    outcomes = []
    for skipped in (0, 2):
        parameter = Parameter(Tensor([1.0, 2.0], ms.float32), name="fc.weight")
        config = load_config(["--optimizer", "adamw"])
        optimizer = build_optimizer(config, [parameter], np.full(4, 0.1, np.float32))
        optimizer.global_step.set_data(Tensor([skipped], ms.int32))
        optimizer((Tensor([0.5, -0.25], ms.float32),))
        outcomes.append(parameter.asnumpy())
    np.testing.assert_array_equal(*outcomes)
    np.testing.assert_allclose(outcomes[0], [0.9, 2.1], rtol=1e-4)  # the first step is the rate
