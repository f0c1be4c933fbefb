# SPDX-License-Identifier: Apache-2.0
"""Digests (SHA-256, 64 hexadecimal digits) of files, of texts and of what JSON can hold."""

import hashlib
import json
import os
from collections.abc import Iterable
from typing import BinaryIO

from .foreign_files import open_regular

DIGEST_BYTES = hashlib.sha256().digest_size
_PIECE = 1 << 20  # bytes

Part = tuple[int, int]  # of a file: offset, length; bytes


def json_digest(content: object) -> str:
    """Return the digest of something that JSON can hold.

    Args:
        content: the order of keys does not count.
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()


def texts_digest(texts: Iterable[str | bytes]) -> str:
    """Return the digest of texts, or of contents, in their order.

    Args:
        texts: each counts with a zero byte after it.
    """
    total = hashlib.sha256()
    for text in texts:
        total.update(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))
        total.update(b"\0")
    return total.hexdigest()


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the digest of a file's content.

    Args:
        path: a pipe or a device is refused.

    Raises:
        OSError: it cannot be read.
    """
    total = hashlib.sha256()
    with open_regular(path) as file:
        _add(total, file, None)
    return total.hexdigest()


def parts_digest(path: str | os.PathLike[str], parts: Iterable[Part]) -> str:
    """Return the digest of parts of a file; shorter ones where the file ends.

    Args:
        path: a pipe or a device is refused.
        parts: in the order in which they count.

    Raises:
        OSError: it cannot be read.
    """
    total = hashlib.sha256()
    with open_regular(path) as file:
        for offset, length in parts:
            file.seek(offset)
            _add(total, file, length)
    return total.hexdigest()


def _add(total: "hashlib._Hash", file: BinaryIO, left: int | None) -> None:
    """Add the next `left` bytes of a file, or all that follow."""
    while left is None or left > 0:
        piece = file.read(_PIECE if left is None else min(left, _PIECE))
        if not piece:
            return
        total.update(piece)
        left = None if left is None else left - len(piece)
