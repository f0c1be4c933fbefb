# SPDX-License-Identifier: Apache-2.0
"""What is shown of work in progress."""

import os
import sys
import time
from collections.abc import Callable
from typing import TextIO

from ..base.console import is_terminal, lost_output, warn
from ..base.messages import one_line


class StatusLine:
    """Shows progress: one rewritten line on a terminal, a plain line every so often anywhere else.

    What cannot be written is lost, and said once on the standard error.

    Args:
        stream: where to; default the standard output of the moment.
        seconds: least time between two rewritings on a terminal.
    """

    def __init__(self, stream: TextIO | None = None, seconds: float = 0.2) -> None:
        self.stream = stream or sys.stdout or open(os.devnull, "w")  # noqa: SIM115
        self.seconds = seconds
        self.terminal = is_terminal(self.stream)
        self._shown = 0.0
        self._open = False
        self._told = False

    def show(self, text: str, *, keep: bool) -> None:
        """Show `text`; anywhere but on a terminal only when it is to be kept."""
        if self.terminal:
            now = time.monotonic()
            if keep or now - self._shown >= self.seconds:
                self._shown, self._open = now, True
                self._write(f"\r\x1b[K{text}")
        elif keep:
            self._write(text + "\n")

    def say(self, text: str) -> None:
        """Print a line of its own."""
        self._write(("\n" if self._open else "") + one_line(text) + "\n")
        self._open = False

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError) as error:  # ValueError: closed
            if not self._told:
                self._told = True
                warn(lost_output("standard output", error))


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
