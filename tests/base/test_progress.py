# SPDX-License-Identifier: Apache-2.0
"""What is shown of work in progress: on terminals of any width, and elsewhere."""

import fcntl
import io
import itertools
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time

import pytest

from src.base.console import warn
from src.base.progress import Display, Part, Progress, clock_time, fitting

PARTS = [
    Part("epoch 3/12 step 225/500"),
    Part("lr 0.020000", 4),
    Part("total_loss 0.51234", 2),
    Part("152 ms/step", 5),
    Part("13.1 images/s", 3),
    Part("left 1:02:05", 1),
]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def lines_of(stream):
    """What stays on a screen: of lines that are rewritten the last writing."""
    return [line.split("\r")[-1].rstrip() for line in stream.getvalue().split("\n")]


@pytest.mark.parametrize(
    "columns, shown",
    [
        (40, "epoch 3/12 step 225/500  left 1:02:05"),
        (60, "epoch 3/12 step 225/500  total_loss 0.51234  left 1:02:05"),
        (200, "  ".join(part.text for part in PARTS)),
        (10, "epoch 3/12"),
    ],
)
def test_what_fits_is_shown(columns, shown):
    assert fitting(PARTS, columns) == shown


def test_a_line_for_each_piece_of_work_stays_on_a_terminal():
    stream = Terminal()
    display = Display(stream, seconds=0.0)
    display.say("two epochs")
    for epoch in (1, 2):
        for step in range(1, 6):
            display.show([Part(f"epoch {epoch} step {step}")], step, 5)
    display.say("done")
    first, *epochs, last, rest = lines_of(stream)
    assert (first, last, rest) == ("two epochs", "done", "")
    assert [line[:14] for line in epochs] == ["epoch 1 step 5", "epoch 2 step 5"]
    assert all(line.endswith("|") for line in epochs)


def test_a_line_said_in_between_stands_alone(capsys):
    stream = Terminal()
    display = Display(stream, seconds=0.0)
    display.show([Part("step 1")], 1, 3)
    display.say("a note")
    display.show([Part("step 2")], 2, 3)
    warn("a warning")
    display.show([Part("step 3")], 3, 3)
    starts = [line.split("  |")[0] for line in lines_of(stream)]
    assert starts == ["step 1", "a note", "step 2", "step 3", ""]
    assert capsys.readouterr().err == "a warning\n"


def test_elsewhere_only_the_lines_to_keep_are_printed():
    stream = io.StringIO()
    display = Display(stream)
    for step in range(1, 5):
        display.show([Part(f"step {step}"), Part("left 0:00:01", 9)], step, 4, keep=step % 2 == 0)
    assert stream.getvalue() == "step 2  left 0:00:01\nstep 4  left 0:00:01\n"


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_a_quiet_display_shows_nothing(stream, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", stream)
    display = Display(quiet=True)
    with display.compiling():
        display.show([Part("step 1")], 1, 1, keep=True)
    display.say("done")
    assert stream.getvalue() == ""


def test_compiling_is_said_with_its_time():
    stream = io.StringIO()
    with Display(stream).compiling():
        assert stream.getvalue() == "compiling the graph (minutes on a slow machine) ...\n"
    assert re.fullmatch(
        r"compiling the graph \(minutes on a slow machine\) \.\.\.\n"
        r"the graph is ready after \d\.\d s\n",
        stream.getvalue(),
    )


def test_the_canvas_that_is_compiled_for_is_named():
    stream = io.StringIO()
    with Display(stream).compiling("800x1344"):
        assert (
            stream.getvalue()
            == "compiling the graph for 800x1344 (minutes on a slow machine) ...\n"
        )
    assert "the graph for 800x1344 is ready after 0.0 s" in stream.getvalue()


def test_the_time_of_compiling_is_counted_on_a_terminal():
    stream = Terminal()
    display = Display(stream)
    deadline = time.monotonic() + 60
    with display.compiling():
        while "0:00:01" not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "compiling the graph (minutes on a slow machine) ... 0:00:01" in stream.getvalue()
    line, rest = lines_of(stream)
    assert line.startswith("the graph is ready after ") and rest == ""


def test_a_compilation_that_fails_is_not_said_to_be_done():
    for stream in (Terminal(), io.StringIO()):
        with pytest.raises(RuntimeError, match="no"), Display(stream).compiling():
            raise RuntimeError("no")
        assert "ready" not in stream.getvalue()


SCRIPT = """
from src.base.progress import Display, Part
display = Display(seconds=0.0)
for step in (1, 2, 3):
    display.show([Part(f"epoch 1/12 step {step}/3"), Part("left 1:02:05", 1)], step, 3)
with display.compiling():
    pass
"""


@pytest.mark.parametrize("columns", [40, 120, 0])  # 0: a terminal that does not say
def test_no_line_is_wider_than_the_terminal(columns, repo_root):
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=there, cwd=repo_root, env=environment
    )
    os.close(there)
    printed = b""
    while True:
        try:
            part = os.read(here, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        printed += part
    os.close(here)
    assert process.wait(60) == 0
    drawn = re.split("[\r\n]+", printed.decode())
    assert max(map(len, drawn)) <= (columns or 80)
    assert any("epoch 1/12 step 3/3  left 1:02:05" in line for line in drawn)
    assert ("██" in printed.decode()) == (columns != 40) or "##" in printed.decode()


def test_rate_and_time_left():
    for stream in (Terminal(), io.StringIO()):
        times = itertools.count(100)
        display = Display(stream, seconds=0.0)
        progress = Progress(display, "converted", 120, line_seconds=30.0, clock=times.__next__)
        for _ in range(120):
            progress.advance()
        progress.finish()
        lines = stream.getvalue().replace("\r", "\n").split("\n")
        texts = [line.split("  |")[0].rstrip() for line in lines]
        assert "converted 30/120  1.0 images/s  left 0:01:30" in texts
        assert "converted 120/120  1.0 images/s  left 0:00:00" in texts
        assert (len(lines) > 100) == stream.isatty()


def test_the_first_batch_is_no_measure_of_speed_unless_it_is_the_only_one():
    times = iter([0.0, 10.0, 12.0, 14.0])
    progress = Progress(Display(quiet=True), "evaluated", 6, clock=lambda: next(times))
    progress.advance(2)
    assert progress.speed() == pytest.approx(0.2)
    progress.advance(2)
    progress.advance(2)
    assert progress.speed() == pytest.approx(1.0)


def test_the_first_batch_of_each_kind_is_no_measure_of_speed():
    times = iter([0.0, 10.0, 11.0, 31.0, 33.0])
    progress = Progress(Display(quiet=True), "evaluated", 8, clock=lambda: next(times))
    for is_first in (True, False, True, False):
        progress.advance(2, is_first=is_first)
    assert progress.speed() == pytest.approx(4 / 3)  # 2 in 1 s, 2 in 2 s


def test_clock_time():
    assert [clock_time(s) for s in (0, 59.6, 3725, 360000)] == [
        "0:00:00",
        "0:01:00",
        "1:02:05",
        "100:00:00",
    ]
