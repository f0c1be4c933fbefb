# SPDX-License-Identifier: Apache-2.0
"""One process of a run, looked after: `python rank_process.py RUN_FOLDER COMMAND...`.

Runs COMMAND in RUN_FOLDER/train_parallel<rank>/ with its output in log.txt there, and keeps
process.json beside it: {"minder": pid, "pid": pid of COMMAND, "started": s, "exit_code", "ended"},
the last two when it is over. msrun and mpirun start this in place of COMMAND, because they tell
neither which process failed first nor with which exit code. COMMAND dies with this process, and
this one with what started it. Needs the standard library only.

The environment's BIND_CPUS=1 gives the process its share of the processors: LOCAL_RANK of
LOCAL_SIZE processes.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time

RANK_VARIABLES = ("RANK_ID", "OMPI_COMM_WORLD_RANK")
LOCAL_RANK_VARIABLES = ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "DEVICE_ID")
_PR_SET_PDEATHSIG = 1


def main(argv):
    """Run the command; return its exit code, 128 + the signal's number when it was killed."""
    run_folder, command = argv[0], argv[1:]
    _die_with_parent()
    if os.environ.get("MS_ROLE") == "MS_SCHED":  # msrun's own log has what its scheduler prints
        return _exit_code(subprocess.run(command, preexec_fn=_die_with_parent).returncode)
    if os.environ.get("BIND_CPUS") == "1":
        os.sched_setaffinity(0, own_cpus(sorted(os.sched_getaffinity(0))))
    folder = os.path.join(run_folder, f"train_parallel{_first_of(RANK_VARIABLES)}")
    os.makedirs(folder, exist_ok=True)
    state = {"minder": os.getpid(), "started": time.time()}
    with open(os.path.join(folder, "log.txt"), "ab") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent,
        )
    state["pid"] = process.pid
    _write(folder, state)
    code = _exit_code(process.wait())
    _write(folder, {**state, "exit_code": code, "ended": time.time()})
    return code


def own_cpus(cpus):
    """This process's share of the processors, at least one."""
    size, local = int(os.environ.get("LOCAL_SIZE", "1")), int(_first_of(LOCAL_RANK_VARIABLES))
    share = cpus[local * len(cpus) // size : (local + 1) * len(cpus) // size]
    return share or [cpus[local % len(cpus)]]


def _first_of(names):
    return next((os.environ[name] for name in names if os.environ.get(name)), "0")


def _die_with_parent():
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _exit_code(returncode):
    return returncode if returncode >= 0 else 128 - returncode


def _write(folder, state):
    path = os.path.join(folder, "process.json")
    with open(f"{path}.part", "w", encoding="utf-8") as file:
        json.dump(state, file)
    os.replace(f"{path}.part", path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
