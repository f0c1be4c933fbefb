# SPDX-License-Identifier: Apache-2.0
"""Feature maps that are computed again: the same losses, gradients and statistics."""

from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from src.FasterRcnn.layers import Dense, conv2d
from src.FasterRcnn.recomputation import PARTS, recompute
from src.FasterRcnn.resnet import Bottleneck, Stage
from tests.helpers.network_helpers import fill_by_recipe

CHANNELS = 16


class _Backbone(nn.Cell):
    def __init__(self, norm):
        super().__init__()
        for number in range(1, 5):
            block = Bottleneck(CHANNELS, CHANNELS, CHANNELS, 1, norm, 1e-5, True)
            setattr(self, f"layer{number}", Stage([block]))

    def construct(self, x, cells):
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x, cells)
        return x


class _Net(nn.Cell):
    """The parts of a detector, a few operators each."""

    def __init__(self, norm, own):
        super().__init__()
        self.own = own
        self.backbone = _Backbone(norm)
        self.fpn_neck = conv2d(CHANNELS, 8, 3)
        self.rpn_with_loss = nn.SequentialCell(conv2d(8, 8, 3), nn.ReLU(), conv2d(8, 1, 1))
        self.rcnn = nn.SequentialCell(Dense(8, 8), nn.ReLU(), Dense(8, 4))

    def construct(self, x):
        x = self.fpn_neck(self.backbone(x, self.own))
        head = self.rcnn(ops.reduce_mean(x, (2, 3)))
        return ops.reduce_sum(self.rpn_with_loss(x)) + ops.reduce_sum(head * head)


def _train_step(norm, own, parts):
    """Everything that one step gives, by name."""
    network = _Net(norm, own)
    fill_by_recipe(network)
    recompute(network, parts)
    network.set_train()
    image = np.random.default_rng(1).standard_normal((2, CHANNELS, 6, 6)).astype(np.float32)
    parameters = network.trainable_params()
    loss, gradients = ms.value_and_grad(network, None, parameters)(Tensor(image))
    result = {p.name: g.asnumpy() for p, g in zip(parameters, gradients, strict=True)}
    moving = [p for p in network.get_parameters() if ".moving_" in p.name]
    return {"loss": loss.asnumpy(), **result, **{p.name: p.asnumpy() for p in moving}}


@pytest.mark.parametrize(
    "norm, own",
    [("frozen_bn", None), ("bn", None), ("bn", Tensor([[6.0, 4.0], [3.0, 6.0]]))],
    ids=["frozen", "bn", "tight bn"],
)
def test_losses_gradients_and_statistics_stay(norm, own):
    expected, found = _train_step(norm, own, []), _train_step(norm, own, ["all"])
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6, err_msg=name)
    assert np.abs(expected["fpn_neck.weight"]).max() > 1e-3


@pytest.mark.parametrize("parts", [[], ["backbone"], ["neck", "head"], ["rpn"], list(PARTS)])
def test_the_parts_that_are_named(parts):
    chosen = []

    def cell(name):
        return SimpleNamespace(recompute=lambda: chosen.append(name), cells_and_names=list)

    stages = {f"layer{i}": SimpleNamespace(cell_list=[cell("backbone")] * 2) for i in (1, 2, 3, 4)}
    network = SimpleNamespace(
        backbone=SimpleNamespace(**stages),
        fpn_neck=cell("neck"),
        rpn_with_loss=cell("rpn"),
        rcnn=cell("head"),
    )
    recompute(network, parts)
    assert set(chosen) == set(parts) and chosen.count("backbone") in (0, 8)
    whole, chosen[:] = list(chosen), []
    recompute(network, ["all"])
    assert set(chosen) == set(PARTS) and len(whole) <= len(chosen)
