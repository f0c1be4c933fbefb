# SPDX-License-Identifier: Apache-2.0
"""Loss log, progress, checkpoint keeping and signals, each by itself."""

import io
import os
import re
import signal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.callbacks import Progress, StatusLine, clock_time
from src.checkpoint_keeper import CheckpointKeeper
from src.errors import UserError
from src.loss_log import LOSS_ORDER, LossLog, loss_line
from src.stop_signals import StopSignals

FORM = re.compile(
    r"epoch: \d+ step: \d+, rpn_loss: \d+\.\d{5}, rcnn_loss: \d+\.\d{5}, "
    r"rpn_cls_loss: \d+\.\d{5}, rpn_reg_loss: \d+\.\d{5}, rcnn_cls_loss: \d+\.\d{5}, "
    r"rcnn_reg_loss: \d+\.\d{5}, total_loss: \d+\.\d{5}"
)


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_line_is_exactly_this():
    losses = (0.12054, 0.40601, 0.04025, 0.08032, 0.25854, 0.14746)
    assert loss_line(1, 7393, losses) == (
        "epoch: 1 step: 7393, rpn_loss: 0.12054, rcnn_loss: 0.40601, rpn_cls_loss: 0.04025, "
        "rpn_reg_loss: 0.08032, rcnn_cls_loss: 0.25854, rcnn_reg_loss: 0.14746, "
        "total_loss: 0.52655"
    )


@given(
    st.lists(st.floats(0, 1e6), min_size=6, max_size=6), st.integers(1, 99), st.integers(1, 10**6)
)
def test_every_line_has_the_form(losses, epoch, step):
    assert FORM.fullmatch(loss_line(epoch, step, losses))


def _losses(value):
    return np.arange(1, 7, dtype=np.float32) * np.float32(value)


def _run_log(log, first=(1, 1), last=(2, 7), steps=7):
    epoch, step = first
    while (epoch, step) <= last:
        log.update(epoch, step, _losses(epoch * 100 + step))
        epoch, step = (epoch, step + 1) if step < steps else (epoch + 1, 1)


def test_log_averages_over_the_interval_and_ends_with_the_epoch(tmp_path):
    log = LossLog(tmp_path / "loss_0.log", interval=3, steps_per_epoch=7)
    _run_log(log)
    lines = log.path.read_text().splitlines()
    places = [
        re.match(r"epoch: (\d) step: (\d), rpn_loss: ([\d.]+)", line).groups() for line in lines
    ]
    assert places == [
        ("1", "3", "102.00000"), ("1", "6", "105.00000"), ("1", "7", "107.00000"),
        ("2", "3", "202.00000"), ("2", "6", "205.00000"), ("2", "7", "207.00000"),
    ]  # fmt: skip
    assert all(FORM.fullmatch(line) for line in lines)


@pytest.mark.parametrize("stop", [(1, 2), (1, 3), (1, 7), (2, 5)])
def test_log_of_a_resumed_run_is_the_log_of_an_uninterrupted_one(tmp_path, stop):
    whole = LossLog(tmp_path / "whole.log", interval=3, steps_per_epoch=7)
    _run_log(whole)
    first = LossLog(tmp_path / "loss_0.log", interval=3, steps_per_epoch=7)
    _run_log(first, last=stop)
    state = first.state()
    # Killed some steps later, in the middle of a line.
    after = (stop[0], stop[1] + 1) if stop[1] < 7 else (stop[0] + 1, 1)
    _run_log(first, first=after, last=(2, 6))
    with open(first.path, "a") as file:
        file.write("epoch: 2 step: 6, rpn_lo")
    second = LossLog(first.path, interval=3, steps_per_epoch=7, resume_at=stop)
    second.restore(state)
    _run_log(second, first=after)
    assert second.path.read_text() == whole.path.read_text()


def test_a_new_run_starts_a_new_log(tmp_path):
    path = tmp_path / "loss_0.log"
    path.write_text("epoch: 9 step: 9, old\n")
    LossLog(path, interval=1, steps_per_epoch=2).update(1, 1, _losses(1))
    assert len(path.read_text().splitlines()) == 1


def test_unwritable_log_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written.*output_dir"):
        LossLog(tmp_path / "file" / "loss_0.log", interval=1, steps_per_epoch=1)


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
        "0:00:00", "0:01:00", "1:02:05", "100:00:00",
    ]  # fmt: skip


def _add(keeper, name):
    keeper.path(name).write_text(name)
    keeper.added(name)


def test_keeper_keeps_the_newest_of_this_run_only(tmp_path):
    (tmp_path / "faster_rcnn-99_1.ckpt").write_text("another run")
    (tmp_path / "best.ckpt").write_text("best")
    keeper = CheckpointKeeper(tmp_path, 2)
    keeper.write_index()
    assert CheckpointKeeper.read_index(tmp_path) == []
    for epoch in (1, 2, 3):
        _add(keeper, f"faster_rcnn-{epoch}_5.ckpt")
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == [
        "best.ckpt", "faster_rcnn-2_5.ckpt", "faster_rcnn-3_5.ckpt", "faster_rcnn-99_1.ckpt",
    ]  # fmt: skip
    assert CheckpointKeeper.read_index(tmp_path) == keeper.names


def test_keeper_goes_on_where_a_run_stopped(tmp_path):
    keeper = CheckpointKeeper(tmp_path, 2)
    for name in ("faster_rcnn-1_5.ckpt", "faster_rcnn-2_3.ckpt"):
        _add(keeper, name)
    keeper = CheckpointKeeper(tmp_path, 2, resume=True)
    _add(keeper, "faster_rcnn-2_5.ckpt")
    assert keeper.names == ["faster_rcnn-2_3.ckpt", "faster_rcnn-2_5.ckpt"]
    assert not (tmp_path / "faster_rcnn-1_5.ckpt").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"checkpoints": 5}', '{"checkpoints": [3]}'])
def test_a_damaged_list_is_no_list(tmp_path, content):
    (tmp_path / CheckpointKeeper.INDEX).write_text(content)
    assert CheckpointKeeper.read_index(tmp_path) is None


def test_listed_files_that_are_gone_do_not_count(tmp_path):
    keeper = CheckpointKeeper(tmp_path, 3)
    for name in ("faster_rcnn-1_5.ckpt", "faster_rcnn-2_5.ckpt"):
        _add(keeper, name)
    keeper.path("faster_rcnn-2_5.ckpt").unlink()
    assert CheckpointKeeper.read_index(tmp_path) == ["faster_rcnn-1_5.ckpt"]


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_becomes_a_wish_and_the_second_one_acts(number, code):
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
            assert reached == ["default"]
        assert len(said) == 1 and "saving" in said[0]
        os.kill(os.getpid(), number)
        assert len(reached) == 2
    finally:
        signal.signal(number, before)


def test_loss_order_is_the_network_s():
    assert LOSS_ORDER[:2] == ("rpn_loss", "rcnn_loss") and len(set(LOSS_ORDER)) == 6
