# SPDX-License-Identifier: Apache-2.0
"""The file that a name in an annotation file means, on whichever system it was written."""

import os
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

# Names that mean the same path in every way of writing them: no part begins with a dot or is empty.
_PLAIN_NAME = re.compile(r"(?:[\w-][\w. -]*/)*[\w-][\w. -]*", re.ASCII)


def one_form(text: str) -> str:
    """Return a text in Unicode's composed form (NFC): a Mac writes an e with an accent as two.

    Args:
        text: a name, or a part of one.
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def find_image(folder: str, name: str) -> str:
    r"""Return the absolute path of an image.

    A name that no file has is tried with Windows' separators as `/`, then with each part in
    whatever Unicode form its file or folder has.

    Args:
        folder: what the name is relative to.
        name: as the annotation file has it; absolute names and `..` are followed.
    """
    path = os.path.abspath(os.path.join(folder, name))
    if ("\\" not in name and name.isascii()) or _exists(path):
        return path
    name = name.replace("\\", "/")
    path = os.path.abspath(os.path.join(folder, name))
    if name.isascii() or _exists(path):
        return path
    found = "/" if name.startswith("/") else os.path.abspath(folder)
    for part in name.split("/"):
        step = os.path.join(found, part)
        if not part.isascii() and not _exists(step):
            step = os.path.join(found, _entries(found).get(one_form(part), part))
        found = step
    return os.path.abspath(found)


def find_images(folder: str, names: Iterable[str]) -> list[str]:
    """Return the absolute paths of many images, as `find_image` does.

    Args:
        folder: what the names are relative to.
        names: as the annotation file has them.
    """
    root, plain = os.path.join(os.path.abspath(folder), ""), _PLAIN_NAME.fullmatch
    return [root + name if plain(name) else find_image(folder, name) for name in names]


def _exists(path: str) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a zero byte, or half a surrogate pair
        return False


def _entries(folder: str) -> dict[str, str]:
    """The names in a folder by their composed form."""
    try:
        return _entries_at(folder, os.stat(folder).st_mtime_ns)
    except (OSError, ValueError):
        return {}


@lru_cache(maxsize=64)
def _entries_at(folder: str, _changed: int) -> dict[str, str]:
    return {one_form(name): name for name in os.listdir(folder)}
