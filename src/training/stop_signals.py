# SPDX-License-Identifier: Apache-2.0
"""Signals that ask a run to save and leave."""

import contextlib
import signal
import time
from collections.abc import Callable
from typing import Any

from ..processes.lifetime import REPEAT_SECONDS


class StopSignals:
    """Turns SIGTERM, Ctrl-C and SIGHUP into a wish that the loop grants after the current step.

    A context manager. A Ctrl-C or SIGTERM that comes `REPEAT_SECONDS` later or more acts at once,
    as without it. A second SIGHUP does not: a terminal that is closed sends one, and its shell
    another. SIGHUP stays ignored where it was (`nohup`). While MindSpore runs a graph it turns a
    Ctrl-C into a SIGTERM of its own; the exit code is SIGTERM's then.

    Args:
        say: told of the first signal; None: nothing is said.
    """

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self.exit_code: int | None = None
        self._say = say
        self._before: dict[int, Any] = {}
        self._first = 0.0

    def __enter__(self) -> "StopSignals":
        self._before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
        hangup = signal.getsignal(signal.SIGHUP)
        if hangup != signal.SIG_IGN:
            self._before[signal.SIGHUP] = hangup
        self.listen()
        return self

    def listen(self) -> None:
        """Put the handlers in place again: MindSpore replaces Ctrl-C's by its own when its data
        pipeline starts, whose work it ends, and whenever it runs a graph."""
        for number in self._before:
            signal.signal(number, self._handle)

    def __exit__(self, *_exception: object) -> None:
        self._restore(*self._before)

    def wanted(self) -> bool:
        """Say whether to stop, and keep listening."""
        self.listen()
        return self.exit_code is not None

    def _restore(self, *numbers: int) -> None:
        for number in numbers:
            handler = self._before.pop(number)
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _handle(self, number: int, _frame: object) -> None:
        now = time.monotonic()
        if self.exit_code is not None:
            if number != signal.SIGHUP and now - self._first >= REPEAT_SECONDS:
                self._restore(number)
                signal.raise_signal(number)
            return
        self.exit_code, self._first = 128 + number, now
        if self._say:
            with contextlib.suppress(Exception):  # a reentrant write must not stop the run
                self._say(f"{_name(number)}: saving after this step, then leaving")


def _name(number: int) -> str:
    """What has come. Who sent a signal is nothing that a handler in Python is told."""
    if number == signal.SIGTERM:
        return "SIGTERM (or Ctrl-C, which MindSpore turns into it)"
    return signal.Signals(number).name
