# SPDX-License-Identifier: Apache-2.0
"""log.txt of a run: what the user is shown, also where no launcher keeps it."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ..base.console import line_listeners, warn
from ..base.foreign_files import is_regular_file
from ..base.line_log import append_whole, set_aside
from .schema import LOG

# The launchers' scripts say so of the file to which they copy what their program prints.
LOG_VARIABLE = "FASTERRCNN_LOG"
_MOST_WAITING = 10_000  # lines


class RunLog:
    """Keeps the lines that the user is shown; writes them once the run's folder has a run."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._waiting: list[str] = []
        self._told = False

    def begin(self, folder: Path) -> None:
        """Add what has been shown so far, and all that follows, to `log.txt`.

        A launcher may do that already: then nothing is written here.

        Args:
            folder: of the run.
        """
        path = folder / LOG
        if _is_kept_by_another(path):
            self.end()
            return
        if os.path.lexists(path) and (path.is_symlink() or not is_regular_file(path)):
            with contextlib.suppress(OSError):  # somebody may have laid it there: not through it
                set_aside(path)
        self._path = path
        waiting, self._waiting = self._waiting, []
        for line in waiting:
            self.add(line)

    def add(self, line: str) -> None:
        """Keep a line, as far as that is possible.

        Args:
            line: without its newline.
        """
        if self._path is None:
            self._waiting = [*self._waiting[1 - _MOST_WAITING :], line]
            return
        try:
            append_whole(self._path, f"{line}\n")
            self._told = False
        except OSError as error:
            told, self._told = self._told, True
            if not told:
                warn(f"WARNING: {self._path}: cannot be written ({error.strerror or error})")

    def end(self) -> None:
        """Listen no longer."""
        line_listeners.discard(self.add)


@contextlib.contextmanager
def listening() -> Iterator[RunLog]:
    """Yield a log that gets every line the user is shown in the block, and what ends it."""
    log = RunLog()
    line_listeners.add(log.add)
    try:
        yield log
    except Exception as error:
        if log.add in line_listeners:
            log.add(f"error: {error}")
        raise
    finally:
        log.end()


def _is_kept_by_another(path: Path) -> bool:
    """Whether what is printed goes into the file already."""
    named = os.environ.get(LOG_VARIABLE)
    if named and os.path.realpath(named) == os.path.realpath(path):
        return True
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.path.samestat(os.fstat(sys.stdout.fileno()), os.stat(path))
    return False
