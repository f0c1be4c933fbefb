# SPDX-License-Identifier: Apache-2.0
"""Locks that the system frees when their holder dies, and that say who holds them.

`filelock` does the locking (flock). Since 3.30 it leaves alone what the holder has written into the
lock file, keeps to the umask, gives the lock up in forked children (those of a data pipeline may
outlive their parent) and can be told not to turn to files whose mere existence is the lock: these
outlive their holder.
"""

import contextlib
import errno
import json
import os
import socket
import sys
import time

from filelock import BaseFileLock, SoftFileLock, Timeout, UnixFileLock

from .foreign_files import read_json

# A look at a lock takes it for a moment (`holder_of`); who wants it tries again for this long.
_TRY_SECONDS = 0.5
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
_LONGEST = 4096  # bytes that are read of what a holder has written


class Busy(Exception):
    """Another process holds the lock.

    Args:
        holder: "pid 12 on host, since 2026-01-31 12:00:00", as far as it is known.
    """

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


def take(path: str | os.PathLike[str], *, or_marker: bool = False) -> BaseFileLock | None:
    """Take the lock `path`, a file that is made when there is none, and leave this process's name.

    Args:
        path: the lock file; its folder must be there.
        or_marker: where the file system has no locks, have a file's existence be the lock: for a
            piece of work that must not be done twice, with waiters whose patience has an end. (One
            that a dead process of this machine has left is passed over.)

    Returns:
        The lock, held until its `release()` or the end of this process; None where the file system
        has no locks and no marker is wanted, which is said in a line.

    Raises:
        Busy: another process, or this one, holds it.
        OSError: the file cannot be made.
    """
    try:
        lock = _acquire(path)
    except Timeout:
        raise Busy(_read_holder(path)) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        if or_marker:
            return _take_marker(f"{os.fspath(path)}.held")
        print(
            f"note: {path}: this file system has no locks ({error.strerror}); nothing keeps another"
            " run out of this folder, so see to it that none uses it",
            file=sys.stderr,
            flush=True,
        )
        return None
    _sign(path)
    return lock


def holder_of(path: str | os.PathLike[str]) -> str:
    """Who holds the lock `path`; "" when nobody does, or when that cannot be known.

    Args:
        path: the lock file; need not exist.
    """
    if not os.path.exists(path):
        return ""
    try:
        _acquire(path).release()
    except Timeout:
        return _read_holder(path)
    except OSError:
        return ""
    return ""


def _take_marker(path: str) -> SoftFileLock:
    lock = SoftFileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=_TRY_SECONDS)
    except Timeout:
        raise Busy(f"the one that made {path}") from None
    return lock


def _acquire(path: str | os.PathLike[str]) -> UnixFileLock:
    # Not one lock a thread: whichever thread forks, the child gives it up.
    lock = UnixFileLock(path, thread_local=False, fallback_to_soft=False)
    lock.acquire(timeout=_TRY_SECONDS)
    return lock


def _sign(path: str | os.PathLike[str]) -> None:
    """Write who holds the lock; a full disk is no reason not to hold it."""
    name = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
        try:
            os.write(file, json.dumps(name).encode())
        finally:
            os.close(file)


def _read_holder(path: str | os.PathLike[str]) -> str:
    """What the holder has written; it may be about to."""
    for _ in range(5):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, OverflowError):
            name = read_json(path, _LONGEST, follow_links=False)
            host = "".join(c for c in str(name["host"])[:64] if c.isprintable())
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(name["since"])))
            return f"pid {int(name['pid'])} on {host}, since {since}"
        time.sleep(0.1)
    return "a process that has not left its name"
