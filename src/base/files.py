# SPDX-License-Identifier: Apache-2.0
"""Writing: files and folders that are there whole or not at all, also after a power cut.

What is being written has a hidden name that says who writes it: `.saving-<pid>@<host>@<name>`.
`remove_leftovers` deletes what dead processes have left under such names.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import UserError

TEMPORARY_PREFIX = ".saving-"
_OTHER_HOST_SECONDS = 24 * 3600.0  # nobody here can say whether a process of another host lives
_CLOCK_SECONDS = 2.0  # by which the start of a process and a file's time may be off
_PART = 60  # bytes of a name, which may be as long as the file system allows
_MARK = 8  # characters that tell cut names apart
# Today's names, and those of earlier versions. A `.config-` without a number is of such a one.
_LEFTOVERS = (
    re.compile(r"\.saving-(?P<pid>[0-9]{1,9})(?:@(?P<host>[^@]*)@|-).*", re.DOTALL),
    re.compile(r"\.(?:checkpoints\.json|loss_[0-9]+\.log|results\.json)\.(?P<pid>[0-9]{1,9})\.tmp"),
    re.compile(r"\.config-(?:(?P<pid>[0-9]{1,7})|\w{8})\.yaml"),
)

StrPath = str | os.PathLike[str]


# --------------------------------------------------------------------------- files


def temporary_name(name: str) -> str:
    """Return the hidden name under which this process writes what becomes `name`.

    Args:
        name: without folders; equal names give equal ones, different names different ones.
    """
    whole = os.fsencode(name)
    part = name
    if len(whole) > _PART:
        mark = hashlib.sha256(whole).hexdigest()[:_MARK]
        part = f"{mark}{whole[_MARK - _PART :].decode('utf-8', 'ignore')}"
    return f"{TEMPORARY_PREFIX}{os.getpid()}@{_host()}@{part}"


@contextlib.contextmanager
def replacing(
    path: StrPath, *, mode: int | None = None, sync: bool = True, overwrite: bool = True
) -> Iterator[Path]:
    """Yield the name of an empty file beside `path` that takes its place after the `with` block.

    It may be written or replaced in the block. It is on the disk, with its name, before this
    returns; after an error nothing is left.

    Args:
        path: its folder is made when missing.
        mode: permissions, from the first byte on; default: what the user's umask gives to new
            files.
        sync: False does not wait for the disk, for one of very many small files: after a power cut
            such a file may be empty.
        overwrite: False leaves a file as it is that is there by then.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name(path.name))
    with contextlib.suppress(FileNotFoundError):
        path.lstat()  # a name that is too long is refused before anything is written
    try:
        temporary.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptor = os.open(temporary, flags, 0o666 if mode is None else mode)
        usual = stat.S_IMODE(os.fstat(descriptor).st_mode)
        os.close(descriptor)
        yield temporary
        _set_mode(temporary, usual if mode is None else mode)
        if sync:
            sync_file(temporary)  # a power cut must not lose what a name points at
        if overwrite:
            os.replace(temporary, path)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
            temporary.unlink()
    except BaseException:
        # MindSpore writes under a second name first. The disk may be full of either.
        for name in (temporary, temporary.with_suffix(".tmp")):
            with contextlib.suppress(OSError):
                name.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(path.parent)


def write_text_atomic(path: StrPath, text: str) -> None:
    """Write a small text file whole or not at all.

    Args:
        path: its folder is made when missing.
        text: becomes UTF-8.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: StrPath, content: object, indent: int | None = 1) -> None:
    """Write a JSON file whole or not at all.

    Args:
        path: its folder is made when missing.
        content: plain JSON values.
        indent: spaces a level; None for one line.

    Raises:
        OSError: it cannot be written.
    """
    write_text_atomic(path, json.dumps(content, indent=indent))


def save_whole(path: StrPath, write: Callable[[Path], object], *, sync: bool = True) -> None:
    """Have a file written by a function, whole or not at all.

    Args:
        path: its folder is made when missing.
        write: gets the temporary file's name.
        sync: as in `replacing`.

    Raises:
        UserError: the folder cannot be made or written to, or the write fails (a full disk, a
            folder of that name).
    """
    try:
        with replacing(path, sync=sync) as temporary:
            write(temporary)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


def _set_mode(path: Path, mode: int) -> None:
    if stat.S_IMODE(path.stat().st_mode) != mode:  # some file systems have no modes to set
        os.chmod(path, mode)


# --------------------------------------------------------------------------- folders


def make_folder(path: StrPath, key: str) -> None:
    """Make a folder and those around it.

    Args:
        path: may exist.
        key: the setting that named it, for errors.

    Raises:
        UserError: it cannot be made.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the folder {path}: {error.strerror}; set {key} to another one"
        ) from None


@contextlib.contextmanager
def temporary_folder(path: StrPath) -> Iterator[Path]:
    """Yield an empty folder on the file system of `path`, beside it; it goes after the block.

    Args:
        path: what will be made in it; the folder around it is made when missing.

    Raises:
        OSError: it cannot be made.
    """
    path = Path(path)
    folder = path.with_name(temporary_name(f"{path.name}.parts"))
    remove_any(folder)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        remove_any(folder)


@contextlib.contextmanager
def working_folder(folder: StrPath) -> Iterator[None]:
    """Make a folder the process's own for the block; for libraries that write where they stand.

    Args:
        folder: exists.
    """
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def replacing_folder(
    path: StrPath, *, temporary: StrPath | None = None, sync: bool = True
) -> Iterator[Path]:
    """Yield an empty folder beside `path` that takes its place after the `with` block.

    After an error nothing is left of it, and what was there is as it was. Its files get the mode
    that the user's umask gives to new ones: libraries may be stricter.

    Args:
        path: may be another folder, which goes.
        temporary: the folder's name meanwhile, for those who keep others away by a lock; default:
            one that `remove_leftovers` knows. What was at `path` has it with `.old` for a moment.
        sync: put everything on the disk first.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(path)
    new = Path(temporary) if temporary else path.with_name(temporary_name(path.name))
    old = new.with_name(f"{new.name}.old")
    for leftover in (new, old):
        remove_any(leftover)
    try:
        new.mkdir(parents=True)
        yield new
        _finish_folder(new, sync)
        if os.path.lexists(path):
            os.rename(path, old)
        os.rename(new, path)
        if sync:
            sync_folder(path.parent)
    except BaseException:
        if os.path.lexists(old) and not os.path.lexists(path):
            with contextlib.suppress(OSError):
                os.rename(old, path)
        raise
    finally:
        remove_any(new)
    remove_any(old)


def _finish_folder(folder: Path, sync: bool) -> None:
    usual = stat.S_IMODE(folder.stat().st_mode) & 0o666
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            _set_mode(path, usual)
            if sync:
                sync_file(path)
        if sync:
            sync_folder(place)


def remove_any(path: StrPath) -> None:
    """Remove a folder, file or link, as far as that can be done.

    Args:
        path: need not exist.
    """
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        os.remove(path)


def sync_file(path: StrPath) -> None:
    """Put a file's content on the disk.

    Args:
        path: the file.

    Raises:
        OSError: it cannot be opened or written.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: StrPath) -> None:
    """Put the names in a folder on the disk, where the file system can do that.

    Args:
        folder: need not exist.
    """
    with contextlib.suppress(OSError):
        sync_file(os.path.join(folder, ""))


# --------------------------------------------------------------------------- leftovers


def remove_leftovers(folder: StrPath) -> int:
    """Delete what dead processes have left half written in `folder`; return how many files.

    A process of another host counts as dead a day after it has written last.

    Args:
        folder: need not exist; folders in it are not looked into.
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


def _writer_is_gone(entry: os.DirEntry[str], pid: str | None, host: str | None) -> bool:
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
