# SPDX-License-Identifier: Apache-2.0
"""Reading of small files that others made: bounded in size, never a pipe or a device, strict JSON.

What the reading functions say of a file is in an `OSError` or a `ValueError`, as `open` and `json`
would have it: the callers turn both into a `UserError` that names the setting.
"""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from .errors import DamagedFileError, UserError

_MEGABYTE = 1e6
_PIECE = 1 << 20  # bytes


class NotAFileError(OSError):
    """A pipe, a socket or a device, which would be waited for, or never end."""


def is_regular_file(path: str | os.PathLike[str]) -> bool:
    """Say whether opening `path` gives a file's bytes: a pipe would be waited for, for ever.

    Args:
        path: need not exist.
    """
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def require_regular(path: Path, key: str, what: str) -> int:
    """Check, without opening it, that a setting names a file with something in it.

    Args:
        path: what the setting says.
        key: the setting's name, for errors.
        what: it shall name, for errors.

    Returns:
        Bytes of the file.

    Raises:
        DamagedFileError: it is empty.
        UserError: there is none, or it is a folder, a pipe or a device.
    """
    try:
        state = path.stat()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise UserError(f"{path}: {reason}; set {key} to a {what}") from None
    if stat.S_ISDIR(state.st_mode):
        raise UserError(f"{path}: a folder; set {key} to a {what} in it")
    if not stat.S_ISREG(state.st_mode):
        raise UserError(f"{path}: a device or a pipe; set {key} to a {what}")
    if state.st_size == 0:
        raise DamagedFileError(f"{path}: an empty file; set {key} to another {what}")
    return state.st_size


def open_regular(path: str | os.PathLike[str], *, follow_links: bool = True) -> BinaryIO:
    """Open a file for reading.

    Args:
        path: the file.
        follow_links: False refuses a link.

    Raises:
        OSError: it cannot be opened, or is no file (a folder, pipe or device); `strerror` says so.
    """
    try:
        # A pipe without a writer would be waited for.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open(path, flags if follow_links else flags | os.O_NOFOLLOW)
    except ValueError as error:  # a zero byte, or half a surrogate pair
        raise OSError(errno.EINVAL, f"no file can have this name ({error})") from None
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return open(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    raise NotAFileError(errno.EINVAL, "not a file, but a pipe, socket or device")


def read_bounded(path: str | os.PathLike[str], limit: int, *, follow_links: bool = True) -> bytes:
    """Read a whole file.

    Args:
        path: the file.
        limit: most bytes.
        follow_links: False refuses a link.

    Raises:
        OSError: as `open_regular`, or it is too large.
    """
    with open_regular(path, follow_links=follow_links) as file:
        size = os.fstat(file.fileno()).st_size
        # Not `limit` bytes: memory for all of them would be taken at once.
        pieces = [file.read(size + 1)] if size <= limit else []
        length = sum(map(len, pieces)) or size
        while size < length <= limit:  # it grows, or is one of the system's that state no size
            pieces.append(file.read(_PIECE))
            size, length = length, length + len(pieces[-1])
        if length > limit:
            raise OSError(
                errno.EFBIG, f"{length / _MEGABYTE:.1f} MB, of at most {limit / _MEGABYTE:.1f} MB"
            )
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def read_json(
    path: str | os.PathLike[str], limit: int, *, follow_links: bool = True, allow_nan: bool = False
) -> Any:
    """Read a JSON file in UTF-8.

    Args:
        path: the file.
        limit: most bytes.
        follow_links: False refuses a link.
        allow_nan: leaves numbers that are none (NaN, Infinity) to the caller, which knows their
            place in the file.

    Raises:
        OSError: as `read_bounded`.
        ValueError: as `parse_json`.
    """
    data = read_bounded(path, limit, follow_links=follow_links)
    return parse_json(data, allow_nan=allow_nan)


def parse_json(data: bytes, *, allow_nan: bool = False) -> Any:
    """Return what JSON in UTF-8 says.

    Args:
        data: the content of a file.
        allow_nan: see `read_json`.

    Raises:
        ValueError: it is not JSON, has a number that is none, or is nested too deeply.
    """
    try:
        text = data.decode("utf-8-sig")
        return json.loads(text, parse_constant=None if allow_nan else _no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")
