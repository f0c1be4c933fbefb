# SPDX-License-Identifier: Apache-2.0
"""The pictures and videos that inputs of a command line stand for, and what was left out."""

import glob
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ..base.errors import UserError
from ..base.messages import in_number, short_list
from .headers import IMAGE_SUFFIXES

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".flv", ".ogv"),
)
# Why an entry of a folder is left out, in the order of the note; see `in_number`.
_HIDDEN, _OTHER, _SPECIAL, _FOLDER, _CLOSED, _RESULTS = (
    "hidden",
    "of other kinds",
    "no regular [file|files]",
    "[folder|folders] (--recursive takes what is in [it|them])",
    "[folder|folders] that cannot be looked into",
    "[folder|folders] of results",
)
_CAMERA = re.compile(r"(?:/dev/video)?([0-9]{1,3})")
_STREAMS = ("rtsp", "rtsps", "rtmp", "http", "https")


@dataclass(frozen=True, slots=True)
class Video:
    """A video, a camera or a stream.

    Attributes:
        name: for messages; of an address without user and password.
        stem: what results are called.
        source: the file, the number of a camera, or an address.
    """

    name: str
    stem: str
    source: Path | int | str

    @property
    def is_live(self) -> bool:
        """Whether it may go on for ever."""
        return not isinstance(self.source, Path)


@dataclass(slots=True)
class Inputs:
    """What there is to look at.

    Attributes:
        pictures: image files.
        videos: videos, cameras and streams.
        notes: lines for the user about what was left out.
    """

    pictures: list[Path] = field(default_factory=list)
    videos: list[Video] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_inputs(
    inputs: Sequence[str], *, recursive: bool = False, results: str | None = None
) -> Inputs:
    """Pictures and videos, each in the order given.

    Args:
        inputs: what `find_images` takes, where folders and patterns stand for their videos too; a
            number or /dev/videoN, which is a camera; and addresses (rtsp://, http://) of streams.
        recursive, results: see `find_images`.

    Raises:
        UserError: as `find_images`.
    """
    found = Inputs()
    for given in inputs:
        live = _live(given)
        if live is not None:
            found.videos.append(live)
            continue
        paths, notes = find_images(
            [given], recursive=recursive, results=results, suffixes=IMAGE_SUFFIXES + VIDEO_SUFFIXES
        )
        found.notes += notes
        for path in paths:
            if _has_name_of(path, VIDEO_SUFFIXES):
                found.videos.append(Video(str(path), path.stem, path))
            else:
                found.pictures.append(path)
    return found


def _live(given: str) -> Video | None:
    """The camera or the stream that an input names, if it does."""
    camera = _CAMERA.fullmatch(given)
    if camera and (given.startswith("/") or not os.path.lexists(given)):
        return Video(f"camera {camera[1]}", f"camera_{camera[1]}", int(camera[1]))
    scheme = given.partition("://")[0].lower()
    if scheme not in _STREAMS or "://" not in given:
        return None
    try:
        host = urlsplit(given).hostname or ""
    except ValueError as error:
        raise UserError(f"--input: the address of a stream is wrong: {error}") from None
    # Neither user nor password, nor a key among the parameters.
    return Video(f"{scheme}://{host}/...", f"stream_{re.sub('[^a-zA-Z0-9]+', '_', host)}", given)


def find_images(
    inputs: Sequence[str],
    *,
    recursive: bool = False,
    results: str | None = None,
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES,
    option: str = "--input",
) -> tuple[list[Path], list[str]]:
    """Image files in the order given; a folder stands for the images in it, sorted by name.

    Hidden entries of a folder (``._NAME`` of a Mac among them), files of other kinds and what is no
    regular file (a FIFO would never end) are left out. Links are followed, none of them twice.

    Args:
        inputs: files, folders and patterns (`*`, `?`, `[abc]`, `**` for folders of folders), which
            stand for files of these kinds. Windows' separators are taken where they name something.
        recursive: take the images in folders of folders too, after those beside these folders.
        results: a folder that is not looked into: what an earlier call drew is in it.
        suffixes: what the names of the files that folders and patterns stand for end with.
        option: what named the inputs, for errors.

    Returns:
        The files; and a note for each folder and pattern of which something was left out.

    Raises:
        UserError: an input that does not exist, cannot be looked at, or holds no image.
    """
    paths: list[Path] = []
    notes: list[str] = []
    for given in inputs:
        left_out: dict[str, list[str]] = {}
        walk = _Walk(recursive, results, left_out, suffixes)
        try:
            if _is_pattern(given):
                found = list(walk.matches(given))
            else:
                path = _existing(given)
                status = os.stat(path)
                if not stat.S_ISDIR(status.st_mode):
                    if not stat.S_ISREG(status.st_mode):
                        raise UserError(f"{option} {given}: it is no regular file")
                    paths.append(path)
                    continue
                found = list(walk.images(path, status))
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{option} {given}: {reason}") from None
        note = _left_out_text(left_out)
        if not found:
            raise UserError(
                f"{option} {given}: no images in it ({', '.join(suffixes)})"
                + (f"; left out: {note}" if note else "")
            )
        paths += found
        if note:
            notes.append(f"note: {option} {given}: left out {note}")
    return paths, notes


def _is_pattern(given: str) -> bool:
    try:
        return glob.has_magic(given) and not os.path.lexists(given)
    except ValueError:  # a zero byte
        return False


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
    """One look through a folder, or at what a pattern matches.

    Args:
        recursive, results, suffixes: as in `find_images`.
        left_out: gets the names of what was left out by the reason.
    """

    def __init__(
        self,
        recursive: bool,
        results: str | None,
        left_out: dict[str, list[str]],
        suffixes: tuple[str, ...],
    ):
        self._recursive = recursive
        self._results_name = results
        self._results = _identity(results) if results else None
        self._left_out = left_out
        self._suffixes = suffixes
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

    def matches(self, pattern: str) -> Iterator[Path]:
        """Yield the image files that a pattern matches; folders are not looked into."""
        results = f"{os.path.realpath(self._results_name)}{os.sep}" if self._results_name else None
        for path in map(Path, sorted(glob.iglob(pattern, recursive=True))):
            if results and os.path.realpath(path).startswith(results):
                continue
            reason = _FOLDER if path.is_dir() else self._reason_against(path)
            if reason is None:
                yield path
            elif reason != _FOLDER or "**" not in pattern:
                self._left_out.setdefault(reason, []).append(path.name)

    def _reason_against(self, path: Path) -> str | None:
        """Why an entry is left out; None for an image or a folder that is looked into."""
        if path.name.startswith("."):
            return _HIDDEN
        try:
            status = os.stat(path)
        except OSError:  # a link to nowhere, or one that may not be followed: said when it is read
            return None if _has_name_of(path, self._suffixes) else _OTHER
        if stat.S_ISDIR(status.st_mode):
            if (status.st_dev, status.st_ino) == self._results:
                return _RESULTS
            return None if self._recursive else _FOLDER
        if not stat.S_ISREG(status.st_mode):
            return _SPECIAL
        return None if _has_name_of(path, self._suffixes) else _OTHER


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        status = os.stat(folder)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _has_name_of(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.suffix.lower() in suffixes


def _left_out_text(left_out: dict[str, list[str]]) -> str:
    """Numbers, reasons and the first names, in one order."""
    order = (_HIDDEN, _OTHER, _SPECIAL, _FOLDER, _CLOSED, _RESULTS)
    return "; ".join(
        f"{len(names)} {in_number(reason, len(names))}: {short_list(sorted(names))}"
        for reason in order
        if (names := left_out.get(reason))
    )
