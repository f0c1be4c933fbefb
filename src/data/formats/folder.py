# SPDX-License-Identifier: Apache-2.0
"""What lies in a data set's folder: files by their endings, pictures by their names, short texts.

The folder comes from others. Nothing outside it is named, and everything read is bounded.
"""

import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ...base.console import warn
from ...base.errors import UserError
from ...base.foreign_files import read_bounded
from ...base.messages import short
from ...images.headers import IMAGE_SUFFIXES
from ...images.sizes import shown_size

T = TypeVar("T")

_MOST_FILES, _MOST_FOLDERS = 10_000_000, 200_000  # that are looked at: not a whole disk
_READERS = 8  # threads: a file system of the network answers several at once
_AT_ONCE = 10_000  # files that are waited for together


def files_in(folder: str, suffixes: Iterable[str], *, deep: bool = True) -> list[str]:
    """Return the files with these endings, without hidden ones.

    Links to folders are followed within `folder`, none of them twice; it may be a link itself.

    Args:
        folder: need not exist.
        suffixes: endings in lower case, with the dot.
        deep: look into folders of the folder too.

    Returns:
        Sorted names relative to `folder`, with `/` between folders.

    Raises:
        UserError: there are too many.
    """
    ends = tuple(suffixes)
    found: list[str] = []
    looked_at, seen = 0, set[tuple[int, int]]()
    whole = os.path.realpath(folder)
    for place, folders, names in os.walk(folder, followlinks=True):
        status = os.stat(place)
        is_known = (status.st_dev, status.st_ino) in seen
        if is_known or (os.path.islink(place) and place != folder and _leads_out(place, whole)):
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = [name for name in folders if deep and not is_hidden(name)]
        inner = os.path.relpath(place, folder).replace(os.sep, "/")
        start = "" if inner == "." else f"{inner}/"
        found += [
            start + name for name in names if name.lower().endswith(ends) and not is_hidden(name)
        ]
        looked_at += len(names)
        if looked_at > _MOST_FILES or len(seen) > _MOST_FOLDERS:
            raise UserError(
                f"{folder} has more than {_MOST_FILES:,} files or {_MOST_FOLDERS:,} folders; give "
                "a smaller folder"
            )
    return sorted(found)


def _leads_out(link: str, whole: str) -> bool:
    """Whether a link to a folder leads out of `whole`, as one to / would; that is said once."""
    target = os.path.realpath(link)
    if os.path.commonpath([target, whole]) == whole:
        return False
    _say_once(f"note: {link} leads to {target}, out of the data's folder, and is passed over")
    return True


@functools.lru_cache(maxsize=1000)
def _say_once(line: str) -> None:
    warn(line)


def pictures_in(folder: str, *, deep: bool = True) -> list[str]:
    """Return the picture files of a folder; see `files_in`.

    Args:
        folder: need not exist.
        deep: look into folders of the folder too.
    """
    return files_in(folder, IMAGE_SUFFIXES, deep=deep)


def has_file(folder: str, suffix: str) -> bool:
    """Say whether a folder itself has a file with this ending; it is not listed to its end.

    Args:
        folder: need not exist.
        suffix: in lower case, with the dot.
    """
    try:
        with os.scandir(folder) as entries:
            return any(e.name.lower().endswith(suffix) and not is_hidden(e.name) for e in entries)
    except OSError:
        return False


def folders_in(folder: str) -> list[str]:
    """Return the names of the folders in a folder, sorted, without hidden ones.

    Args:
        folder: need not exist.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not is_hidden(e.name))
    except OSError:
        return []


def folder_called(folder: str, *names: str) -> str | None:
    """Return the first folder in `folder` that has one of the names, in whatever case.

    Args:
        folder: need not exist.
        names: in lower case, the most likely first.
    """
    by_name = {name.lower(): name for name in reversed(folders_in(folder))}
    found = next((by_name[name] for name in names if name in by_name), None)
    return None if found is None else os.path.join(folder, found)


def is_hidden(name: str) -> bool:
    """Say whether a file or folder is no part of the data: hidden, a Mac's, or our own records.

    Args:
        name: without the folders around it.
    """
    return name.startswith((".", "MindRecord_")) or name == "__MACOSX"


# --------------------------------------------------------------------------- names


def inner_name(name: str, where: str) -> str:
    r"""Return a name within a folder in its shortest form, `a/b.jpg` for `.\a\b.jpg`.

    Args:
        name: as somebody else's file has it.
        where: it stands, for the error.

    Raises:
        UserError: it is absolute, or leads out of the folder.
    """
    inner = inner_or_none(name)
    if inner is None:
        raise UserError(
            f"{where}: {short(name)} leads out of the data's folder; write names relative to it"
        )
    return inner


def inner_or_none(name: str) -> str | None:
    """Return a name within a folder in its shortest form, None if it leads out of the folder.

    Args:
        name: as somebody else's file has it.
    """
    plain = os.path.normpath(name.replace("\\", "/"))
    drive = len(plain) > 1 and plain[1] == ":" and plain[0].isalpha()
    if drive or "\0" in plain or plain.startswith("/") or plain.split("/")[0] == "..":
        return None
    return plain


def stem_of(name: str) -> str:
    """Return a file's name without its ending, folders included.

    Args:
        name: of the file.
    """
    return os.path.splitext(name)[0]


def picture_ids(names: list[str]) -> list[str]:
    """Return a text for each picture that tells it apart: its name without folders and ending.

    Args:
        names: of the pictures, each once. Where two would be alike, these names are returned.
    """
    stems = [os.path.basename(stem_of(name)) for name in names]
    return stems if len(set(stems)) == len(stems) else names


def without_ending(row: str, endings: Iterable[str]) -> str:
    """Return a name without its ending, if it has one of these.

    Args:
        row: a name, with or without an ending.
        endings: in lower case, with the dot.
    """
    stem, ending = os.path.splitext(row)
    return stem if ending.lower() in tuple(endings) else row


# --------------------------------------------------------------------------- contents


def read_small(path: str, limit: int) -> bytes:
    """Return the content of a small file.

    Args:
        path: the file.
        limit: most bytes.

    Raises:
        UserError: it cannot be read, or is larger.
    """
    try:
        return read_bounded(path, limit)
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else error.strerror
        raise UserError(f"annotation file {path}: {reason}") from None


def read_small_text(path: str, limit: int) -> str:
    """Return the content of a small text file in UTF-8, without a byte order mark.

    Args:
        path: the file.
        limit: most bytes.

    Raises:
        UserError: it cannot be read, is larger or is no UTF-8.
    """
    try:
        return read_small(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"annotation file {path} is not UTF-8 text (it has the byte "
            f"0x{error.object[error.start]:02x} where none can be); convert it to UTF-8"
        ) from None


def small_digest(path: str, limit: int) -> str:
    """Return the SHA-256 of a small file's content, 64 hexadecimal digits; empty without the file.

    Args:
        path: the file.
        limit: most bytes.

    Raises:
        UserError: it cannot be read, or is larger.
    """
    return hashlib.sha256(read_small(path, limit)).hexdigest() if os.path.isfile(path) else ""


def in_threads(work: Callable[[str], T], paths: Sequence[str]) -> Iterator[T]:
    """Yield what `work` returns of each path, in their order; several are read at once.

    Args:
        work: called in threads.
        paths: what it is called with.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        for start in range(0, len(paths), _AT_ONCE):
            yield from pool.map(work, paths[start : start + _AT_ONCE])


def readings(
    work: Callable[[str], T], paths: Sequence[str], *, skips_broken: bool
) -> Iterator[T | UserError]:
    """Yield what `in_threads` does.

    Args:
        work: called in threads.
        paths: what it is called with.
        skips_broken: of a file that cannot be used, its error is yielded and not raised.

    Raises:
        UserError: `work` does, and nobody wants the rest.
    """

    def attempt(path: str) -> T | UserError:
        try:
            return work(path)
        except UserError as error:
            return error

    return in_threads(attempt if skips_broken else work, paths)


def shown_sizes(paths: Sequence[str]) -> list[tuple[int, int] | None]:
    """Return (height, width) of pictures as a viewer shows them, None where one cannot be read.

    Args:
        paths: of the files.
    """

    def size(path: str) -> tuple[int, int] | None:
        try:
            return shown_size(path)
        except UserError:  # said when the picture itself is needed
            return None

    return list(in_threads(size, paths))
