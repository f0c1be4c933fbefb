# SPDX-License-Identifier: Apache-2.0
"""Folders and files that nobody else can have written: what is kept for later starts is believed.

Root counts as ourselves: who is root needs no cache to run programs of its own.
"""

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS = 40  # like Linux itself
_OVERFLOW = 65534  # the owner of what has none in this user namespace


class NotOwnError(OSError):
    """Somebody else could have written there; the text says where, and what to do about it."""


def own_folder(folder: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> Path:
    """Make a folder, and those that it lies in, where they are missing, for this user alone.

    The folder, and those above it up to `root`, must belong to this user or to root and be
    writable by nobody else. Those further up may be shared ones like /tmp, where nobody can rename
    what belongs to another; a link on the way counts like what it leads to.

    Args:
        folder: need not exist.
        root: a folder that it is in.

    Returns:
        its real path, without links. Others cannot put anything else there.

    Raises:
        NotOwnError: it is not like that.
        OSError: it cannot be made.
    """
    folder = Path(os.path.abspath(folder))
    missing = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    _check_way(folder.parents[len(missing) - 1] if missing else folder)
    for place in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was first: looked at below
            place.mkdir(mode=0o700)
    _check_way(folder)
    real = Path(os.path.realpath(folder))
    top = real if root is None else Path(os.path.realpath(root))
    for place in (real, *(parent for parent in real.parents if parent.is_relative_to(top))):
        info = os.stat(place)
        if not stat.S_ISDIR(info.st_mode):
            raise NotOwnError(f"{place} is no folder")
        if info.st_uid not in _owners() or info.st_mode & _BY_OTHERS:
            raise NotOwnError(_reason(place, info))
    return real


def read_own(path: str | os.PathLike[str], most: int, *, secret: bool = False) -> bytes | None:
    """Return the content of a file in an `own_folder`.

    Args:
        path: no link is followed.
        most: bytes that it may have.
        secret: whether nobody else may be able to read it either.

    Returns:
        None when there is none, or one that others can write to, or that is larger.
    """
    try:
        with open(path, "rb", opener=_open_itself) as file:
            info = os.fstat(file.fileno())
            owners = {os.geteuid()} if secret else _owners()
            closed = not info.st_mode & (0o077 if secret else _BY_OTHERS)
            is_own = stat.S_ISREG(info.st_mode) and info.st_uid in owners and closed
            return file.read(most) if is_own and info.st_size <= most else None
    except OSError:
        return None


def _open_itself(path: str, flags: int) -> int:
    """No link, and without waiting for the other end of a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _check_way(path: Path) -> None:
    """Refuse a path on which somebody else can put another folder in the place of one."""
    owners = _owners() | ({_OVERFLOW} if _root_is_unmapped() else set())
    for place in _way(path, _MOST_LINKS):
        info = os.lstat(place)
        shared = info.st_mode & _BY_OTHERS and not info.st_mode & stat.S_ISVTX
        if shared and not info.st_mode & stat.S_IWOTH and _is_private_group(info.st_gid):
            shared = False
        if info.st_uid not in owners or (shared and not stat.S_ISLNK(info.st_mode)):
            raise NotOwnError(_reason(place, info))


def _way(path: Path, links: int) -> Iterator[Path]:
    """The folders and links that lead to a path, and itself."""
    if links == 0:
        raise NotOwnError(f"{path} is a link to itself")
    for place in (*reversed(path.parents), path):
        yield place
        if place.is_symlink():
            yield from _way(place.parent / os.readlink(place) / path.relative_to(place), links - 1)
            return


def _owners() -> set[int]:
    return {0, os.geteuid()}


def _root_is_unmapped() -> bool:
    """Say whether root's files look like nobody's: in containers that know this user alone."""
    try:
        lines = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return False
    return bool(lines) and all(line.split()[0] != "0" for line in lines)


def _is_private_group(gid: int) -> bool:
    """Say whether a group is this user's alone, as many systems give one to each."""
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return gid == user.pw_gid and group.gr_name == user.pw_name and not group.gr_mem


def _reason(place: Path, info: os.stat_result) -> str:
    if info.st_uid not in _owners():
        return f"{place} belongs to another user, number {info.st_uid}"
    return f"other users can write to {place}; `chmod go-w` it"
