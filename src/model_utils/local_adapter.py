# SPDX-License-Identifier: Apache-2.0
"""Rank, number of processes and device, as the launcher put them into the environment.

MindSpore's own scripts set RANK_ID, RANK_SIZE and DEVICE_ID; msrun sets MS_NODE_ID and
MS_WORKER_NUM; mpirun sets OMPI_COMM_WORLD_*.
"""

import os
from collections.abc import Sequence

from ..base.errors import UserError
from ..base.messages import short

RANK_VARIABLES = ("RANK_ID", "MS_NODE_ID", "OMPI_COMM_WORLD_RANK")
SIZE_VARIABLES = ("RANK_SIZE", "MS_WORKER_NUM", "OMPI_COMM_WORLD_SIZE")
_MOST_DIGITS = 9
DEVICE_VARIABLES = ("DEVICE_ID", "OMPI_COMM_WORLD_LOCAL_RANK")


def _read(names: Sequence[str], lowest: int) -> int | None:
    """Value of the first of the variables that is set.

    Raises:
        UserError: it is not a whole number from `lowest` on.
    """
    for name in names:
        text = os.environ.get(name, "").strip()
        if not text:
            continue
        # isdecimal: int() would take "1_0" and signs too
        if not text.isdecimal() or len(text) > _MOST_DIGITS or int(text) < lowest:
            raise UserError(
                f"environment: {name}: {short(text)} is not a whole number from {lowest} on; "
                "unset it or let the launcher set it"
            )
        return int(text)
    return None


def get_rank() -> int:
    """This process' number among all, from 0; 0 without a launcher."""
    rank = _read(RANK_VARIABLES, 0) or 0
    size = get_world_size()
    if rank >= size:
        raise UserError(
            f"environment: {'/'.join(RANK_VARIABLES)}: rank {rank} of {size} processes cannot be; "
            f"set {'/'.join(SIZE_VARIABLES)} too, or unset both"
        )
    return rank


def get_world_size() -> int:
    """Number of processes that train together; 1 without a launcher."""
    return _read(SIZE_VARIABLES, 1) or 1


def get_device_id() -> int | None:
    """The accelerator that the launcher gave this process, or None when it left that open."""
    return _read(DEVICE_VARIABLES, 0)
