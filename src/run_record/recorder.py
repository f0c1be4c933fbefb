# SPDX-License-Identifier: Apache-2.0
"""The record of a run while it goes: rows for the disk and for the hooks."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .callback import Evaluation, RunInfo
from .hooks import Hooks
from .metrics_log import MetricsLog
from .rows import Place, evaluation_row, training_row
from .schema import Row


class Recorder:
    """Takes what steps and evaluations give.

    Every rank has one, for what they know alike; only the first has a log and hooks.

    Args:
        log: where rows go; None: nowhere.
        hooks: of the run.
        images_per_step: of all ranks.
        memory: returns the most bytes so far, or None.
        clock: seconds since 1970, for tests.

    Attributes:
        hooks: of the run.
        newest: the newest training row; empty before there is one.
    """

    def __init__(
        self,
        log: MetricsLog | None = None,
        hooks: Hooks | None = None,
        *,
        images_per_step: int = 1,
        memory: Callable[[], int | None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.hooks = hooks or Hooks()
        self.newest: Row = log.newest_training if log else {}
        self._log, self._memory, self._clock = log, memory, clock
        self._images_per_step = images_per_step
        self._norm = _Mean()
        self._seconds = _Mean()

    def start(self, run: RunInfo) -> None:
        """Tell the hooks that the run begins.

        Args:
            run: what it is.

        Raises:
            UserError: a hook cannot do with it.
        """
        self.hooks.start(run)

    def step(self, number: int, gradient_norm: float, seconds: float | None) -> None:
        """Take note of a step.

        Args:
            number: steps of the run that are done.
            gradient_norm: not finite for a step that was skipped.
            seconds: it took, None where that is not known.
        """
        self._norm.add(gradient_norm)
        self._seconds.add(seconds)
        self.hooks.step(number)

    def training(
        self,
        place: tuple[int, int, int],
        losses: Sequence[float],
        *,
        learning_rate: float,
        loss_scale: float,
    ) -> None:
        """Write the row of the steps since the last one.

        Args:
            place: step of the run, epoch, images of the epoch.
            losses: (6,) means over these steps and over all ranks.
            learning_rate, loss_scale: of the last step.
        """
        row = training_row(
            Place(*place, self._clock()),
            losses,
            learning_rate=learning_rate,
            loss_scale=loss_scale,
            gradient_norm=self._norm.take(),
            seconds=self._seconds.take(),
            images_per_step=self._images_per_step,
            memory=self._memory(),
        )
        self.newest = row
        if self._log:
            self._log.add(row)
            self.hooks.call("on_train_row", row)

    def evaluation(
        self,
        place: tuple[int, int, int],
        found: Evaluation,
        *,
        losses: Sequence[float] | None,
        seconds: float,
        images_per_second: float,
    ) -> Row:
        """Write the row of an evaluation, and return it.

        Args:
            place: as in `training`.
            found: its results.
            losses: (6,) on the validation images, None when they were not computed.
            seconds: of all of it.
            images_per_second: of detecting.
        """
        row = evaluation_row(
            Place(*place, self._clock()),
            found.summary.stats.tolist(),
            {result.name: result.ap for result in found.summary.per_class},
            losses=losses,
            num_images=found.summary.num_images,
            num_detections=len(found.results),
            seconds=seconds,
            images_per_second=images_per_second,
        )
        if self._log:
            self._log.add(row)
            self.hooks.call("on_evaluation", row, found)
        return row

    def saved(self, path: Path) -> None:
        """Tell the hooks of a checkpoint.

        Args:
            path: the file.
        """
        self.hooks.call("on_checkpoint", path)

    def sync(self) -> None:
        """Put what has been written on the disk, as far as that is possible."""
        if self._log:
            self._log.sync()

    def end(self, exit_code: int) -> None:
        """Tell the hooks that the run is over.

        Args:
            exit_code: of the program.
        """
        self.sync()
        self.hooks.call("on_end", exit_code)

    def state(self) -> dict[str, Any]:
        """Return the unfinished mean of the gradients' norm, as plain numbers."""
        return self._norm.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with `state()` of an earlier part of the run.

        Args:
            state: what `state` returned.
        """
        self._norm.restore(state)


class _Mean:
    """The mean of the numbers since it was last taken; what is not finite does not count."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, value: float | None) -> None:
        if value is not None and math.isfinite(value):
            self._sum += value
            self._count += 1

    def take(self) -> float | None:
        mean = self._sum / self._count if self._count else None
        self._sum, self._count = 0.0, 0
        return mean

    def state(self) -> dict[str, Any]:
        return {"sum": self._sum, "count": self._count}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._sum, self._count = float(state["sum"]), int(state["count"])
