# SPDX-License-Identifier: Apache-2.0
"""The output folder of a run: taken for it, with what it goes on from and what it leaves there."""

import contextlib
import os
import shlex
from collections.abc import Callable
from pathlib import Path

from ..base.errors import UserError
from ..base.files import remove_leftovers, sync_folder
from ..base.messages import counted
from ..base.program import command
from ..checkpoints.file import Checkpoint
from ..checkpoints.names import BEST_NAME
from ..model_utils.config import Config
from ..processes.ranks import Ranks
from ..processes.run_lock import hold_run_folder
from ..run_record.going_on import going_on
from ..weights.opening import require_weights
from .checkpoint_keeper import CheckpointKeeper
from .resume import changed_lines, newest_checkpoint, open_start


class RunFolder:
    """Takes the folder, and looks at the files that the user has named: before data is converted.

    The files are rank 0's: on another server they need not be.

    Args:
        config: uses output_dir, resume, pre_trained, keep_checkpoint_max.
        ranks: the processes of the run; all of them do this.
        say: prints a line.

    Attributes:
        path: the folder.
        keeper: of its checkpoints.
        start: what rank 0 goes on from, None at the beginning of a run and on the other ranks.
        settings: the file with the effective configuration, once the run has begun.

    Raises:
        UserError: another run has the folder, or something named in the configuration cannot be
            used.
    """

    def __init__(self, config: Config, ranks: Ranks, say: Callable[[str], None]) -> None:
        self.path = Path(config.output_dir)
        self.settings = self.path / "config.yaml"
        self.start: Checkpoint | None = None
        self._is_first, self._say = ranks.rank == 0, say
        with ranks.watch(config.rank_timeout):
            hold_run_folder(self.path, ranks)
        checkpoints, keep = self.path / "ckpt_0", config.keep_checkpoint_max
        if not self._is_first:
            self.keeper = CheckpointKeeper(checkpoints, keep)
            return
        self.start = open_start(config.resume, checkpoints, say)
        if config.pre_trained and not self.start:
            require_weights(config.pre_trained, "pre_trained")
        self.keeper = CheckpointKeeper(checkpoints, keep, resume=bool(self.start), say=say)
        self._refuse_another_run()
        removed = remove_leftovers(checkpoints) + remove_leftovers(self.path)
        if removed:
            say(f"removed {counted(removed, 'half-written file')} from {checkpoints}")

    def _refuse_another_run(self) -> None:
        """Check that the checkpoints in the folder are those of the run that goes on.

        Raises:
            UserError: they are not.
        """
        folder = self.keeper.folder
        goes_on_here = self.start and os.path.samefile(self.start.path.parent, folder)
        newest = "" if goes_on_here else newest_checkpoint(folder)
        if newest:
            raise UserError(
                f"{folder}: holds the checkpoints of another run (newest {newest}); go "
                "on with it by --resume auto, or choose another output_dir"
            )

    def take_start(self) -> Checkpoint | None:
        """Return `start` and forget it: its arrays take as much memory as the weights."""
        start, self.start = self.start, None
        return start

    def begin(self, config: Config, *, resumed: bool) -> None:
        """Leave the run's mark on its folder, now that nothing can keep it from beginning.

        Args:
            config: the effective configuration.
            resumed: whether the run goes on.
        """
        self.settings = config.path_in(self.path)
        if not self._is_first:
            return
        self.keeper.write_index()
        for line in changed_lines(self.settings, config) if resumed else ():
            self._say(line)
        config.save(str(self.settings))
        sync_folder(self.path)
        if self.settings.name != "config.yaml":
            self._say(f"config.yaml is yours; the effective one is {self.settings}")

    def after_a_stop(self, config: Config) -> list[str]:
        """Return lines on what a stopped run has left, and the command with which it goes on.

        Args:
            config: the effective configuration.
        """
        best = self.keeper.path(BEST_NAME)
        arguments = going_on(self.path, self.settings, config.callbacks)
        page = shlex.quote(str(self.path.resolve()))
        return [
            *([f"best weights so far: {best.resolve()}"] if best.is_file() else []),
            f"report, as far as it got: {command('report')} {page}",
            f"continue with: {command('train')} {arguments}",
        ]

    def keep_settings(self, config: Config) -> None:
        """Write the configuration again if somebody has removed the run's folder.

        Args:
            config: the effective configuration.
        """
        if not os.path.lexists(self.settings):
            with contextlib.suppress(UserError):
                config.save(str(self.settings))
