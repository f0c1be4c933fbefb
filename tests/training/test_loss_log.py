# SPDX-License-Identifier: Apache-2.0
"""The loss log: its lines, what a resumed run makes of it, and a disk that is full."""

import os
import re
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import src.base.line_log
from src.base.errors import UserError
from src.FasterRcnn.names import LOSS_NAMES
from src.training.loss_log import LossLog, loss_line

FORM = re.compile(
    r"epoch: \d+ step: \d+, rpn_loss: \d+\.\d{5}, rcnn_loss: \d+\.\d{5}, "
    r"rpn_cls_loss: \d+\.\d{5}, rpn_reg_loss: \d+\.\d{5}, rcnn_cls_loss: \d+\.\d{5}, "
    r"rcnn_reg_loss: \d+\.\d{5}, total_loss: \d+\.\d{5}"
)


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
        ("1", "3", "102.00000"),
        ("1", "6", "105.00000"),
        ("1", "7", "107.00000"),
        ("2", "3", "202.00000"),
        ("2", "6", "205.00000"),
        ("2", "7", "207.00000"),
    ]
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


def _damaged(path, kind):
    text = path.read_bytes()
    lines = text.splitlines(keepends=True)
    if kind == "no UTF-8":
        path.write_bytes(text + b"\xff")
    elif kind == "a byte within":
        path.write_bytes(text.replace(b"rcnn_loss", b"rcnn\xfeloss", 1))
        return 1
    elif kind == "zeros":
        path.write_bytes(b"".join(lines[:2]) + bytes(5000))
        return 1
    elif kind == "a long line":
        path.write_bytes(text + b"x" * 3_000_000 + b"\n")
    elif kind == "another program":
        path.write_bytes(b"step 1 loss 3.4\n")
        return 3
    else:
        path.unlink()
        os.mkfifo(path) if kind == "a pipe" else path.mkdir()
        return 3
    return 0


@pytest.mark.parametrize(
    "kind",
    ["no UTF-8", "a byte within", "zeros", "a long line", "another program", "a pipe", "a folder"],
)
def test_a_damaged_log_is_kept_aside_and_the_run_goes_on(tmp_path, capsys, kind):
    log = LossLog(tmp_path / "loss_0.log", interval=3, steps_per_epoch=7)
    _run_log(log, last=(1, 7))
    whole = log.path.read_text()
    missing = _damaged(log.path, kind)
    again = LossLog(log.path, interval=3, steps_per_epoch=7, resume_at=(1, 7))
    lines = again.path.read_text().splitlines(keepends=True)
    assert len(lines) == 3 - missing and all(line in whole for line in lines)
    (aside,) = tmp_path.glob("loss_0.log.damaged*")
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"kept as {aside.name}" in error
    _run_log(again, first=(2, 1))
    assert len(again.path.read_text().splitlines()) == 6 - missing


@given(st.binary(max_size=300))
def test_whatever_bytes_there_are(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "any log"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "loss_0.log").write_bytes(content)
    log = LossLog(folder / "loss_0.log", interval=1, steps_per_epoch=7, resume_at=(9, 9))
    assert log.path.read_text() == ""


def test_lines_that_cannot_be_written_come_later(tmp_path, monkeypatch, capsys):
    whole = LossLog(tmp_path / "whole.log", interval=1, steps_per_epoch=7)
    _run_log(whole)
    log = LossLog(tmp_path / "loss_0.log", interval=1, steps_per_epoch=7)
    _run_log(log, last=(1, 2))
    append = src.base.line_log.append_whole

    def refuse(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(src.base.line_log, "append_whole", refuse)
    _run_log(log, first=(1, 3), last=(2, 3))
    log.sync()
    assert len(log.path.read_text().splitlines()) == 2
    monkeypatch.setattr(src.base.line_log, "append_whole", append)
    _run_log(log, first=(2, 4))
    assert log.path.read_text() == whole.path.read_text()
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 2 and "goes on" in error[0] and "is written again" in error[1]


def test_only_so_many_lines_wait(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(src.base.line_log, "MOST_KEPT_LINES", 3)
    log = LossLog(tmp_path / "a" / "loss_0.log", interval=1, steps_per_epoch=7)
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "a").write_text("in the way")
    _run_log(log, last=(1, 6))
    (tmp_path / "a").unlink()
    log.sync()
    assert "without 3 lines" in capsys.readouterr().err
    assert re.findall(r"step: (\d)", log.path.read_text()) == ["4", "5", "6"]


def test_a_line_that_fits_in_part_leaves_no_part(tmp_path, monkeypatch):
    path = tmp_path / "a.log"
    src.base.line_log.append_whole(path, "one\n")

    class Filling:
        def __init__(self, path, mode, buffering):
            self.file = open(path, mode, buffering)  # noqa: SIM115

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def fileno(self):
            return self.file.fileno()

        def write(self, data):
            if len(data) < 8:
                raise OSError(28, "No space left on device")
            return self.file.write(data[:3])

    monkeypatch.setattr(src.base.line_log, "open", Filling, raising=False)
    with pytest.raises(OSError, match="No space"):
        src.base.line_log.append_whole(path, "two and more\n")
    assert path.read_text() == "one\n"


def test_loss_order_is_the_network_s():
    assert LOSS_NAMES[:2] == ("rpn_loss", "rcnn_loss") and len(set(LOSS_NAMES)) == 6
