# SPDX-License-Identifier: Apache-2.0
"""A file of lines that a long run adds to: it outlives a full disk, and is gone on with after a
crash."""

import collections
import contextlib
import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from .console import warn
from .errors import UserError
from .files import write_text_atomic
from .foreign_files import is_regular_file
from .messages import counted

MOST_KEPT_LINES = 100_000  # 20 MB

# Whether a line belongs into the file that is gone on with; None: no run has written it.
Judge = Callable[[bytes], bool | None]


class LineLog:
    """Adds whole lines to a file.

    Lines that cannot be written (a full disk) are kept, up to `MOST_KEPT_LINES`, and written as
    soon as that works; the training goes on.

    Args:
        path: the file; started anew with the lines of `first`.
        first: whole lines, without their newlines.

    Raises:
        UserError: when the file cannot be begun.
    """

    def __init__(self, path: str | Path, first: Sequence[str] = ()) -> None:
        self.path = Path(path)
        self._unwritten: collections.deque[str] = collections.deque()
        self._lost = 0
        try:
            write_text_atomic(self.path, "".join(f"{line}\n" for line in first))
        except OSError as error:
            raise unwritable(self.path, error) from error

    def write(self, *lines: str) -> None:
        """Add lines, and those that could not be written before.

        Args:
            lines: without their newlines.
        """
        failed_before = bool(self._unwritten)
        self._unwritten.extend(lines)
        try:
            append_whole(self.path, "".join(f"{line}\n" for line in self._unwritten))
        except OSError as error:
            while len(self._unwritten) > MOST_KEPT_LINES:
                self._unwritten.popleft()
                self._lost += 1
            if not failed_before:
                warn(
                    f"WARNING: {self.path}: cannot be written ({error.strerror or error}); the "
                    "training goes on, and its lines are written when that is possible again"
                )
            return
        self._unwritten.clear()
        if failed_before:
            lost = f", without {self._lost} lines that were too many to keep" if self._lost else ""
            warn(f"{self.path}: is written again{lost}")
            self._lost = 0

    def sync(self) -> None:
        """Put what has been written on the disk, as far as that is possible."""
        if self._unwritten:
            self.write()
        with contextlib.suppress(OSError), open(self.path, "rb") as file:
            os.fsync(file.fileno())


def unwritable(path: Path, error: OSError) -> UserError:
    """Return the error for a file of a run that cannot be begun.

    Args:
        path: the file.
        error: why it cannot.
    """
    return UserError(
        f"{path}: cannot be written ({error.strerror or error}); free some space, or "
        "choose another output_dir"
    )


def take_over(path: Path, judge: Judge, *, what: str, longest: int) -> list[str]:
    """Return the lines of a file that a run goes on with, without their newlines.

    A file that is no such file, or has lines that no run writes (a power cut, another program),
    is kept as `<name>.damaged<number>`.

    Args:
        path: the file; may be missing.
        judge: gets each line, with its newline.
        what: the file is, for the warning.
        longest: bytes of a line; a longer one counts as several.

    Raises:
        UserError: it cannot be read, or not be kept.
    """
    try:
        return _take_over(path, judge, what, longest)
    except OSError as error:
        raise unwritable(path, error) from error


def _take_over(path: Path, judge: Judge, what: str, longest: int) -> list[str]:
    if not os.path.lexists(path):
        return []
    kept: list[str] = []
    strange = 0
    if is_regular_file(path):
        with open(path, "rb") as file:
            while line := file.readline(longest):
                belongs = judge(line)
                if belongs:
                    kept.append(line.decode("utf-8").rstrip("\n"))
                # What was being written when the run was killed is nothing strange.
                whole = line.endswith(b"\n") or len(line) == longest
                strange += belongs is None and (whole or b"\0" in line or not line.isascii())
        if not strange:
            return kept
    aside = set_aside(path)
    warn(
        f"WARNING: {path}: damaged, or no {what}; kept as {aside.name}, and the run goes on "
        f"with what is sound of it, {counted(len(kept), 'line')}"
    )
    return kept


def set_aside(path: Path) -> Path:
    """Give what is in the way of a file another name, and return that: `<name>.damaged<number>`.

    Args:
        path: a file, folder or link.

    Raises:
        OSError: it cannot be renamed.
    """
    aside = next(
        name
        for number in itertools.count(1)
        if not os.path.lexists(name := path.with_name(f"{path.name}.damaged{number}"))
    )
    os.rename(path, aside)
    return aside


def append_whole(path: Path, text: str) -> None:
    """Append to a text file all of `text` or nothing; the file is made when it is gone.

    Args:
        path: the file.
        text: whole lines.

    Raises:
        OSError: nothing could be appended.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", buffering=0) as file:
        length = os.fstat(file.fileno()).st_size
        data = memoryview(text.encode("utf-8"))
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file.fileno(), length)
            raise
