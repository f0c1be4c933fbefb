# SPDX-License-Identifier: Apache-2.0
"""One process makes a folder while the others wait, by a lock that the system frees when its holder
dies.

Whoever holds the lock may remove what dead holders left behind.
"""

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from .console import tell_listeners
from .errors import UserError
from .files import write_json
from .folder_lock import Busy, take
from .foreign_files import read_json
from .messages import one_line

_POLL_SECONDS = 0.2
_LARGEST_NOTE = 1 << 20  # bytes
_CLOCKS = 60.0  # seconds by which those of two machines may differ


@dataclass(frozen=True, slots=True)
class Task:
    """How messages name what one process does for the others.

    Attributes:
        doing, done: "convert the data of", "conversion".
        limit: the key with the longest wait; "" where there is none.
        place: the key with the folder.
    """

    doing: str
    done: str
    limit: str
    place: str


CONVERSION = Task("convert the data of", "conversion", "convert_timeout", "mindrecord_dir")


@contextlib.contextmanager
def exclusive(
    folder: str, started: float, timeout: float, task: Task = CONVERSION
) -> Iterator[None]:
    """Hold the lock of `folder`, which need not exist.

    Args:
        folder: what is worked on; the lock is a hidden file beside it.
        started: when the caller's work began, seconds since the epoch.
        timeout: longest wait, seconds.
        task: for messages.

    Raises:
        UserError: the lock cannot be made, the wait was too long, or the process that was waited
            for failed (`report_failure`) after `started`.
    """
    lock = None
    for attempt in itertools.count():
        try:
            lock = take(beside(folder, "lock"), or_marker=True)
            break
        except Busy as busy:
            holder = busy.holder
        except OSError as error:
            raise UserError(
                f"cannot write to {os.path.dirname(folder)}: {error.strerror}; set {task.place} to "
                "a folder that you may write to"
            ) from None
        if time.time() - started >= timeout:
            remedy = f"raise {task.limit}" if task.limit else "try again later"
            raise UserError(
                f"waited {timeout:g} s for another process ({holder}) to {task.doing} {folder}; "
                f"{remedy} if it is still at work"
            )
        if attempt == 0:
            say(f"waiting for another process ({holder}) to {task.doing} {folder}")
        time.sleep(_POLL_SECONDS)
    try:
        message = _failure_since(folder, started)
        if message:
            raise UserError(f"the {task.done} by another process failed: {message}")
        yield
    finally:
        if lock:
            lock.release()


def report_failure(folder: str, error: BaseException) -> None:
    """Tell the processes that wait for `folder` why this one, which holds the lock, gave up.

    Args:
        folder: as `exclusive` was given it.
        error: what ended the work.
    """
    message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    with contextlib.suppress(OSError):
        write_json(beside(folder, "failed"), {"time": time.time(), "message": message})


def _failure_since(folder: str, started: float) -> str:
    """Why a conversion failed that ended after `started` (s since the epoch); "" if none did."""
    try:
        failure = read_json(beside(folder, "failed"), _LARGEST_NOTE)
        # One of the future would count for ever: a clock was wrong, or somebody wrote it.
        return failure["message"] if started <= failure["time"] <= time.time() + _CLOCKS else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def beside(folder: str, purpose: str) -> str:
    """Path of a hidden sibling of `folder`, e.g. its lock.

    Args:
        folder: need not exist.
        purpose: the ending that tells its siblings apart, as "lock".
    """
    parent, name = os.path.split(folder)
    return os.path.join(parent, f".{name}.{purpose}")


def say(line: str) -> None:
    """A line to the user about how things go; stderr is for what ends the program.

    Args:
        line: what is said; it is shown as one line.
    """
    print(one_line(line), file=sys.stdout, flush=True)
    tell_listeners(one_line(line))
