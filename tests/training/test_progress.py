# SPDX-License-Identifier: Apache-2.0
"""Progress and signals, each by itself."""

import io
import os
import signal

import pytest

from src.training.progress import Progress, StatusLine, clock_time
from src.training.stop_signals import StopSignals


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def _progress(stream, times):
    clock = iter(times)
    return Progress(
        StatusLine(stream, seconds=0.0),
        epochs=2,
        steps_per_epoch=4,
        images_per_step=6,
        interval=2,
        clock=lambda: next(clock),
    )


def test_progress_on_a_terminal_rewrites_one_line():
    stream = _Terminal()
    progress = _progress(stream, [100.0, 102.0, 104.0])
    for step in (1, 2, 3):
        progress.update(1, step, 0.005, 1.25)
    text = stream.getvalue()
    assert text.count("\n") == 0 and text.count("\r") == 3
    last = text.split("\r")[-1]
    for part in (
        "epoch 1/2 step 3/4",
        "lr 0.005000",
        "2000 ms/step",
        "3.0 images/s",
        "left 0:00:10",
    ):
        assert part in last
    progress.status.say("done")
    assert stream.getvalue().endswith("\ndone\n")


def test_progress_elsewhere_keeps_one_line_an_interval():
    stream = io.StringIO()
    progress = _progress(stream, [0.0, 50.0, 50.5, 51.0, 51.5])
    for step in (1, 2, 3, 4):
        progress.update(1, step, 0.005, 1.25)
    lines = stream.getvalue().splitlines()
    assert [line.split()[3] for line in lines] == ["2/4", "4/4"]


def test_pauses_are_no_part_of_a_step():
    stream = io.StringIO()
    progress = _progress(stream, [0.0, 1.0, 100.0, 101.0])
    progress.update(1, 1, 0.1, 1.0)
    progress.update(1, 2, 0.1, 1.0)
    progress.pause()
    progress.update(1, 3, 0.1, 1.0)
    progress.update(1, 4, 0.1, 1.0)
    assert "1000 ms/step" in stream.getvalue().splitlines()[-1]


def test_clock_time():
    assert [clock_time(s) for s in (0, 59.6, 3725, 360000)] == [
        "0:00:00",
        "0:01:00",
        "1:02:05",
        "100:00:00",
    ]


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_becomes_a_wish_and_a_later_one_acts(number, code, monkeypatch):
    before = signal.getsignal(number)
    reached = []
    signal.signal(number, lambda *_: reached.append("default"))
    try:
        said = []
        with StopSignals(said.append) as stop:
            assert not stop.wanted()
            signal.signal(number, lambda *_: reached.append("a library's"))
            assert not stop.wanted()  # listens again
            os.kill(os.getpid(), number)
            assert stop.wanted() and stop.exit_code == code and not reached
            os.kill(os.getpid(), number)
            assert not reached  # at once: the same wish, by another way
            monkeypatch.setattr("src.training.stop_signals.REPEAT_SECONDS", 0.0)
            os.kill(os.getpid(), number)
            assert reached == ["default"]
        assert len(said) == 1 and "saving" in said[0]
        os.kill(os.getpid(), number)
        assert len(reached) == 2
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("before, code", [(signal.SIG_DFL, 129), (signal.SIG_IGN, None)])
def test_a_closed_terminal_stops_a_run_unless_nohup(before, code):
    found = signal.signal(signal.SIGHUP, before)
    try:
        with StopSignals() as stop:
            for _ in range(2):  # the terminal's, and its shell's
                os.kill(os.getpid(), signal.SIGHUP)
                stop.wanted()
            assert stop.exit_code == code
        assert signal.getsignal(signal.SIGHUP) == before
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, found)
