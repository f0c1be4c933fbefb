# SPDX-License-Identifier: Apache-2.0
"""Signals that ask a run to stop."""

import os
import signal

import pytest

from src.training.stop_signals import StopSignals


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
