# SPDX-License-Identifier: Apache-2.0
"""One process of a run, looked after: `python rank_process.py RUN_FOLDER COMMAND...`.

Runs COMMAND in RUN_FOLDER/train_parallel<rank>/ with its output in log.txt there, and keeps
process.json beside it: {"minder": pid, "born": of the minder, "host", "pid": of COMMAND,
"started": s, "exit_code", "ended"}, the last two when it is over. For msrun's scheduler that is the
file SCHEDULER_FILE of the environment. msrun and mpirun start this in place of COMMAND, because
they tell neither which process failed first nor with which exit code. It is started by its path,
from any folder and before the project can be imported: beyond lifetime.py, which lies beside it,
it needs the standard library only.

COMMAND dies with this process. When the launcher (LAUNCHER_PROCESS, "pid:born" as `birth` tells it)
or what started this process is gone, COMMAND is told to save and leave by SIGTERM, and killed after
ORPHAN_SECONDS (20): it may hang in an exchange with a process that is no more.

The environment's BIND_CPUS=1 gives the process its share of the processors: LOCAL_RANK of
LOCAL_SIZE processes.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from lifetime import birth, die_with, shell_code

RANK_VARIABLES = ("RANK_ID", "OMPI_COMM_WORLD_RANK")
LOCAL_RANK_VARIABLES = ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "DEVICE_ID")
_LOOK_SECONDS = 0.5
_ORPHAN_SECONDS = 20.0


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit code, 128 + the signal's number when it was killed.

    Args:
        argv: the run's folder, and the command.
    """
    run_folder, command = argv[0], argv[1:]
    minder = _Minder()
    if os.environ.get("MS_ROLE") == "MS_SCHED":  # msrun's own log has what its scheduler prints
        # Not told to leave: the others cannot save without it, and it ends after them.
        return minder.run(command, os.environ["SCHEDULER_FILE"], tell=False)
    if os.environ.get("BIND_CPUS") == "1":
        os.sched_setaffinity(0, own_cpus(sorted(os.sched_getaffinity(0))))
    folder = os.path.join(run_folder, f"train_parallel{_first_of(RANK_VARIABLES)}")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "log.txt"), "ab") as log:
        output: dict[str, Any] = {
            "cwd": folder,
            "stdin": subprocess.DEVNULL,
            "stdout": log,
            "stderr": log,
        }
        return minder.run(command, os.path.join(folder, "process.json"), **output)


class _Minder:
    """Waits for a command, and for the end of those that this process lives for."""

    def __init__(self) -> None:
        self.parent, self.until, self.told = os.getppid(), float("inf"), False
        launcher, _, born = os.environ.get("LAUNCHER_PROCESS", "").partition(":")
        self.launcher = (launcher, born) if launcher.isdecimal() else None
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._told_to_end)

    def run(
        self, command: Sequence[str], state_file: str, *, tell: bool = True, **output: Any
    ) -> int:
        """Start the command and wait; its state is kept in a file."""
        own = os.getpid()
        process = subprocess.Popen(command, preexec_fn=lambda: die_with(own), **output)
        state = {"minder": own, "born": birth(own), "host": socket.gethostname()}
        state.update(pid=process.pid, started=time.time())
        _write(state_file, state)
        asked = False
        while True:
            try:
                code = shell_code(process.wait(timeout=_LOOK_SECONDS))
                break
            except subprocess.TimeoutExpired:
                pass
            if self._is_alone():
                self.until = min(self.until, time.monotonic() + _seconds("ORPHAN_SECONDS"))
                if tell and not asked:
                    asked = True
                    process.terminate()
            if time.monotonic() >= self.until:
                process.kill()
        _write(state_file, {**state, "exit_code": code, "ended": time.time()})
        return code

    def _told_to_end(self, _number: int, _frame: object) -> None:
        self.told = True

    def _is_alone(self) -> bool:
        if self.told or os.getppid() != self.parent:
            return True
        return self.launcher is not None and birth(self.launcher[0]) != self.launcher[1]


def own_cpus(cpus: list[int]) -> list[int]:
    """This process's share of the processors, at least one.

    Args:
        cpus: the processors that all processes of this server share.
    """
    size, local = int(os.environ.get("LOCAL_SIZE", "1")), int(_first_of(LOCAL_RANK_VARIABLES))
    share = cpus[local * len(cpus) // size : (local + 1) * len(cpus) // size]
    return share or [cpus[local % len(cpus)]]


def _first_of(names: Sequence[str]) -> str:
    return next((os.environ[name] for name in names if os.environ.get(name)), "0")


def _seconds(name: str) -> float:
    try:
        return max(0.0, float(os.environ[name]))
    except (KeyError, ValueError):
        return _ORPHAN_SECONDS


def _write(path: str, state: dict[str, Any]) -> None:
    """Note how the command stands; a full disk is no reason to leave it alone."""
    try:
        with open(f"{path}.part", "w", encoding="utf-8") as file:
            json.dump(state, file)
        os.replace(f"{path}.part", path)
        return
    except OSError:
        pass
    try:  # the old file has room: this is longer, and far within its block
        with open(path, "r+", encoding="utf-8") as file:
            json.dump(state, file)
    except OSError as error:
        print(f"note: {path}: cannot be written ({error.strerror})", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
