# SPDX-License-Identifier: Apache-2.0
"""What is shown of work in progress: a bar on a terminal, a plain line now and then elsewhere."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TextIO

from .console import is_terminal, lost_output, tell_listeners, unfinished_lines, warn
from .messages import one_line

if TYPE_CHECKING:
    from tqdm import tqdm

_COLUMNS = 80  # of a terminal that does not say
_BAR_COLUMNS = 12  # a shorter bar is left out


class Part(NamedTuple):
    """A piece of a line of progress.

    Attributes:
        text: what it says.
        importance: 0 for what is always shown; on a narrow terminal the others go, the highest
            number first.
    """

    text: str
    importance: int = 0


class Display:
    """Where a program shows its lines and the progress of its work.

    What cannot be written is lost, and said once on the standard error.

    Args:
        stream: where to; default the standard output of the moment.
        quiet: show nothing, as all ranks but the first.
        seconds: least time between two drawings of a bar.
    """

    def __init__(
        self, stream: TextIO | None = None, *, quiet: bool = False, seconds: float = 0.2
    ) -> None:
        self._quiet = quiet
        if quiet or (stream is None and sys.stdout is None):
            stream = open(os.devnull, "w")  # noqa: SIM115 (it stays open)
        self._stream = _Unfailing(stream or sys.stdout)
        self._seconds = seconds
        self._bar: tqdm[NoReturn] | None = None
        self._lock = threading.RLock()  # `busy` draws from a thread of its own
        self.terminal = is_terminal(self._stream)

    def say(self, text: str) -> None:
        """Print a line of its own; a bar that is open stays as it is, above it.

        Args:
            text: its breaks become spaces.
        """
        with self._lock:
            self.end_bar()
            self._print(one_line(text))

    def show(
        self, parts: Sequence[Part], done: int, total: int | None, *, keep: bool = False
    ) -> None:
        """Show how far the work is.

        Args:
            parts: of the line, in their order.
            done: how much is done. Where all of it is, the bar is finished and stays.
            total: how much there is to do; None where that is not known.
            keep: print the line where there is no terminal, and so no bar.
        """
        line = "  ".join(part.text for part in parts) if keep else ""
        if not self.terminal:
            if keep:
                self._print(line)
            return
        if keep and not self._quiet:
            tell_listeners(line)
        with self._lock:
            self._draw(parts, done, total)
            if total is not None and done >= total:
                self.end_bar()

    @contextlib.contextmanager
    def busy(self, doing: str, done: str) -> Iterator[None]:
        """Show how long the `with` block takes, while it runs.

        Args:
            doing: what it does.
            done: what is true after it; not said when it raises.
        """
        start = time.monotonic()
        with self._ticking(doing, start) if self.terminal else self._line_before(doing):
            yield
        with self._lock:
            self.end_bar(erase=True)
            self._print(f"{done} after {time.monotonic() - start:.1f} s")

    def compiling(self, canvas: str = "") -> contextlib.AbstractContextManager[None]:
        """`busy` around the first run of a network.

        Args:
            canvas: the input shape that is compiled for, of a network that has several.
        """
        of_which = f" for {canvas}" if canvas else ""
        doing = f"compiling the graph{of_which} (minutes on a slow machine) ..."
        return self.busy(doing, f"the graph{of_which} is ready")

    def end_bar(self, *, erase: bool = False) -> None:
        """Finish the bar that is open, if one is.

        Args:
            erase: take it off the screen.
        """
        with self._lock:
            bar, self._bar = self._bar, None
            if bar is not None:
                unfinished_lines.discard(self.end_bar)
                bar.leave = not erase
                bar.close()

    @contextlib.contextmanager
    def _line_before(self, doing: str) -> Iterator[None]:
        self._print(doing)
        yield

    @contextlib.contextmanager
    def _ticking(self, doing: str, start: float) -> Iterator[None]:
        """Draw the time every second, from a thread: a compiler lets other threads run at times."""
        over = threading.Event()

        def tick() -> None:
            while not over.is_set():
                with self._lock:
                    self._draw([Part(f"{doing} {clock_time(time.monotonic() - start)}")], 0, None)
                over.wait(1.0)

        self.end_bar()
        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.end_bar(erase=True)

    def _draw(self, parts: Sequence[Part], done: int, total: int | None) -> None:
        """Show a bar, with none of its own when there is no `total`."""
        if self._bar is not None and self._bar.total != total:
            self.end_bar()
        bar = self._open_bar(total) if self._bar is None else self._bar
        columns = bar.format_dict["ncols"] or 0
        if columns < 1:  # the terminal does not say
            bar.dynamic_ncols, bar.ncols, columns = False, _COLUMNS, _COLUMNS
        text = fitting(parts, columns)
        has_room = total is not None and len(text) + _BAR_COLUMNS <= columns
        bar.bar_format = "{desc}  |{bar}|" if has_room else "{desc}"
        bar.set_description_str(text, refresh=False)
        if total is None:
            bar.refresh()
        else:
            bar.update(done - bar.n)

    def _open_bar(self, total: int | None) -> "tqdm[NoReturn]":
        from tqdm import tqdm

        self._bar = tqdm(
            total=total,
            file=self._stream,
            dynamic_ncols=True,
            mininterval=self._seconds,
            miniters=1,
            bar_format="{desc}",
            disable=False,
        )
        unfinished_lines.add(self.end_bar)
        return self._bar

    def _print(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()
        if not self._quiet:
            tell_listeners(line)


class Progress:
    """How many of a number of things are done, how many in a second, and the time left.

    Args:
        display: where it is shown.
        title: what is done with them, before the numbers.
        total: how many there are; None where that is not known.
        unit: what they are.
        line_seconds: between two lines where there is no terminal.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        display: Display,
        title: str,
        total: int | None,
        *,
        unit: str = "images",
        line_seconds: float = 10.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.done, self.total = 0, total
        self._display, self._title, self._unit = display, title, unit
        self._line_seconds, self._clock = line_seconds, clock
        self._start = self._now = self._line_at = clock()
        self._measured, self._seconds = 0, 0.0

    def advance(self, count: int = 1, *, is_first: bool = False) -> None:
        """Take note of `count` more that are done.

        Args:
            count: of the things since the last call.
            is_first: they are the first of their kind, as the first ones of all always are.
        """
        last, self._now = self._now, self._clock()
        if self.done and not is_first:
            self._measured += count
            self._seconds += self._now - last
        self.done += count
        is_due = self._now - self._line_at >= self._line_seconds
        if is_due:
            self._line_at = self._now
        self._show(keep=is_due)

    def finish(self) -> None:
        """Show the last line, also where there is no terminal."""
        if self._display.terminal:
            self._display.end_bar()
        else:
            self._now = self._clock()
            self._show(keep=True)

    def speed(self) -> float:
        """Return how many are done in a second.

        The first ones of each kind, for which a graph is compiled, do not count unless there are no
        others.
        """
        if not self._measured:
            return self.done / max(self._now - self._start, 1e-9)
        return self._measured / max(self._seconds, 1e-9)

    def _show(self, *, keep: bool) -> None:
        of_all = "" if self.total is None else f"/{self.total}"
        parts = [Part(f"{self._title} {self.done}{of_all}")]
        if self._measured:
            speed = self.speed()
            parts.append(Part(f"{speed:.1f} {self._unit}/s", 2))
            if self.total is not None:
                left = max(0, self.total - self.done) / speed
                parts.append(Part(f"left {clock_time(left)}", 1))
        self._display.show(parts, self.done, self.total, keep=keep)


class _Unfailing:
    """A stream whose failures to write are said once, and passed over."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._told = False

    def write(self, text: str) -> int:
        """Write what can be written."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Pass on what has been written."""
        self._try(self._stream.flush)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except (OSError, ValueError) as error:  # ValueError: closed
            if not self._told:
                self._told = True
                warn(lost_output("standard output", error))


def fitting(parts: Sequence[Part], columns: int) -> str:
    """Return the parts as one line, without the least important ones where they do not fit.

    Args:
        parts: in the order in which they stand.
        columns: most characters of the line.

    >>> fitting([Part("step 3/8"), Part("lr 0.02", 2), Part("left 0:01:10", 1)], 25)
    'step 3/8  left 0:01:10'
    """
    kept = list(parts)
    while True:
        line = "  ".join(part.text for part in kept)
        least = max(kept, key=lambda part: part.importance)
        if len(line) <= columns or not least.importance:
            return line[:columns]
        kept.remove(least)


def clock_time(seconds: float) -> str:
    """Return h:mm:ss.

    Args:
        seconds: a duration; rounded to whole ones.

    >>> clock_time(3725)
    '1:02:05'
    """
    minutes, rest = divmod(int(round(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
