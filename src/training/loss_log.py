# SPDX-License-Identifier: Apache-2.0
"""The loss log of a run, which outlives a full disk and is gone on with after a crash."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..base.line_log import LineLog, take_over
from ..FasterRcnn.names import LOSS_NAMES, total_loss

_LINE_BYTES = 1024  # more than any line has
_VALUE = r"(?:-?[0-9]+\.[0-9]+|nan|-?inf)"
_LOG_LINE = re.compile(
    r"epoch: ([0-9]{1,9}) step: ([0-9]{1,9}), "
    + "".join(rf"{name}: {_VALUE}, " for name in LOSS_NAMES)
    + rf"total_loss: {_VALUE}\n"
)


def loss_line(epoch: int, step: int, losses: Sequence[float] | np.ndarray) -> str:
    """Return one line of a loss log.

    Args:
        epoch, step: from 1; the step counts within its epoch.
        losses: (6,) in the order of `names.Losses`.
    """
    parts = [f"{name}: {value:.5f}" for name, value in zip(LOSS_NAMES, losses, strict=True)]
    parts.append(f"total_loss: {total_loss(losses):.5f}")
    return f"epoch: {epoch} step: {step}, {', '.join(parts)}"


class LossLog:
    """Writes `loss_<rank>.log`: averages every `interval` steps and at each epoch's end.

    Args:
        path: the file; started anew, or continued when `resume_at` is given.
        interval: steps to average over.
        steps_per_epoch: after as many steps an epoch ends.
        resume_at: (epoch, step) where the run goes on; lines after it, written by a run that was
            killed later, are taken out. A log that is damaged is kept under another name, and its
            sound lines are taken over.

    Attributes:
        means: (6,) float64, of the steps since the last line; right after a line, what it says.

    Raises:
        UserError: when the file cannot be begun.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        interval: int,
        steps_per_epoch: int,
        resume_at: tuple[int, int] | None = None,
    ) -> None:
        self.path = Path(path)
        self.interval = interval
        self.steps_per_epoch = steps_per_epoch
        self.means = np.zeros(len(LOSS_NAMES))
        self._sums = np.zeros(len(LOSS_NAMES))
        self._count = 0
        self._lines = LineLog(self.path, _lines_until(self.path, resume_at) if resume_at else [])

    def update(self, epoch: int, step: int, losses: Sequence[float] | np.ndarray) -> bool:
        """Take the losses of a step; say whether that made a line, which has `means`.

        Args:
            epoch, step: from 1; the step counts within its epoch.
            losses: (6,) in the order of `names.Losses`.
        """
        self._sums += np.asarray(losses, np.float64)
        self._count += 1
        self.means = self._sums / self._count
        if step % self.interval and step != self.steps_per_epoch:
            return False
        self._sums[:] = 0
        self._count = 0
        self._lines.write(loss_line(epoch, step, self.means))
        return True

    def sync(self) -> None:
        """Put what has been written on the disk, as far as that is possible."""
        self._lines.sync()

    def state(self) -> dict[str, Any]:
        """Return the unfinished average, as plain numbers."""
        return {"sums": self._sums.tolist(), "count": self._count}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with the unfinished average of `state()`.

        Args:
            state: sums and count of the steps since the last line.
        """
        self._sums = np.asarray(state["sums"], np.float64)
        self._count = int(state["count"])


def _lines_until(path: Path, position: tuple[int, int]) -> list[str]:
    """Return the lines of a loss log up to (epoch, step) `position`, in the order of training.

    Raises:
        UserError: it cannot be read.
    """

    def judge(line: bytes) -> bool | None:
        match = _LOG_LINE.fullmatch(line.decode("ascii", "replace"))
        return (int(match[1]), int(match[2])) <= position if match else None

    return take_over(path, judge, what="loss log", longest=_LINE_BYTES)
