# SPDX-License-Identifier: Apache-2.0
"""Which parameters decay, and at which rates they learn."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor

from src.model_utils.config import load_config
from src.network_define import build_optimizer
from src.optimization.groups import GroupRules, parameter_groups, parameter_kind

ms.set_context(mode=ms.GRAPH_MODE)

NAMES = (
    "backbone.conv1.weight",
    "backbone.bn1.gamma",
    "backbone.layer3.0.conv1.weight",
    "backbone.layer4.2.bn3.beta",
    "fpn_neck.lateral.0.bias",
    "rcnn.cls_scores.weight",
)


def _parameters(names=NAMES):
    return [Parameter(Tensor(np.full(2, 1 + i, np.float32)), name=n) for i, n in enumerate(names)]


def test_kinds_of_parameters():
    kinds = [parameter_kind(name) for name in NAMES]
    assert kinds == ["weights", "norms", "weights", "norms", "biases", "weights"]


def test_rates_fall_from_stage_to_stage():
    rules = GroupRules(1e-4, backbone_lr_scale=0.5, layer_lr_decay=0.8)
    scales = [rules.rate_scale_of(name) for name in NAMES]
    expected = [0.5 * 0.8**5, 0.5 * 0.8**5, 0.5 * 0.8**2, 0.5 * 0.8, 1.0, 1.0]
    assert scales == pytest.approx(expected)


@pytest.mark.parametrize(
    "without, decays",
    [(("norms",), [1, 0, 1, 0, 1, 1]), (("norms", "biases"), [1, 0, 1, 0, 0, 1]), ((), [1] * 6)],
)
def test_what_decays(without, decays):
    rules = GroupRules(1.0, without)
    assert [rules.decay_of(name) for name in NAMES] == decays


def test_groups_hold_every_parameter_once_and_keep_their_order():
    parameters = _parameters()
    rates = np.float32([0.1, 0.2])
    *groups, order = parameter_groups(parameters, rates, GroupRules(0.1, backbone_lr_scale=0.5))
    assert order["order_params"] == parameters
    names = [p.name for group in groups for p in group["params"]]
    assert sorted(names) == sorted(NAMES) and len(groups) == 3
    for group in groups:
        in_backbone = group["params"][0].name.startswith("backbone.")
        np.testing.assert_array_equal(
            group["lr"].asnumpy()[:2], rates * (0.5 if in_backbone else 1)
        )


def _update(parameters, gradients, argv, rates=(0.1, 0.1)):
    optimizer = build_optimizer(load_config(argv), parameters, np.float32(rates))
    for gradient in gradients:
        optimizer(tuple(map(Tensor, gradient)))
    return [p.asnumpy() for p in parameters]


def _gradients(count=2):
    rng = np.random.default_rng(0)
    return [[rng.standard_normal(2).astype(np.float32) for _ in NAMES] for _ in range(count)]


def test_sgd_in_groups_is_sgd_bit_for_bit_where_nothing_differs():
    """The same rules, once as MindSpore has them by itself and once as groups."""
    plain = _update(_parameters(), _gradients(), [])
    parameters, rules = _parameters(), GroupRules(1e-4)
    from src.network_define import make_optimizer

    groups = parameter_groups(parameters, np.float32([0.1, 0.1]), rules)
    optimizer = make_optimizer(groups, np.float32([0.1, 0.1]), momentum=0.9, weight_decay=1e-4)
    for gradient in _gradients():
        optimizer(tuple(map(Tensor, gradient)))
    for one, other in zip(plain, parameters, strict=True):
        np.testing.assert_array_equal(one, other.asnumpy())


def test_the_keys_reach_the_optimizer():
    argv = ["--weight_decay", "0.1", "--no_weight_decay", "[norms, biases]"]
    argv += ["--backbone_lr_scale", "0.5", "--momentum", "0"]
    gradients = _gradients(1)
    found = _update(_parameters(), gradients, argv)
    for place, (name, gradient) in enumerate(zip(NAMES, gradients[0], strict=True)):
        rate = 0.05 if name.startswith("backbone.") else 0.1
        decay = 0.1 if name.endswith("weight") else 0.0
        weight = np.full(2, 1.0 + place)
        expected = weight - rate * (gradient + decay * weight)
        np.testing.assert_allclose(found[place], expected, rtol=1e-6, err_msg=name)


def test_a_backbone_of_rate_0_stays():
    found = _update(_parameters(), _gradients(), ["--backbone_lr_scale", "0"])
    for place, name in enumerate(NAMES):
        assert (found[place] == 1 + place).all() == name.startswith("backbone.")
