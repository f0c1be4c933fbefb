# SPDX-License-Identifier: Apache-2.0
"""Large COCO files, read piece by piece: their text is never whole in memory, and only what records
are made of stays.
"""

import io
import json
import os
import re
from typing import Any

from ..base.foreign_files import open_regular
from .annotation_table import AnnotationTable

_PART = 1 << 22  # characters
_LONGEST = 1 << 26  # characters of an entry
_BLANK = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()
_OF_IMAGES = ("id", "file_name", "height", "width")


class _UnusualError(Exception):
    """The text is no COCO file of the usual form, whatever it is."""


def stream_coco(path: str, largest: int) -> dict[str, Any] | None:
    """Read a COCO file of the usual form: one object, whose lists hold objects.

    Args:
        path: the file.
        largest: bytes of it.

    Returns:
        Its keys: of `annotations` an `AnnotationTable`, of `images` the ids, names and sizes. None
        for any other file, about which a reader of whole files has to say what it is.
    """
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > largest:
                return None
            with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as stream:
                return _content(_Text(stream))
    except (_UnusualError, OSError, ValueError, RecursionError):  # no UTF-8, and too many digits
        return None


class _Text:
    """A JSON text of which a part is in memory.

    Args:
        stream: where it comes from.
    """

    def __init__(self, stream: io.TextIOBase) -> None:
        self._stream, self._part, self._at = stream, "", 0

    def next(self) -> str:
        """Return the next character that is not blank, without taking it; "" at the end."""
        while True:
            match = _BLANK.match(self._part, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._part):
                return self._part[self._at]
            if not self._read_on():
                return ""

    def take(self, characters: str) -> str:
        """Take the next character, which must be one of these."""
        found = self.next()
        if not found or found not in characters:
            raise _UnusualError
        self._at += 1
        return found

    def value(self) -> Any:
        """Take the next value."""
        self.next()
        while len(self._part) - self._at <= _LONGEST:
            try:
                value, end = _DECODER.raw_decode(self._part, self._at)
            except json.JSONDecodeError:
                end = len(self._part)
            if end < len(self._part):  # otherwise a number, say, may go on
                self._at = end
                return value
            if not self._read_on():
                break
        raise _UnusualError

    def _read_on(self) -> bool:
        more = self._stream.read(_PART)
        self._part, self._at = self._part[self._at :] + more, 0
        return bool(more)


def _content(text: _Text) -> dict[str, Any]:
    content: dict[str, Any] = {}
    text.take("{")
    while True:
        key = text.value() if text.next() == '"' else None
        if key is None or key in content:
            raise _UnusualError
        text.take(":")
        content[key] = _value(text, key)
        if text.take(",}") == "}":
            break
    if text.next():
        raise _UnusualError
    return content


def _value(text: _Text, key: str) -> Any:
    if key not in ("images", "annotations") or text.next() != "[":
        return text.value()
    table, images = AnnotationTable(), []
    text.take("[")
    if text.next() == "]":
        text.take("]")
    else:
        while True:
            if text.next() != "{":
                raise _UnusualError
            entry = text.value()
            if key == "images":
                images.append({name: entry[name] for name in _OF_IMAGES if name in entry})
            else:
                table.add(entry)
            if text.take(",]") == "]":
                break
    return images if key == "images" else table
