# SPDX-License-Identifier: Apache-2.0
"""Files that are there whole or not at all, also after a power cut; and what dead processes left of
them.

What is being written has a hidden name that says who writes it: `.saving-<pid>@<host>@<name>`.
"""

import contextlib
import os
import re
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

TEMPORARY_PREFIX = ".saving-"
_OTHER_HOST_SECONDS = 24 * 3600.0  # nobody here can say whether a process of another host lives
_CLOCK_SECONDS = 2.0  # by which the start of a process and a file's time may be off
_PART = 60  # of a name, which may be as long as the file system allows
# Today's names, and those of earlier versions. A `.config-` without a number is of such a one.
_LEFTOVERS = (
    re.compile(r"\.saving-(?P<pid>[0-9]{1,9})(?:@(?P<host>[^@]*)@|-).*", re.DOTALL),
    re.compile(r"\.(?:checkpoints\.json|loss_[0-9]+\.log|results\.json)\.(?P<pid>[0-9]{1,9})\.tmp"),
    re.compile(r"\.config-(?:(?P<pid>[0-9]{1,7})|\w{8})\.yaml"),
)


def temporary_name(name: str) -> str:
    """Return the hidden name under which this process writes what becomes `name`."""
    part = name.encode("utf-8", "surrogateescape")[-_PART:].decode("utf-8", "ignore")
    return f"{TEMPORARY_PREFIX}{os.getpid()}@{_host()}@{part}"


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the name of an empty file beside `path` that takes its place after the `with` block.

    It may be written or replaced in the block. It gets the mode that the user's umask gives to new
    files, and is on the disk, with its name, before this returns; after an error nothing is left.

    Args:
        path: its folder is made when missing.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name(path.name))
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        os.close(descriptor)
        yield temporary
        os.chmod(temporary, mode)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())  # a power cut must not lose what a name points at
        os.replace(temporary, path)
    except BaseException:
        # MindSpore writes under a second name first. The disk may be full of either.
        for name in (temporary, temporary.with_suffix(".tmp")):
            with contextlib.suppress(OSError):
                name.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text_atomic(path: str | os.PathLike[str], text: str) -> None:
    """Write a small text file whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Put the names in a folder on the disk, where the file system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def is_regular_file(path: str | os.PathLike[str]) -> bool:
    """Say whether opening `path` gives a file's bytes: a pipe would be waited for, for ever."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def remove_leftovers(folder: str | os.PathLike[str]) -> int:
    """Delete what dead processes have left half written in `folder`; return how many files.

    A process of another host counts as dead a day after it has written last.
    """
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return 0
    removed = 0
    for entry in entries:
        match = next(filter(None, (form.fullmatch(entry.name) for form in _LEFTOVERS)), None)
        if match is None:
            continue
        found = match.groupdict()
        with contextlib.suppress(OSError):
            if not _writer_is_gone(entry, found.get("pid"), found.get("host")):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
            removed += 1
    return removed


def _writer_is_gone(entry: os.DirEntry, pid: str | None, host: str | None) -> bool:
    import psutil  # only now: entry scripts answer --help without it

    written = entry.stat(follow_symlinks=False).st_mtime
    if host and host != _host():
        return time.time() - written > _OTHER_HOST_SECONDS
    if pid is None:
        return True
    try:
        process = psutil.Process(int(pid))
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        # A process that began later has only been given the same number.
        return process.create_time() > written + _CLOCK_SECONDS
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return time.time() - written > _OTHER_HOST_SECONDS


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname())[:40]
