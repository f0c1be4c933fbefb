# SPDX-License-Identifier: Apache-2.0
"""The loss log of a run, which outlives a full disk and is gone on with after a crash."""

import collections
import contextlib
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..base.console import warn
from ..base.errors import UserError
from ..base.files import write_text_atomic
from ..base.foreign_files import is_regular_file
from ..FasterRcnn.names import LOSS_NAMES, total_loss

MOST_KEPT_LINES = 100_000  # 20 MB
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

    Lines that cannot be written (a full disk) are kept, up to `MOST_KEPT_LINES`, and written as
    soon as that works; the training goes on.

    Args:
        path: the file; started anew, or continued when `resume_at` is given.
        interval: steps to average over.
        steps_per_epoch: after as many steps an epoch ends.
        resume_at: (epoch, step) where the run goes on; lines after it, written by a run that was
            killed later, are taken out. A log that is damaged is kept under another name, and its
            sound lines are taken over.

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
        self._sums = np.zeros(len(LOSS_NAMES))
        self._count = 0
        self._unwritten: collections.deque[str] = collections.deque()
        self._lost = 0
        try:
            kept = take_over(self.path, resume_at) if resume_at else []
            write_text_atomic(self.path, "".join(kept))
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror or error}); free some space, or "
                "choose another output_dir"
            ) from error

    def update(self, epoch: int, step: int, losses: Sequence[float] | np.ndarray) -> str | None:
        """Take the losses of a step; return the line that became due, if one did.

        Args:
            epoch, step: from 1; the step counts within its epoch.
            losses: (6,) in the order of `names.Losses`.
        """
        self._sums += np.asarray(losses, np.float64)
        self._count += 1
        if step % self.interval and step != self.steps_per_epoch:
            return None
        line = loss_line(epoch, step, self._sums / self._count)
        self._sums[:] = 0
        self._count = 0
        self._write(line)
        return line

    def sync(self) -> None:
        """Put what has been written on the disk, as far as that is possible."""
        if self._unwritten:
            self._write()
        with contextlib.suppress(OSError), open(self.path, "rb") as file:
            os.fsync(file.fileno())

    def _write(self, *lines: str) -> None:
        failed_before = bool(self._unwritten)
        self._unwritten.extend(lines)
        try:
            append_whole(self.path, "".join(line + "\n" for line in self._unwritten))
        except OSError as error:
            while len(self._unwritten) > MOST_KEPT_LINES:
                self._unwritten.popleft()
                self._lost += 1
            if not failed_before:
                warn(
                    f"WARNING: {self.path}: cannot be written ({error.strerror or error}); the "
                    "training goes on, and its lines are written when that is possible again"
                )
            return
        self._unwritten.clear()
        if failed_before:
            lost = f", without {self._lost} lines that were too many to keep" if self._lost else ""
            warn(f"{self.path}: is written again{lost}")
            self._lost = 0

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


def take_over(path: Path, position: tuple[int, int]) -> list[str]:
    """Return the lines of a loss log up to (epoch, step) `position`, in the order of training.

    A log that is no such file, or has lines that no run writes (a power cut, another program),
    is kept as `<name>.damaged`.

    Args:
        path: the log; may be missing.
        position: (epoch, step), both from 1; later lines are left out.

    Raises:
        OSError: it cannot be read, or not be kept.
    """
    if not os.path.lexists(path):
        return []
    kept: list[str] = []
    strange = 0
    if is_regular_file(path):
        with open(path, "rb") as file:
            while line := file.readline(_LINE_BYTES):
                match = _LOG_LINE.fullmatch(line.decode("ascii", "replace"))
                if match and (int(match[1]), int(match[2])) <= position:
                    kept.append(match[0])
                # What was being written when the run was killed is nothing strange.
                whole = line.endswith(b"\n") or len(line) == _LINE_BYTES
                strange += not match and (whole or b"\0" in line or not line.isascii())
        if not strange:
            return kept
    aside = next(
        name
        for number in itertools.count(1)
        if not os.path.lexists(name := path.with_name(f"{path.name}.damaged{number}"))
    )
    os.rename(path, aside)
    warn(
        f"WARNING: {path}: damaged, or no loss log; kept as {aside.name}, and the run goes on "
        f"with the {len(kept)} lines that are sound"
    )
    return kept


def append_whole(path: Path, text: str) -> None:
    """Append to a text file all of `text` or nothing; the file is made when it is gone.

    Args:
        path: the file.
        text: whole lines.

    Raises:
        OSError: nothing could be appended.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", buffering=0) as file:
        length = os.fstat(file.fileno()).st_size
        data = memoryview(text.encode("utf-8"))
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file.fileno(), length)
            raise
