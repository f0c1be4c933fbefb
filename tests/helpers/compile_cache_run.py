# SPDX-License-Identifier: Apache-2.0
"""Program of test_compile_cache: compiles cells through the cache in the folder of argument 1.

The other arguments are jobs, NAME=NUMBER: a JSON line for each says what came out, and whether the
cache had it.
"""

import json
import os
import sys

os.environ.setdefault("GLOG_v", "3")
import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from src.detector import build_detector, build_loss
from src.graph_cache import compile_cache
from src.graph_cache.graph_digest import graph_digest
from src.graph_cache.graph_entries import GraphEntry
from src.model_utils.config import load_config
from src.network_define import TrainOneStep, make_optimizer
from tests.helpers.network_helpers import small_batch, small_config


class Scaled(nn.Cell):
    """x * factor + weight."""

    def __init__(self, factor: float, weight: float) -> None:
        super().__init__()
        self.factor = factor
        self.weight = Parameter(Tensor(np.full(3, weight, np.float32)), name="weight")

    def construct(self, x):
        return x * self.factor + self.weight


class Losses(nn.Cell):
    """Six losses of a cell."""

    def __init__(self, cell: nn.Cell) -> None:
        super().__init__()
        self.cell = cell

    def construct(self, x):
        loss = (self.cell(x) ** 2).sum()
        return loss, loss, loss, loss, loss, loss


def outcome(name: str, number: float, cache: compile_cache.CompileCache) -> list:
    """What a job computes."""
    x = Tensor(np.arange(3, dtype=np.float32))
    if name == "detector":
        small = {"backbone": "resnet_v1.5_18", "rcnn_fc_out_channels": 32}
        config = small_config(compile_cache="off", rpn_nms_thr=number, **small)
        inputs = [Tensor(column) for column in small_batch(64, 96, 2)]
        step = TrainOneStep(
            build_loss(network := build_detector(config), config),
            make_optimizer(network.trainable_params(), np.ones(2), momentum=0.9, weight_decay=0.0),
        )
        return [graph_digest(config, step, inputs)]
    if name not in ("train", "longer"):
        cell = Scaled(number, 1.0) if name == "scale" else Scaled(2.0, number)
        return cache(cell, x).asnumpy().tolist()
    cell = Scaled(2.0, 1.0)
    steps = 2 if name == "train" else 5
    rates = np.array([number / 2**step for step in range(steps)], np.float32) / 100
    optimizer = make_optimizer(cell.trainable_params(), rates, momentum=0.9, weight_decay=0.0)
    step = TrainOneStep(Losses(cell), optimizer)
    step.set_train(True)
    for _ in range(2):
        losses, _ = cache(step, Tensor(1.0, ms.float32), x)
    return [*losses.asnumpy().tolist(), *cell.weight.asnumpy().tolist()]


def main() -> None:
    """Do the jobs."""
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device("CPU")
    read, found = GraphEntry.read, []
    GraphEntry.read = lambda entry: found.append(read(entry)) or found[-1]
    write, written = GraphEntry.write, []
    GraphEntry.write = lambda entry, content: written.append(entry) or write(entry, content)
    config = load_config([]).replace(device_target="CPU", compile_cache=sys.argv[1])
    notes: list[str] = []
    cache = compile_cache.CompileCache(config, notes.append)
    for job in sys.argv[2:]:
        name, _, number = job.partition("=")
        result = outcome(name, float(number), cache)
        # Used: it was there, and MindSpore did not write another one.
        hit = bool(found) and found[-1] is not None and not written
        print(json.dumps({"result": result, "hit": hit, "notes": notes}))
        found.clear(), written.clear(), notes.clear()


if __name__ == "__main__":
    main()
