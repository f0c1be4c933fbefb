# SPDX-License-Identifier: Apache-2.0
"""The weights of a run: those in training, and the average of them that is evaluated."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindspore import Parameter, nn

from ..checkpoints.file import save_checkpoint
from ..model_utils.config import Config
from ..model_utils.configuration.derived import trains_batch_norm
from ..model_utils.cpu_operators import cpu_library
from ..optimization.moving_average import MovingAverage
from ..processes.ranks import Ranks, moving_statistics


class Weights:
    """A network's weights in training, with their moving average where there is one.

    Args:
        network: the detector.
        config: uses ema, what normalises, and what decides about our C++ operators.
        ranks: the processes of the run.

    Attributes:
        network: the detector.
        average: of its weights; None without `ema`.
    """

    def __init__(self, network: nn.Cell, config: Config, ranks: Ranks) -> None:
        self.network, self._ranks = network, ranks
        self._has_statistics = trains_batch_norm(config)
        self.average: MovingAverage | None = None
        if config.ema:
            changing = {p.name: p for p in network.trainable_params()}
            changing.update((p.name, p) for p in moving_statistics(network.get_parameters()))
            self.average = MovingAverage(changing.values(), config.ema, cpu_library(config))

    def averages(self) -> dict[str, Parameter]:
        """Return the averages by the names of their parameters; none without `ema`."""
        return self.average.by_name() if self.average else {}

    def begin(self, *, resumed: bool) -> None:
        """Give every rank what rank 0 has.

        Args:
            resumed: whether the averages are there already; else they begin with the weights.
        """
        self._ranks.broadcast_parameters(self.network.get_parameters())
        if self.average and resumed:
            self._ranks.broadcast_parameters(self.average.averages)
        elif self.average:
            self.average.begin()

    def trained(self, step: int) -> None:
        """Take note of a step.

        Args:
            step: its number in the run, from 1.
        """
        if self.average is not None:
            self.average.take(step)

    def share_statistics(self) -> None:
        """Give BatchNorm's moving statistics, of each rank's own batches, their mean.

        They take no part in training, and averaging is linear: when it is done changes nothing.
        """
        if not self._has_statistics:
            return
        self._ranks.average(moving_statistics(self.network.get_parameters()))
        self._ranks.average(moving_statistics(self.averages().values()))

    def evaluated(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the network has the weights that are evaluated."""
        return self.average.in_place() if self.average else contextlib.nullcontext()

    def save(self, path: Path, optimizer: nn.Optimizer | None, meta: Mapping[str, Any]) -> None:
        """Write a checkpoint.

        Args:
            path: of the file.
            optimizer: whose state is saved with it; None: only the weights that are evaluated.
            meta: what the checkpoint says of itself.

        Raises:
            UserError: it cannot be written.
        """
        save_checkpoint(path, self.network, optimizer, meta, averages=self.averages())
