# SPDX-License-Identifier: Apache-2.0
"""When checkpoints are due within an epoch, and what becomes of one that cannot be written."""

import functools
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..base.console import is_terminal, warn
from ..base.errors import UserError
from .checkpoint_keeper import CheckpointKeeper

RETRY_SECONDS = 60.0  # until a checkpoint that could not be written is tried again
SPACE_SECONDS = 600.0  # that the last one of a run waits for space, with a user at the terminal
_POLL_SECONDS = 5.0


class CheckpointSaver:
    """Writes a run's checkpoints. One that cannot be written does not end the run: the next chance
    is a minute later, or the end of the epoch; only the last one has to succeed.

    Args:
        keeper: of the folder.
        write: (path, with the optimizer's state?, meta) writes a checkpoint of the present weights,
            or raises `UserError`.
        steps: save every so many steps of the run; 0 for not.
        minutes: save when so many have passed since the last time; 0 for not.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        keeper: CheckpointKeeper,
        write: Callable[[Path, bool, Mapping[str, Any]], None],
        *,
        steps: int = 0,
        minutes: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.keeper = keeper
        self._write = write
        self._steps, self._seconds, self._clock = steps, 60.0 * minutes, clock
        self._last = clock()
        self._missing: dict[str, Callable[[], None]] = {}  # by name: what writes it

    def due(self, global_step: int) -> bool:
        """Say whether to save after this step of the run.

        Args:
            global_step: from 1.
        """
        if self._steps and global_step % self._steps == 0:
            return True
        passed = self._clock() - self._last
        if self._missing and passed >= RETRY_SECONDS:
            return True
        return self._seconds > 0 and passed >= self._seconds

    def save(self, name: str, meta: Mapping[str, Any], *, within_epoch: bool = False) -> bool:
        """Write a training checkpoint and list it; say whether that worked.

        Args:
            name: of `checkpoint_name`.
            meta: what the checkpoint says of the model and the run; plain JSON values.
            within_epoch: whether the epoch goes on after it (see `CheckpointKeeper`).
        """

        def write() -> None:
            self._write(self.keeper.path(name), True, meta)
            self.keeper.added(name, within_epoch=within_epoch)

        self._missing.clear()  # of weights that are no more, and not needed any longer
        done = self._try(name, write)
        self._last = self._clock()
        return done

    def save_weights(self, name: str, meta: Mapping[str, Any]) -> bool:
        """Write a checkpoint without the optimizer's state; say whether that worked.

        Args:
            name: the file's name.
            meta: as for `save`.
        """
        return self._try(name, functools.partial(self._write, self.keeper.path(name), False, meta))

    def trained(self) -> None:
        """The weights have changed: what could not be written of them before is gone."""
        for name in [name for name in self._missing if not name.startswith("faster_rcnn-")]:
            del self._missing[name]

    def finish(self) -> None:
        """Write what is still missing of the present weights.

        Where a user can see to it, this waits for space, for `SPACE_SECONDS`. (Processes that train
        together have no terminal, and so the others never wait for that.)

        Raises:
            UserError: it cannot be written.
        """
        until = self._clock() + (SPACE_SECONDS if is_terminal(sys.stdin) else 0.0)
        told = False
        for name, write in list(self._missing.items()):
            while True:
                try:
                    write()
                    break
                except UserError as error:
                    if self._clock() >= until:
                        raise
                    if not told:
                        warn(
                            f"WARNING: {error}. Waiting up to {SPACE_SECONDS / 60:.0f} minutes for "
                            "that; Ctrl-C gives it up"
                        )
                    told = True
                    time.sleep(_POLL_SECONDS)
            del self._missing[name]

    def _try(self, name: str, write: Callable[[], None]) -> bool:
        try:
            write()
        except UserError as error:
            warn(
                f"WARNING: {error}. The training goes on, and saves again at the next chance; "
                f"{self._newest()}"
            )
            self._missing[name] = write
            return False
        self._missing.pop(name, None)
        return True

    def _newest(self) -> str:
        names = [name for name in self.keeper.names if self.keeper.path(name).exists()]
        return f"the newest checkpoint is {names[-1]}" if names else "there is no checkpoint yet"
