# SPDX-License-Identifier: Apache-2.0
"""How the processes of a run average their gradients, by device."""

from typing import TYPE_CHECKING, Any, Protocol

from .config import Config
from .cpu_operators import cpu_library
from .device_adapter import RESERVE_SECONDS

if TYPE_CHECKING:
    from mindspore import nn


class Processes(Protocol):
    """The processes of a run, such as `processes.ranks.Ranks`: what is needed of them here."""

    rank: int
    world_size: int

    def broadcast(self, content: Any) -> Any:
        """Return what rank 0 gives."""

    def all_gather(self, content: Any) -> list[Any]:
        """Return what each rank gives."""


def mean_over_ranks(config: Config, ranks: Processes) -> "nn.Cell | None":
    """Return the Cell that averages gradients over the processes of one machine on a CPU.

    None elsewhere: on Ascend and GPU, and for CPUs of several machines, where MindSpore does it.

    Args:
        config: its `rank_timeout` and the keys of `cpu_library` are read.
        ranks: of the run; all call this.
    """
    if ranks.world_size == 1 or config.device_target != "CPU":
        return None
    from ..native.exchange import NativeMean, join_processes

    found = cpu_library(config)
    joined = join_processes(
        found,
        ranks.rank,
        ranks.world_size,
        seconds=float(config.rank_timeout) + RESERVE_SECONDS,
        broadcast=ranks.broadcast,
        all_gather=ranks.all_gather,
    )
    return NativeMean(found) if found and joined else None
