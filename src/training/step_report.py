# SPDX-License-Identifier: Apache-2.0
"""What is shown of a training run's steps."""

import time
from collections.abc import Callable

from ..base.progress import Display, Part, clock_time
from .divergence import FinishedStep

_NEWEST = 0.1  # the newest step's weight in the mean of their times


class StepReport:
    """Shows losses, milliseconds a step, images a second and time left of a training run.

    Args:
        display: where it is shown.
        epochs: of the whole run.
        steps_per_epoch: of each.
        images_per_step: over all ranks.
        interval: steps between two lines where there is no terminal.
        clock: seconds, for tests.

    Attributes:
        elapsed: seconds that the newest step took; None where it was not timed.
    """

    def __init__(
        self,
        display: Display,
        *,
        epochs: int,
        steps_per_epoch: int,
        images_per_step: int,
        interval: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._display, self._epochs, self._steps = display, epochs, steps_per_epoch
        self._images_per_step, self._interval, self._clock = images_per_step, interval, clock
        self.elapsed: float | None = None
        self._last: float | None = None
        self._mean: float | None = None

    def pause(self) -> None:
        """Leave what happens until the next step (evaluation, saving) out of the time of a step."""
        self._last = None

    def show(self, step: FinishedStep, loss: float) -> None:
        """Take note of a finished step.

        Args:
            step: what it gave.
            loss: the mean total loss of the steps since the last line, as the logs have it.
        """
        number = step.step_in_epoch
        parts = [
            Part(f"epoch {step.epoch}/{self._epochs} step {number}/{self._steps}"),
            Part(f"lr {step.rate:.6f}", 4),
            Part(f"total_loss {loss:.5f}", 2),
            *self._pace((self._epochs - step.epoch + 1) * self._steps - number),
        ]
        is_kept = number % self._interval == 0 or number == self._steps
        self._display.show(parts, number, self._steps, keep=is_kept)

    def _pace(self, steps_left: int) -> list[Part]:
        """How fast the steps are; nothing before the second one."""
        now = self._clock()
        self.elapsed = None if self._last is None else now - self._last
        if self.elapsed is not None:
            # The first step compiles the graph and has no predecessor: it is not in the mean. The
            # mean moves, so that the time left follows a machine that gets busier.
            if self._mean is None:
                self._mean = self.elapsed
            else:
                self._mean = (1 - _NEWEST) * self._mean + _NEWEST * self.elapsed
        self._last = now
        if self._mean is None:
            return []
        speed = self._images_per_step / self._mean if self._mean > 0 else float("inf")
        return [
            Part(f"{1000 * self._mean:.0f} ms/step", 5),
            Part(f"{speed:.1f} images/s", 3),
            Part(f"left {clock_time(steps_left * self._mean)}", 1),
        ]
