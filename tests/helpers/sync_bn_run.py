# SPDX-License-Identifier: Apache-2.0
"""One training step of two residual blocks with BatchNorm, of one process or of two with half each.

As a script: sync_bn_run.py --output_dir FOLDER; every rank writes what `train_step` returns.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
os.environ.setdefault("GLOG_v", "3")
import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from src.FasterRcnn.norms import share_statistics
from src.FasterRcnn.resnet import Bottleneck, Stage
from src.processes.ranks import SumOverRanks, moving_statistics

IMAGES, CHANNELS, HEIGHT, WIDTH = 4, 6, 5, 7
CELLS = np.array([[5, 7], [3, 2], [1, 7], [4, 4]], np.float32)  # of own canvases


class Net(nn.Cell):
    """Two blocks, one with a projection beside it; the loss weighs every cell by itself."""

    def __init__(self, own):
        super().__init__()
        blocks = [Bottleneck(channels, 4, CHANNELS, 1, "bn", 1e-5) for channels in (3, CHANNELS)]
        self.stage = Stage(blocks)
        self.own = own

    def construct(self, x, factors):
        return ops.reduce_sum(ops.tanh(self.stage(x, self.own)) * factors)


def train_step(rank, world_size, masked):
    """Return the loss, gradients, statistics and the rest of one step, by their names."""
    rng = np.random.default_rng(3)
    shape = (IMAGES, CHANNELS, HEIGHT, WIDTH)
    own = slice(rank, None, world_size)
    x = rng.normal(2.0, 3.0, (IMAGES, 3, HEIGHT, WIDTH)).astype(np.float32)
    factors = rng.normal(0.0, 1.0, shape).astype(np.float32)
    if masked:
        rows, columns = np.arange(HEIGHT)[:, None], np.arange(WIDTH)
        shown = (rows < CELLS[:, :1, None]) & (columns < CELLS[:, 1:, None])
        factors *= shown[:, None]
    net = Net(Tensor(CELLS[own]) if masked else None)
    for parameter in net.get_parameters():
        if parameter.name.endswith(("weight", "gamma", "beta")):
            parameter.set_data(Tensor(rng.normal(0.3, 0.5, parameter.shape).astype(np.float32)))
    parameters = net.trainable_params()
    reducer = ops.identity
    if world_size > 1:
        share_statistics(net, SumOverRanks())
        reducer = nn.DistributedGradReducer(parameters, mean=False)
    net.set_train()
    step = ms.value_and_grad(net, 0, parameters)
    loss, (dx, gradients) = step(Tensor(x[own]), Tensor(factors[own]))
    result = {p.name: g.asnumpy() for p, g in zip(parameters, reducer(gradients), strict=True)}
    result |= {p.name: p.asnumpy() for p in moving_statistics(net.get_parameters())}
    return {**result, "loss": loss.asnumpy(), "dx": dx.asnumpy()}


def result_file(folder, masked, rank):
    return folder / f"step_{masked}_{rank}.npz"


def main(folder):
    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    from mindspore.communication import get_group_size, get_rank, init

    init()
    ms.set_auto_parallel_context(parallel_mode=ms.ParallelMode.DATA_PARALLEL)
    rank, world_size = get_rank(), get_group_size()
    for masked in (False, True):
        np.savez(result_file(folder, masked, rank), **train_step(rank, world_size, masked))


if __name__ == "__main__":
    main(Path(sys.argv[-1]))
