# SPDX-License-Identifier: Apache-2.0
"""What happens around the training steps, one behaviour a class; none of them touches MindSpore."""

import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from src.errors import UserError
from src.messages import one_line

LOSS_ORDER = (
    "rpn_loss",
    "rcnn_loss",
    "rpn_cls_loss",
    "rpn_reg_loss",
    "rcnn_cls_loss",
    "rcnn_reg_loss",
)
_LOG_LINE = re.compile(r"epoch: (\d+) step: (\d+), ")


def loss_line(epoch: int, step: int, losses: Sequence[float]) -> str:
    """Return one line of a loss log.

    Args:
        epoch, step: from 1; the step counts within its epoch.
        losses: (6,) in the order of `LOSS_ORDER`; the total is the sum of the first two.
    """
    parts = [f"{name}: {value:.5f}" for name, value in zip(LOSS_ORDER, losses, strict=True)]
    parts.append(f"total_loss: {losses[0] + losses[1]:.5f}")
    return f"epoch: {epoch} step: {step}, {', '.join(parts)}"


class LossLog:
    """Writes `loss_<rank>.log`: averages every `interval` steps and at each epoch's end.

    Args:
        path: the file; started anew, or continued when `resume_at` is given.
        interval: steps to average over.
        steps_per_epoch: after as many steps an epoch ends.
        resume_at: (epoch, step) where the run goes on; lines after it, written by a run that was
            killed later, are taken out.

    Raises:
        UserError: when the file cannot be written.
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
        self._sums = np.zeros(len(LOSS_ORDER))
        self._count = 0
        kept = self._lines_until(resume_at) if resume_at else []
        with _writing(self.path):
            write_text_atomic(self.path, "".join(kept))

    def _lines_until(self, position: tuple[int, int]) -> list[str]:
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            return []
        found = [(_LOG_LINE.match(line), line) for line in lines if line.endswith("\n")]
        return [line for m, line in found if m and (int(m[1]), int(m[2])) <= position]

    def update(self, epoch: int, step: int, losses: Sequence[float]) -> str | None:
        """Take the (6,) losses of a step; return the line that was written, if one was due."""
        self._sums += np.asarray(losses, np.float64)
        self._count += 1
        if step % self.interval and step != self.steps_per_epoch:
            return None
        line = loss_line(epoch, step, self._sums / self._count)
        with _writing(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
        self._sums[:] = 0
        self._count = 0
        return line

    def state(self) -> dict[str, Any]:
        """Return the unfinished average, as plain numbers."""
        return {"sums": self._sums.tolist(), "count": self._count}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with the unfinished average of `state()`."""
        self._sums = np.asarray(state["sums"], np.float64)
        self._count = int(state["count"])


class StatusLine:
    """Shows progress: one rewritten line on a terminal, a plain line every so often anywhere else.

    Args:
        stream: where to; default the standard output of the moment.
        seconds: least time between two rewritings on a terminal.
    """

    def __init__(self, stream: TextIO | None = None, seconds: float = 0.2) -> None:
        self.stream = stream or sys.stdout
        self.seconds = seconds
        self.terminal = bool(getattr(self.stream, "isatty", lambda: False)())
        self._shown = 0.0
        self._open = False

    def show(self, text: str, *, keep: bool) -> None:
        """Show `text`; anywhere but on a terminal only when it is to be kept."""
        if self.terminal:
            now = time.monotonic()
            if keep or now - self._shown >= self.seconds:
                self._shown, self._open = now, True
                self.stream.write(f"\r\x1b[K{text}")
        elif keep:
            self.stream.write(text + "\n")
        self.stream.flush()

    def say(self, text: str) -> None:
        """Print a line of its own."""
        if self._open:
            self.stream.write("\n")
            self._open = False
        self.stream.write(one_line(text) + "\n")
        self.stream.flush()


class Progress:
    """Learning rate, milliseconds a step, images a second and time left of a training run.

    Args:
        status: where it is shown.
        epochs, steps_per_epoch: of the whole run.
        images_per_step: over all ranks.
        interval: steps between two lines that are kept.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        status: StatusLine,
        *,
        epochs: int,
        steps_per_epoch: int,
        images_per_step: int,
        interval: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.status = status
        self.epochs, self.steps_per_epoch = epochs, steps_per_epoch
        self.images_per_step, self.interval, self.clock = images_per_step, interval, clock
        self._last: float | None = None
        self._mean: float | None = None

    def pause(self) -> None:
        """Leave what happens until the next step (evaluation, saving) out of the time of a step."""
        self._last = None

    def update(self, epoch: int, step: int, rate: float, total_loss: float) -> None:
        """Take note of a finished step (epoch and step from 1)."""
        now = self.clock()
        if self._last is not None:
            # The first step compiles the graph and has no predecessor: it is not in the mean. The
            # mean moves, so that the time left follows a machine that gets busier.
            elapsed = now - self._last
            self._mean = elapsed if self._mean is None else 0.9 * self._mean + 0.1 * elapsed
        self._last = now
        text = (
            f"epoch {epoch}/{self.epochs} step {step}/{self.steps_per_epoch}"
            f"  lr {rate:.6f}  total_loss {total_loss:.5f}"
        )
        if self._mean is not None:
            left = (self.epochs - epoch + 1) * self.steps_per_epoch - step
            speed = self.images_per_step / self._mean if self._mean > 0 else float("inf")
            text += (
                f"  {1000 * self._mean:.0f} ms/step  {speed:.1f} images/s"
                f"  left {clock_time(left * self._mean)}"
            )
        self.status.show(text, keep=step % self.interval == 0 or step == self.steps_per_epoch)


def clock_time(seconds: float) -> str:
    """Return h:mm:ss.

    >>> clock_time(3725)
    '1:02:05'
    """
    minutes, rest = divmod(int(round(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


class CheckpointKeeper:
    """Remembers this run's checkpoints in a folder and deletes the oldest beyond `keep`.

    The names stand in `checkpoints.json`, oldest first, so that a later run in the same folder
    never counts, deletes or resumes from what another run left there.

    Args:
        folder: made when it is missing.
        keep: how many stay.
        resume: continue the list that is there instead of starting a new one.

    Raises:
        UserError: when the folder cannot be made.
    """

    INDEX = "checkpoints.json"

    def __init__(self, folder: str | Path, keep: int, *, resume: bool = False) -> None:
        self.folder, self.keep = Path(folder), keep
        with _writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.names = (self.read_index(self.folder) or []) if resume else []

    @classmethod
    def read_index(cls, folder: str | Path) -> list[str] | None:
        """Return the listed names whose files exist, oldest first; None without a list."""
        path = Path(folder) / cls.INDEX
        try:
            names = json.loads(path.read_text(encoding="utf-8"))["checkpoints"]
            return [name for name in names if (path.parent / name).is_file()]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write_index(self) -> None:
        """Write the list; a new run begins with it, so that nothing older is ever resumed from."""
        with _writing(self.folder / self.INDEX):
            write_text_atomic(
                self.folder / self.INDEX, json.dumps({"checkpoints": self.names}, indent=1) + "\n"
            )

    def path(self, name: str) -> Path:
        """Return where a checkpoint of that name belongs."""
        return self.folder / name

    def added(self, name: str) -> None:
        """Take a checkpoint, already written under `path(name)`, as the newest one."""
        self.names = [old for old in self.names if old != name] + [name]
        surplus, self.names = self.names[: -self.keep], self.names[-self.keep :]
        # First the list, then the files: a kill in between leaves a file too many, never one too
        # few.
        self.write_index()
        for old in surplus:
            with contextlib.suppress(OSError):
                (self.folder / old).unlink()


class StopSignals:
    """Turns SIGTERM and Ctrl-C into a wish that the loop grants after the current step.

    A context manager. The second Ctrl-C or SIGTERM acts at once, as without it. While MindSpore
    runs a graph it turns a Ctrl-C into a SIGTERM of its own; the exit code is SIGTERM's then.
    """

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self.exit_code: int | None = None
        self._say = say
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        self._before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
        self.listen()
        return self

    def listen(self) -> None:
        """Put the handlers in place again: MindSpore replaces Ctrl-C's by its own when its data
        pipeline starts, whose work it ends, and whenever it runs a graph."""
        if self.exit_code is None:
            for number in self._before:
                signal.signal(number, self._handle)

    def __exit__(self, *_exception: object) -> None:
        self._restore()

    def wanted(self) -> bool:
        """Say whether to stop, and keep listening."""
        self.listen()
        return self.exit_code is not None

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before = {}

    def _handle(self, number: int, _frame: object) -> None:
        self.exit_code = 128 + number
        self._restore()
        if self._say:
            with contextlib.suppress(Exception):  # a reentrant write must not stop the run
                self._say(f"{signal.Signals(number).name}: saving after this step, then leaving")


def write_text_atomic(path: str | Path, text: str) -> None:
    """Write a small text file whole or not at all.

    Raises:
        OSError: when the folder cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _writing(path: Path):
    """Turn an operating system's refusal into an error for the user."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); choose another output_dir"
        ) from error
