# SPDX-License-Identifier: Apache-2.0
"""One file from an address: over HTTPS, bounded, resumed, checked, and whole or not at all.

What has come when a line breaks stays beside the file under a hidden name, and the next call goes
on from there.
"""

import contextlib
import errno
import hashlib
import http.client
import os
import re
import shutil
import socket
import ssl
import stat
import time
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..base.errors import UserError
from ..base.files import sync_file, sync_folder, write_json
from ..base.foreign_files import open_regular, read_json
from ..base.messages import is_plain, shown
from ..base.progress import Display, Progress
from .https_client import ask, host_of, read_piece, require_safe
from .transfer import repeated

SLOWEST = 1024  # bytes a second, over `WINDOW` seconds
WINDOW = 60.0
_PIECE = 2**18
_MEGABYTE = 10**6
_BUSY = (408, 425, 429, 500, 502, 503, 504)  # answers that may be better the next time
_PAST_THE_END = 416
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})")
_LENGTH = re.compile(r"\d{1,18}")
_LARGEST_NOTE = 2**16
_LONGEST_TAG = 1000
_PROXY = "HTTPS_PROXY"


class Digest(NamedTuple):
    """How the digest of a file begins, in hexadecimal.

    Attributes:
        algorithm: "sha256" or "md5".
        start: its first digits, or all of them.
    """

    algorithm: str
    start: str

    def fits(self, path: Path) -> bool:
        """Say whether a file has the digest.

        Args:
            path: the file.

        Raises:
            OSError: it cannot be read.
        """
        total = hashlib.new(self.algorithm, usedforsecurity=False)
        with open_regular(path) as file:
            while piece := file.read(2**20):
                total.update(piece)
        return total.hexdigest().startswith(self.start)


@dataclass(frozen=True)
class Wanted:
    """A file on a server.

    Attributes:
        name: how messages call it.
        url: https, or http on this machine.
        most: bytes that it may have.
        digest: None where its publisher states none.
    """

    name: str
    url: str
    most: int
    digest: Digest | None = None


def download_file(wanted: Wanted, path: Path, display: Display) -> None:
    """Bring a file here, unless it cannot be had whole.

    Who calls sees to it that nobody else brings the same file to the same place.

    Args:
        wanted: the file.
        path: what it becomes; its folder exists.
        display: where progress is shown.

    Raises:
        UserError: no network, another answer than the file, too much, too little or too slow,
            another digest, or no room.
    """
    require_safe(wanted.url, wanted.name)
    part = _Part(path, wanted)
    for goes_on in (part.size() > 0, False):
        _fetch_all(wanted, part, display)
        if wanted.digest is None:
            break
        with _writing(wanted, part.path):
            fits = wanted.digest.fits(part.path)
        if fits:
            break
        part.remove()
        if not goes_on:  # else what was here before may have been of another file
            raise UserError(
                f"{wanted.name}: what {wanted.url} sends does not have the "
                f"{wanted.digest.algorithm} that its publisher states ({wanted.digest.start}...), "
                "so it is not kept; look who answers for that address here, or try again later"
            )
    with _writing(wanted, path):
        sync_file(part.path)
        os.replace(part.path, path)
    part.remove()
    sync_folder(path.parent)


class AnswerError(Exception):
    """A server's answer is none that the file could come with; the next one may be."""


class _Part:
    """What has come of a file, with a note on what it is a part of.

    Args:
        target: the file that it becomes.
        wanted: the same file on the server.

    Attributes:
        has_digest: whether the whole file can be told from another one.
    """

    def __init__(self, target: Path, wanted: Wanted) -> None:
        self.path = target.with_name(f".{target.name}.part")
        self._note = target.with_name(f".{target.name}.part.json")
        self._url, self.has_digest = wanted.url, wanted.digest is not None
        self.validator, self.total, self.taken = "", None, 0
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            note = read_json(self._note, _LARGEST_NOTE, follow_links=False)
            if note["url"] == self._url:
                self.validator, self.total = _plain(str(note["validator"])), note["total"]
                return
        self.remove()

    def size(self) -> int:
        """Return how many bytes there are to go on from; 0 where nothing tells what they are."""
        if not self.validator and not self.has_digest:
            return 0
        try:
            state = os.lstat(self.path)
        except OSError:
            return 0
        return state.st_size if stat.S_ISREG(state.st_mode) else 0

    def begin(self, validator: str, total: int | None) -> None:
        """Note what the bytes that come now belong to.

        Args:
            validator: what changes with the file: its ETag, or the time of its last change.
            total: bytes of the whole file, where the server says.
        """
        self.validator, self.total = validator, total
        write_json(self._note, {"url": self._url, "validator": validator, "total": total})

    def open(self, start: int) -> IO[bytes]:
        """Return the file, open for what follows.

        Args:
            start: bytes that stay; without any it is made anew, whatever lies there.

        Raises:
            OSError: it cannot be written.
        """
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        if not start:
            self.path.unlink(missing_ok=True)
            flags |= os.O_CREAT | os.O_EXCL
        descriptor = os.open(self.path, flags, 0o666)
        os.ftruncate(descriptor, start)
        os.lseek(descriptor, start, os.SEEK_SET)
        return open(descriptor, "wb")

    def remove(self) -> None:
        """Forget everything."""
        self.validator, self.total = "", None
        for path in (self.path, self._note):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _fetch_all(wanted: Wanted, part: _Part, display: Display) -> None:
    """Ask for a file, again where the line breaks, until all of it is there."""
    bar = _Bar(display, wanted.name)

    def once() -> None:
        before = part.taken
        try:
            _fetch(wanted, part, bar)
        except urllib.error.HTTPError as error:
            with error:
                _judge(wanted, part, error)
        except (OSError, http.client.HTTPException, ValueError) as error:  # an address that is none
            if part.taken == before:  # asking again would only take longer
                raise UserError(_unreachable(wanted, error)) from None
            raise

    try:
        repeated(once, f"{wanted.name}: {wanted.url} cannot be downloaded", _PROXY)
    finally:
        bar.close()


@contextlib.contextmanager
def _writing(wanted: Wanted, path: Path) -> Iterator[None]:
    """Say of errors in this context that it is the disk, and not the network."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(f"{wanted.name}: {path.parent} is full; free some space") from None
        raise UserError(
            f"{wanted.name}: {path} cannot be written ({error.strerror or error}); look at the "
            "folder, its owner and its quota"
        ) from None


def _judge(wanted: Wanted, part: _Part, error: urllib.error.HTTPError) -> None:
    """Say what another status means."""
    answer = f"{error.code} {shown(error.reason)}".strip()
    if error.code == _PAST_THE_END and part.size():
        part.remove()
        raise AnswerError(f"it answers {answer}")
    if error.code in _BUSY:
        raise AnswerError(f"it answers {answer}")
    raise UserError(
        f"{wanted.name}: {wanted.url} answers {answer}; look in a browser whether the file is "
        "still there"
    )


def _unreachable(wanted: Wanted, error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    text = shown(cause) or type(cause).__name__
    if isinstance(cause, socket.gaierror):
        text = f"no address of {host_of(wanted.url)} is known here"
    elif isinstance(cause, ssl.SSLCertVerificationError):
        text = f"its certificate is refused: {shown(cause.verify_message)}"
    return (
        f"{wanted.name}: {wanted.url} cannot be reached ({text}); look at the network and {_PROXY}"
    )


def _fetch(wanted: Wanted, part: _Part, bar: "_Bar") -> None:
    """Ask once, and take what comes."""
    start = part.size()
    if start and start == part.total:  # all of it came, and then the process ended
        return
    headers = {"Accept-Encoding": "identity", "User-Agent": "faster-rcnn-mindspore"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if part.validator:
            headers["If-Range"] = part.validator
    with ask(wanted.url, headers, wanted.name) as answer:
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise UserError(f"{wanted.name}: {wanted.url} is sent compressed; try again later")
        start, total = _place(answer, start, part)
        _require_fit(wanted, part, start, total)
        with _writing(wanted, part.path):
            part.begin(_validator(answer), total)
        bar.begin(start, total)
        _take(answer, wanted, part, start, bar)
    came = part.path.stat().st_size
    if not came or (total is not None and came != total):
        raise ConnectionError(f"{came} of {total or 'some'} bytes came")


def _place(answer: Any, asked: int, part: _Part) -> tuple[int, int | None]:
    """Return where the answer begins in the file, and how long the file is."""
    length = answer.headers.get("Content-Length", "")
    if answer.status != http.client.PARTIAL_CONTENT:
        return 0, int(length) if _LENGTH.fullmatch(length) else None
    match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    is_same = part.has_digest or _validator(answer) in ("", part.validator)  # else nothing tells
    fits = match and int(match[1]) == asked and part.total in (None, int(match[2]))
    if not match or not fits or not is_same:
        part.remove()
        raise AnswerError("it sends another part than it was asked for")
    return asked, int(match[2])


def _require_fit(wanted: Wanted, part: _Part, start: int, total: int | None) -> None:
    if total is None:
        return
    if total > wanted.most:
        raise UserError(_too_large(wanted, f"has {total}"))
    free = shutil.disk_usage(part.path.parent).free
    if total - start > free:
        raise UserError(
            f"{wanted.name}: {(total - start) / _MEGABYTE:.0f} MB are to come, and "
            f"{part.path.parent} has room for {free / _MEGABYTE:.0f} MB; free some space"
        )


def _too_large(wanted: Wanted, what: str) -> str:
    return (
        f"{wanted.name}: {wanted.url} {what} bytes, where at most {wanted.most} are expected; it "
        "is another file"
    )


def _validator(answer: Any) -> str:
    """What a later request names, so that it gets the rest of the same file or all of a new one."""
    tag = _plain(answer.headers.get("ETag", ""))
    if tag and not tag.startswith("W/"):
        return tag
    return _plain(answer.headers.get("Last-Modified", ""))


def _plain(text: str) -> str:
    """The text where it can be sent as it is; else nothing."""
    return text if text.isascii() and is_plain(text, _LONGEST_TAG) else ""


def _take(answer: Any, wanted: Wanted, part: _Part, start: int, bar: "_Bar") -> None:
    """Write what comes, as long as it comes fast enough and is not too much."""
    came = at = start
    since = time.monotonic()
    with _writing(wanted, part.path):
        file = part.open(start)
    try:
        while piece := read_piece(answer, _PIECE):
            came += len(piece)
            part.taken += len(piece)
            if came > wanted.most:
                part.remove()
                raise UserError(_too_large(wanted, f"sends more than {wanted.most}"))
            with _writing(wanted, part.path):
                file.write(piece)
            bar.show(came)
            now = time.monotonic()
            if now - since >= WINDOW:
                if came - at < SLOWEST * WINDOW:
                    raise UserError(
                        f"{wanted.name}: less than {SLOWEST} bytes a second come from "
                        f"{wanted.url}; try again later, it goes on from there"
                    )
                since, at = now, came
    finally:
        with _writing(wanted, part.path):
            file.close()


class _Bar:
    """The progress of one file over all its attempts, in megabytes.

    Args:
        display: where it is shown.
        name: of what comes.
    """

    def __init__(self, display: Display, name: str) -> None:
        self._display, self._name = display, name
        self._progress: Progress | None = None

    def begin(self, start: int, total: int | None) -> None:
        """Take note that bytes from `start` on come now."""
        if self._progress is None:
            whole = None if total is None else max(1, total // _MEGABYTE)
            title = f"downloading {self._name}, MB"
            self._progress = Progress(self._display, title, whole, unit="MB")
            self.show(start)

    def show(self, came: int) -> None:
        """Show that so many bytes are there."""
        if self._progress is not None:
            new = came // _MEGABYTE - self._progress.done
            if new > 0:
                self._progress.advance(new)

    def close(self) -> None:
        """End the line."""
        if self._progress is not None:
            self._display.end_bar()
