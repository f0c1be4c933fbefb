# SPDX-License-Identifier: Apache-2.0
"""Which process is which, and which dies with which. Needs the standard library only."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
# Seconds. One wish to stop may come twice at once: from a service manager or a terminal to every
# process of a run, and from a launcher that passes on what it got.
REPEAT_SECONDS = 1.0


def birth(pid: int | str) -> str:
    """When a process was started, in ticks of this machine's clock; "" when it has ended.

    With the pid it tells a process from later ones.

    Args:
        pid: of a process of this machine.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return ""


def die_with(parent: int) -> None:
    """Have the system kill this process when its `parent` ends, also when that has ended by now.

    Args:
        parent: its pid.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)


def shell_code(returncode: int) -> int:
    """A shell's exit code for that of `subprocess`: 128 + the signal's number when killed.

    Args:
        returncode: of `subprocess`: the negative number of the signal when killed.
    """
    return returncode if returncode >= 0 else 128 - returncode
