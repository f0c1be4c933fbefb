# SPDX-License-Identifier: Apache-2.0
"""Processes that live and end together, each minded by rank_process.py."""

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..base.folder_lock import Busy, take
from .lifetime import REPEAT_SECONDS, birth, die_with, shell_code
from .run_lock import busy_line, rank_at_work

_POLL_SECONDS = 0.2
# Of the environment, with what they are by default. Ranks that leave together (told to, or
# diverged) do so within the first; one that waits for a rank that is gone never does. The second is
# for a last step and a checkpoint, after Ctrl-C. The third is for the others once a rank has done
# well: all have met before the first one leaves, so only a last upload can be left.
_SECONDS = {"LEAVE_SECONDS": 8.0, "STOP_SECONDS": 120.0, "END_SECONDS": 1800.0}
TAIL_LINES = 20
_KILLED = 128 + signal.SIGKILL
_RANKS_TELL_SECONDS = 2.0  # a rank that failed has taken the scheduler with it, and knows more


@dataclass
class Start:
    """A program to start.

    Attributes:
        command: program and arguments.
        environment: all of its environment.
        is_minder: whether it minds its process by itself, also when this launcher is killed.
    """

    command: list[str]
    environment: dict[str, str]
    is_minder: bool = False


class ProcessGroup:
    """The processes of one server.

    Args:
        folder: of the run; rank r works in `train_parallel<r>/` in it.
        starts: what starts them: themselves, or msrun or mpirun.
        ranks: that run on this server.

    Attributes:
        scheduler_failed: whether `run` ended because msrun's scheduler did.
    """

    def __init__(self, folder: Path, starts: Sequence[Start], ranks: Sequence[int]) -> None:
        self.folder = folder
        self.folders = {rank: folder / f"train_parallel{rank}" for rank in ranks}
        self.starts = starts
        self.started: list[subprocess.Popen] = []
        self.signals, self.signal_number, self._first_signal = 0, 0, 0.0
        self.scheduler_failed = False
        self._scheduler_ended = float("inf")
        self.stop_until = float("inf")
        self._shown = 0

    def run(self) -> int:
        """Start the processes, show the first one's log and wait for all of them.

        SIGINT, SIGTERM and SIGHUP (unless ignored, as under nohup) are passed on, so that the run
        saves and leaves; a second one, or STOP_SECONDS, ends it at once.

        Returns:
            0, or the exit code of the process that failed first, 128 + signal when it was killed;
            1 when a process does not end though another one has done well.

        Raises:
            UserError: the folder cannot be used, or another run is at work in it.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, self._stop)
        with self._locked():
            self._refuse_while_at_work()
            self._prepare()
            try:
                self.started = [self._start(start) for start in self.starts]
                code = self._watch()
            finally:
                self._kill()
                self._show_log()
        return code

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other launches of these ranks out of the folder: they would take the files by which
        the running processes are known. Other servers may share it, with ranks of their own."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = take(self.folder / f".launch_{min(self.folders)}.lock")
        except Busy as busy:
            raise UserError(busy_line(self.folder, busy.holder)) from None
        except OSError as error:
            raise _unusable(self.folder, error) from None
        try:
            yield
        finally:
            if lock:
                lock.release()

    def _refuse_while_at_work(self) -> None:
        """A launcher that was killed may have left processes, which have some seconds to save."""
        if line := rank_at_work(self.folder):
            raise UserError(line)
        for rank in self.folders:
            state = self._state(rank)
            if state.get("host") == socket.gethostname() and self._minder_is_alive(state):
                holder = f"rank {rank} of an earlier launch, pid {state['minder']}"
                raise UserError(busy_line(self.folder, holder))

    def _prepare(self) -> None:
        """Make the folders; forget what earlier processes in them left."""
        try:
            self._scheduler_file().unlink(missing_ok=True)
            for folder in self.folders.values():
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "process.json").unlink(missing_ok=True)
        except OSError as error:
            raise _unusable(self.folder, error) from None
        with contextlib.suppress(OSError):
            self._shown = self._first_log().stat().st_size

    def _start(self, start: Start) -> subprocess.Popen:
        own = os.getpid()
        return subprocess.Popen(
            start.command,
            env={
                **start.environment,
                "LAUNCHER_PROCESS": f"{own}:{birth(own)}",
                "SCHEDULER_FILE": str(self._scheduler_file().absolute()),
            },
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # the terminal's Ctrl-C comes once, through us
            preexec_fn=None if start.is_minder else lambda: die_with(own),
        )

    def _watch(self) -> int:
        """Wait until all have ended, or one has failed (or done well) and the others had time to
        leave."""
        failed: tuple[int | None, int] | None = None
        give_up = wait_for_others = float("inf")
        while True:
            time.sleep(_POLL_SECONDS)
            self._show_log()
            now = time.monotonic()
            # Before the codes: a program that has ended has left its processes' codes behind.
            ended = all(p.poll() is not None for p in self.started)
            codes = self._exit_codes()
            if failed is None and (failed := self._first_failure(codes, ended)):
                give_up = now + _seconds("LEAVE_SECONDS")
            if failed is None and (code := self._scheduler_failure(now)):
                self.scheduler_failed = True
                self._report_scheduler(code)
                return code
            if failed and (len(codes) == len(self.folders) or now >= give_up):
                if not self.signals:
                    self._report(*failed)
                return failed[1]
            if len(codes) == len(self.folders) and not failed:
                self._wait_for_programs()
                return 0
            if codes:
                wait_for_others = min(wait_for_others, now + _seconds("END_SECONDS"))
            if not failed and now >= wait_for_others:
                self._report_missing(codes)
                return 1
            if self.signals > 1 or now >= self.stop_until:
                print("error: the processes were ended before they had saved", file=sys.stderr)
                return 128 + self.signal_number

    def _wait_for_programs(self) -> None:
        """All processes have done well: msrun's scheduler needs a moment to notice."""
        until = time.monotonic() + _seconds("LEAVE_SECONDS")
        while time.monotonic() < until and any(p.poll() is None for p in self.started):
            time.sleep(_POLL_SECONDS)

    def _exit_codes(self) -> dict[int, int]:
        """Exit codes by rank, of those that have ended."""
        codes = {}
        for rank in self.folders:
            state = self._state(rank)
            if "exit_code" in state:
                codes[rank] = state["exit_code"]
            elif "minder" in state and not self._minder_is_alive(state):
                # Read again: it may have written its last word between the two looks.
                codes[rank] = self._state(rank).get("exit_code", _KILLED)
        return codes

    def _first_failure(self, codes: dict[int, int], ended: bool) -> tuple[int | None, int] | None:
        """(rank, exit code) of the process that failed first; rank None: not all of them began.

        `ended`: whether what starts the processes had ended before `codes` were read.
        """
        failed = [rank for rank, code in codes.items() if code]
        if failed:
            first = min(failed, key=lambda rank: self._state(rank).get("ended", math.inf))
            return first, codes[first]
        if len(codes) < len(self.folders) and ended:
            codes_of_programs = [shell_code(p.returncode) for p in self.started]
            return None, next((code for code in codes_of_programs if code), 1)
        return None

    def _scheduler_failure(self, now: float) -> int:
        """Exit code of msrun's scheduler when it has failed and no rank says why; 0 otherwise."""
        state = read_state(self._scheduler_file()) if 0 in self.folders else {}
        if not (code := state.get("exit_code", 0)):
            return 0
        self._scheduler_ended = min(self._scheduler_ended, now)
        return code if now - self._scheduler_ended >= _RANKS_TELL_SECONDS else 0

    def _state(self, rank: int) -> dict[str, Any]:
        return read_state(self.folders[rank] / "process.json")

    @staticmethod
    def _minder_is_alive(state: dict[str, Any]) -> bool:
        born = birth(state.get("minder", 0))
        return bool(born) and born == state.get("born", born)

    def _scheduler_file(self) -> Path:
        """Of this server's own: msrun starts one more, in vain, where servers share an address."""
        return self.folder / f"scheduler_{min(self.folders)}.json"

    def _first_log(self) -> Path:
        return self.folders[min(self.folders)] / "log.txt"

    def _show_log(self) -> None:
        """Print what the first process of this server has written since the last time."""
        with contextlib.suppress(OSError), open(self._first_log(), "rb") as file:
            file.seek(self._shown)
            text = file.read()
            self._shown += len(text)
            sys.stdout.write(text.decode("utf-8", "replace"))
            sys.stdout.flush()

    def _report(self, rank: int | None, code: int) -> None:
        self._show_log()
        sys.stdout.flush()
        if rank is None:
            begun = any(self._state(rank) for rank in self.folders)
            what = "what started them has ended" if begun else "they could not be started"
            print(f"error: the processes: {what} (exit code {code})", file=sys.stderr)
            return
        self._print_error(rank, f"ended with exit code {code}")

    def _report_scheduler(self, code: int) -> None:
        """msrun's log has what its scheduler printed."""
        self._show_log()
        sys.stdout.flush()
        logs = sorted(self.folder.glob("msrun*/scheduler.log"))
        _print_end(
            f"error: the scheduler of the processes ended with exit code {code} (its address and "
            "port: MASTER_ADDR, MASTER_PORT)",
            logs[0] if logs else self.folder / "msrun",
        )

    def _report_missing(self, codes: dict[int, int]) -> None:
        self._show_log()
        sys.stdout.flush()
        missing = min(self.folders.keys() - codes.keys())
        self._print_error(
            missing, f"has not ended {_seconds('END_SECONDS'):g} s after another one (END_SECONDS)"
        )

    def _print_error(self, rank: int, problem: str) -> None:
        _print_end(f"error: rank {rank} {problem}", self.folders[rank] / "log.txt")

    def _stop(self, number: int, _frame: object) -> None:
        """Tell the processes to save and leave."""
        now = time.monotonic()
        if self.signals:
            # One wish may come twice at once, and a closed terminal sends two: see StopSignals.
            if number != signal.SIGHUP and now - self._first_signal >= REPEAT_SECONDS:
                self.signals += 1
            return
        self.signals, self.signal_number, self._first_signal = 1, number, now
        self.stop_until = now + _seconds("STOP_SECONDS")
        states = [self._state(rank) for rank in self.folders]
        if not all("pid" in state for state in states):  # they have not begun yet
            self.signals += 1
        for state in states:
            _send(state.get("pid"), signal.SIGTERM)

    def _kill(self) -> None:
        """End whatever is left, the programs that started the processes first."""
        for process in self.started:
            if process.poll() is None:
                _send_group(process.pid, signal.SIGKILL)
        for rank in self.folders:
            state = self._state(rank)
            if "exit_code" not in state:
                _send(state.get("pid"), signal.SIGKILL)
                _send_group(state.get("minder"), signal.SIGKILL)
        for process in self.started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)


def _print_end(problem: str, log: Path) -> None:
    """Say what is wrong, and show the end of a log."""
    print(f"{problem}; the end of {log}:", file=sys.stderr)
    with contextlib.suppress(OSError), open(log, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 100_000))
        for line in file.read().decode("utf-8", "replace").splitlines()[-TAIL_LINES:]:
            print(f"  {line}", file=sys.stderr)
    sys.stderr.flush()


def _unusable(folder: Path, error: OSError) -> UserError:
    return UserError(f"{folder}: cannot be used ({error.strerror}); choose another output_dir")


def _seconds(name: str) -> float:
    try:
        return max(0.0, float(os.environ[name]))
    except (KeyError, ValueError):
        return _SECONDS[name]


def read_state(path: Path) -> dict[str, Any]:
    """What a minder has noted, of numbers that can be right: others may have written the file.

    Args:
        path: of the minder's file; may be missing.
    """
    try:
        with open(path, encoding="utf-8") as file:
            state = json.loads(file.read(4096))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(state, dict):
        return {}
    whole = {"minder": 2, "pid": 2, "exit_code": 0}
    return {
        key: value
        for key, value in state.items()
        if key not in whole or (type(value) is int and whole[key] <= value < 1 << 31)
    }


def _send(pid: int | None, number: int) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _send_group(pid: int | None, number: int) -> None:
    """Signal the group that a process leads, and that process when it leads none."""
    if pid:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(pid) == pid:
                os.killpg(pid, number)
            else:
                os.kill(pid, number)
