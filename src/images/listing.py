# SPDX-License-Identifier: Apache-2.0
"""The image files that inputs of a command line stand for, and what was left out of them."""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..base.errors import UserError
from ..base.messages import short_list
from .headers import IMAGE_SUFFIXES

# Why an entry of a folder is left out, in the order of the note.
_HIDDEN, _OTHER, _SPECIAL, _FOLDER, _CLOSED, _RESULTS = (
    "hidden",
    "of other kinds",
    "no regular file(s)",
    "folder(s) (--recursive takes what is in them)",
    "folder(s) that cannot be looked into",
    "folder(s) of results",
)


def find_images(
    inputs: Sequence[str], *, recursive: bool = False, results: str | None = None
) -> tuple[list[Path], list[str]]:
    """Image files in the order given; a folder stands for the images in it, sorted by name.

    Hidden entries of a folder (``._NAME`` of a Mac among them), files of other kinds and what is no
    regular file (a FIFO would never end) are left out. Links are followed, none of them twice.

    Args:
        inputs: files and folders. Windows' separators are taken where they name something.
        recursive: take the images in folders of folders too, after those beside these folders.
        results: a folder that is not looked into: what an earlier call drew is in it.

    Returns:
        The files; and a note for each folder of which something was left out.

    Raises:
        UserError: an input that does not exist, cannot be looked at, or holds no image.
    """
    paths: list[Path] = []
    notes: list[str] = []
    for given in inputs:
        path = _existing(given)
        try:
            status = os.stat(path)
            if not stat.S_ISDIR(status.st_mode):
                if not stat.S_ISREG(status.st_mode):
                    raise UserError(f"--input {given}: it is no regular file")
                paths.append(path)
                continue
            left_out: dict[str, list[str]] = {}
            walk = _Walk(recursive, results, left_out)
            found = list(walk.images(path, status))
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"--input {given}: {reason}") from None
        note = _left_out_text(left_out)
        if not found:
            raise UserError(
                f"--input {given}: no images in it ({', '.join(IMAGE_SUFFIXES)})"
                + (f"; left out: {note}" if note else "")
            )
        paths += found
        if note:
            notes.append(f"note: --input {given}: left out {note}")
    return paths, notes


def _existing(given: str) -> Path:
    """The path that was given, or what it names with Windows' separators."""
    for text in (given, given.replace("\\", "/")):
        path = Path(text)
        if os.path.lexists(path):
            return path
    try:
        os.lstat(given)
    except FileNotFoundError:
        raise UserError(f"--input {given}: no such file or folder") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--input {given}: {reason}") from None
    return Path(given)


class _Walk:
    """One look through a folder.

    Args:
        recursive, results: as in `find_images`.
        left_out: gets the names of what was left out by the reason.
    """

    def __init__(self, recursive: bool, results: str | None, left_out: dict[str, list[str]]):
        self._recursive = recursive
        self._results = _identity(results) if results else None
        self._left_out = left_out
        self._seen: set[tuple[int, int]] = set()  # links may go in a circle

    def images(self, folder: Path, status: os.stat_result) -> Iterator[Path]:
        """Yield the image files of a folder; passes an OSError on."""
        self._seen.add((status.st_dev, status.st_ino))
        folders = []
        for path in sorted(folder.iterdir()):
            reason = self._reason_against(path)
            if reason is not None:
                self._left_out.setdefault(reason, []).append(path.name)
            elif path.is_dir():
                folders.append(path)
            else:
                yield path
        for path in folders:
            try:
                inside = os.stat(path)
                if (inside.st_dev, inside.st_ino) not in self._seen:
                    yield from self.images(path, inside)
            except OSError:
                self._left_out.setdefault(_CLOSED, []).append(path.name)

    def _reason_against(self, path: Path) -> str | None:
        """Why an entry is left out; None for an image or a folder that is looked into."""
        if path.name.startswith("."):
            return _HIDDEN
        try:
            status = os.stat(path)
        except OSError:  # a link to nowhere, or one that may not be followed: said when it is read
            return None if _has_image_name(path) else _OTHER
        if stat.S_ISDIR(status.st_mode):
            if (status.st_dev, status.st_ino) == self._results:
                return _RESULTS
            return None if self._recursive else _FOLDER
        if not stat.S_ISREG(status.st_mode):
            return _SPECIAL
        return None if _has_image_name(path) else _OTHER


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        status = os.stat(folder)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _has_image_name(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _left_out_text(left_out: dict[str, list[str]]) -> str:
    """Numbers, reasons and the first names, in one order."""
    order = (_HIDDEN, _OTHER, _SPECIAL, _FOLDER, _CLOSED, _RESULTS)
    return "; ".join(
        f"{len(left_out[reason])} {reason}: {short_list(sorted(left_out[reason]))}"
        for reason in order
        if reason in left_out
    )
