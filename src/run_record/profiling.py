# SPDX-License-Identifier: Apache-2.0
"""MindSpore's profiler around some steps of a run, by the model zoo's key `enable_profiling`."""

from collections.abc import Callable
from typing import Any

from ..base.messages import counted
from .callback import Callback, RunInfo
from .schema import PROFILE_FOLDER

_FIRST_STEPS = 5  # of the start: the first compiles, then MindSpore tries numbers of threads


class Profiling(Callback):
    """Writes `profile/` in the folder of a run.

    Args:
        steps: that are profiled.
        say: prints a line.
    """

    def __init__(self, steps: int, say: Callable[[str], None]) -> None:
        self._steps, self._say = steps, say
        self._first = self._last = 0
        self._folder = ""
        self._profiler: Any = None

    def on_start(self, run: RunInfo) -> None:
        """Choose the steps."""
        self._first = run.step + _FIRST_STEPS
        self._last = self._first + self._steps
        self._folder = str(run.folder / PROFILE_FOLDER)

    def on_step(self, step: int) -> None:
        """Begin or end after a step."""
        if step == self._first:
            from mindspore import Profiler

            self._profiler = Profiler(output_path=self._folder, start_profile=True)
        elif step == self._last:
            self._end()

    def on_end(self, exit_code: int) -> None:
        """End what the run was too short for."""
        self._end()

    def _end(self) -> None:
        profiler, self._profiler = self._profiler, None
        if profiler is not None:
            profiler.stop()
            profiler.analyse()
            self._say(f"profile of {counted(self._steps, 'step')}: {self._folder}")
