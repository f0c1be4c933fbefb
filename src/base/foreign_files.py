# SPDX-License-Identifier: Apache-2.0
"""Reading of small files that others made: bounded in size, never a pipe or a device, strict JSON.

What is said of a file is in an `OSError` or a `ValueError`, as `open` and `json` would have it: the
callers turn both into a `UserError` that names the setting.
"""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

_MEGABYTE = 1e6
_PIECE = 1 << 20  # bytes


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file for reading.

    Raises:
        OSError: it cannot be opened, or is no file (a folder, pipe or device); `strerror` says so.
    """
    try:
        # A pipe without a writer would be waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # a zero byte, or half a surrogate pair
        raise OSError(errno.EINVAL, f"no file can have this name ({error})") from None
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return open(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    raise OSError(errno.EINVAL, "not a file, but a pipe, socket or device")


def read_bounded(path: str | Path, limit: int) -> bytes:
    """Read a whole file.

    Args:
        limit: most bytes.

    Raises:
        OSError: as `open_regular`, or it is too large.
    """
    with open_regular(path) as file:
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


def read_json(path: str | Path, limit: int) -> Any:
    """Read a JSON file in UTF-8.

    Raises:
        OSError: as `read_bounded`.
        ValueError: it is not JSON, has a number that is none (NaN), or is nested too deeply.
    """
    try:
        return json.loads(read_bounded(path, limit).decode("utf-8-sig"), parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")
