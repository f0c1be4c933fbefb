# SPDX-License-Identifier: Apache-2.0
"""Programs that are measured in turns: each a process held open, stopped while another one works.

Measured one after the other, two programs meet two states of a machine; at the same time, they
disturb each other, and threads of OpenMP that wait for work do so too. So each runs a few steps in
its turn, and the others are stopped by a signal meanwhile.
"""

import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from src.base.errors import UserError

_LAST_LINES = 3  # of a program that failed


class Program:
    """A process of `peers/`, asked line by line; see peers/protocol.py.

    Args:
        name: for tables and errors.
        command: how to start it.
        job: what it is to do.
        environment: variables on top of this process's own.
        pause: stop it by a signal between questions; not for programs that hold an accelerator.
        timeout: seconds that an answer may take.

    Attributes:
        opened: seconds from its start until it was ready to work.

    Raises:
        UserError: it cannot be started or fails.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        job: Mapping[str, Any],
        *,
        environment: Mapping[str, str] | None = None,
        pause: bool = True,
        timeout: float = 3600.0,
    ) -> None:
        self.name, self.timeout, self.pause = name, timeout, pause
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        self._buffer = b""
        started = time.perf_counter()
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={**os.environ, **(environment or {})},
                bufsize=0,
            )
        except OSError as error:
            raise UserError(f"{name}: cannot start {command[0]}: {error.strerror}") from None
        try:
            self.ask("open", **job)
        except BaseException:
            self.close()
            raise
        self.opened = time.perf_counter() - started

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, do: str, **arguments: Any) -> Any:
        """Let it run one command; return the answer.

        Raises:
            UserError: it failed, died, or took longer than `timeout`.
        """
        if self.pause:
            self._process.send_signal(signal.SIGCONT)
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        except BrokenPipeError:
            self._fail("has died")
        reply = json.loads(self._line())
        if self.pause:
            self._process.send_signal(signal.SIGSTOP)
        if "error" in reply:
            where = reply.get("traceback", "").strip().splitlines()[-_LAST_LINES:]
            at = f" ({' | '.join(line.strip() for line in where)})" if where else ""
            raise UserError(f"{self.name}: {reply['error']}{at}")
        return reply["answer"]

    def _line(self) -> bytes:
        end = time.monotonic() + self.timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, end - time.monotonic())):
                    self._fail(f"did not answer within {self.timeout:g} s")
                part = self._process.stdout.read(1 << 16)
                if not part:
                    self._fail("has died")
                self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def said(self) -> str:
        """Return what it has written so far, beside its answers."""
        # Its place is the program's too: a read at the start would let it write there.
        size = os.fstat(self._errors.fileno()).st_size
        return os.pread(self._errors.fileno(), size, 0).decode(errors="replace")

    def _fail(self, what: str) -> None:
        text = self.said().strip().splitlines()
        said = f"; it said: {' | '.join(text[-_LAST_LINES:])}" if text else ""
        raise UserError(f"{self.name} {what}{said}")

    def close(self) -> None:
        """End the process; it has nothing to lose."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            stream.close()


def take_turns(
    programs: Sequence[Program],
    *,
    warmup: int,
    repeats: int,
    between: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Run every program `repeats` times, one run a turn, and return the seconds by name.

    Args:
        warmup: runs of each before, uncounted.
        between: called before every round, with all programs at rest.
    """
    for program in programs:
        program.ask("run", count=warmup)
    seconds: dict[str, list[float]] = {program.name: [] for program in programs}
    for number in range(repeats):
        between()
        # The order changes, so that none always follows the same one.
        for program in programs if number % 2 == 0 else reversed(programs):
            seconds[program.name] += program.ask("run", count=1)
    between()
    return seconds
