# SPDX-License-Identifier: Apache-2.0
"""What is printed. What cannot be printed (a full disk, a reader that left) never ends the work."""

import contextlib
import io
import os
import select
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .messages import one_line

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# What ends the line that is being rewritten on a terminal, so that a warning begins one of its own.
unfinished_lines: set[Callable[[], None]] = set()

# Get every line that is shown to the user, as the log of a run does.
line_listeners: set[Callable[[str], None]] = set()

_WAIT_SECONDS = 1.0  # for a reader that is slow, where the system says so instead of waiting


class _DroppingFile(io.FileIO):
    """A descriptor for writing that drops what the system refuses, and says so once.

    Args:
        descriptor: stays open.
        title: how the note calls it; "" for none.
    """

    def __init__(self, descriptor: int, title: str) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._title = title

    def write(self, data: "ReadableBuffer") -> int:
        left = memoryview(data).cast("B")
        length = len(left)
        while left:
            try:
                written = super().write(left)
                if written is None:  # full, and not to be waited for
                    select.select([], [self.fileno()], [], _WAIT_SECONDS)
                    written = super().write(left) or _refused()
            except (OSError, ValueError) as error:
                self._note(error)
                break
            left = left[written:]
        return length

    def _note(self, error: Exception) -> None:
        title, self._title = self._title, ""
        if title:
            warn(lost_output(title, error))


def _refused() -> int:
    raise BlockingIOError("its reader does not read")


def lost_output(title: str, error: Exception) -> str:
    """Return the note on output that cannot be written.

    Args:
        title: what the stream is called, as "standard output".
        error: why it cannot.
    """
    reason = getattr(error, "strerror", None) or error
    return f"note: the {title} cannot be written ({reason}); what cannot be printed is lost"


def warn(line: str) -> None:
    """Print a line on the standard error; never fails.

    Args:
        line: its breaks become spaces, and a long one loses its middle.
    """
    while unfinished_lines:
        unfinished_lines.pop()()
    for stream in (sys.stdout, sys.stderr):  # in the order of what happened
        # RuntimeError: it is being flushed, which is how this came about.
        with contextlib.suppress(OSError, ValueError, AttributeError, RuntimeError):
            stream.flush()
    with contextlib.suppress(OSError, ValueError, AttributeError, RuntimeError):
        print(one_line(line), file=sys.stderr, flush=True)
    tell_listeners(one_line(line))


def tell_listeners(line: str) -> None:
    """Pass a line on that the user is shown; never fails.

    Args:
        line: without its newline.
    """
    for listener in tuple(line_listeners):
        with contextlib.suppress(Exception):  # a log must not end what it tells of
            listener(line)


def is_terminal(stream: Any) -> bool:
    """Say whether a user sits at a stream; False for one that is closed or missing.

    Args:
        stream: a file, or what stands for one.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return bool(stream.isatty())
    return False


def guard_standard_streams() -> None:
    """Let nothing that is printed from now on end the program, nor change its exit code.

    Descriptors 0 to 2 that are closed are opened on the null device: a file of ours must not get
    their numbers, because libraries print to them. Streams that somebody has replaced are left
    alone, but for their handling of names that are no text.
    """
    closed = [number for number in range(3) if _open_null(number)]
    for number, name, title in ((2, "stderr", ""), (1, "stdout", "standard output")):
        stream = getattr(sys, name)
        if stream is None or (stream is getattr(sys, f"__{name}__") and _number(stream) == number):
            setattr(sys, name, _guarded(stream, number, title))
        elif getattr(stream, "errors", "") == "strict":
            stream.reconfigure(errors="backslashreplace")
    if 1 in closed:
        warn("note: the standard output is closed; what would be printed there is lost")


def _open_null(number: int) -> bool:
    """Open a descriptor on the null device if it is closed; say whether it was."""
    try:
        os.fstat(number)
        return False
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        else:
            os.set_inheritable(number, True)
        return True


def _number(stream: Any) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def _guarded(stream: Any, number: int, title: str) -> io.TextIOWrapper:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        stream.flush()
    file = _DroppingFile(number, title)
    errors = getattr(stream, "errors", None) or "strict"
    unbuffered = getattr(stream, "write_through", False)
    return io.TextIOWrapper(
        file if unbuffered else io.BufferedWriter(file),
        encoding=getattr(stream, "encoding", None) or "utf-8",
        # file names may be no text
        errors="backslashreplace" if errors == "strict" else errors,
        line_buffering=getattr(stream, "line_buffering", False),
        write_through=unbuffered,
    )
