# SPDX-License-Identifier: Apache-2.0
"""The rows of a run on the disk: whole after a kill, each once after going on; reading them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import src.base.errors
import src.base.line_log
from src.run_record.metrics_log import MetricsLog
from src.run_record.reading import parse_row, read_environment, read_record
from src.run_record.schema import EVAL, EVALUATION_TABLE, KIND, METRICS, TRAIN, TRAINING_TABLE
from tests.helpers.paths import importing
from tests.helpers.run_records import CLASS_NAMES, write_run_record

FILES = (METRICS, TRAINING_TABLE, EVALUATION_TABLE)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The rows of a run, and its folder."""
    folder = tmp_path_factory.mktemp("sample")
    return write_run_record(folder), folder


def _place(row):
    return row["epoch"], row["images"]


def _texts(folder):
    return [(folder / name).read_text() for name in FILES]


def test_what_is_written_is_what_readers_are_tested_with(sample, tmp_path):
    rows, folder = sample
    log = MetricsLog(tmp_path, CLASS_NAMES)
    for row in rows:
        log.add(row)
    assert _texts(tmp_path) == _texts(folder)
    record = read_record(tmp_path)
    assert record.training == [row for row in rows if row[KIND] == TRAIN]
    assert record.evaluations == [row for row in rows if row[KIND] == EVAL]
    with open(tmp_path / EVALUATION_TABLE, newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["ap/cat"] for line in table] == [
        str(row["per_class"]["cat"]) for row in record.evaluations
    ]
    assert table[0]["ap/fox"] == "" and table[0]["ap_large"] == ""


@pytest.mark.parametrize("stop", [0, 1, 4, 5, 6, 11, 17])
@pytest.mark.parametrize("further", [0, 3])
def test_a_run_that_goes_on_has_each_row_once(sample, tmp_path, stop, further):
    rows, folder = sample
    log = MetricsLog(tmp_path, CLASS_NAMES)
    for row in rows[: stop + further + 1]:
        log.add(row)
    with open(tmp_path / METRICS, "a") as file:
        file.write('{"kind": "train", "st')  # being written when it was killed
    again = MetricsLog(tmp_path, CLASS_NAMES, resume_at=_place(rows[stop]))
    left = [row for row in rows if _place(row) > _place(rows[stop])]
    # An epoch's evaluation is made again when the run goes on at its end.
    redone = [row for row in rows if row[KIND] == EVAL and _place(row) == _place(rows[stop])]
    for row in [*redone, *left]:
        again.add(row)
    assert _texts(tmp_path) == _texts(folder)


def test_rows_of_another_number_of_processes_keep_their_place(sample, tmp_path):
    """Steps are counted anew then, images are not."""
    log = MetricsLog(tmp_path, ())
    row = {KIND: TRAIN, "epoch": 1, "time": 0.0}
    for step, images in ((40, 80), (45, 90), (50, 100)):
        log.add({**row, "step": step, "images": images})
    again = MetricsLog(tmp_path, (), resume_at=(1, 90))
    again.add({**row, "step": 25, "images": 100})
    assert [row["step"] for row in read_record(tmp_path).training] == [40, 45, 25]


def test_a_new_run_begins_anew_and_keeps_what_is_no_run_s(sample, tmp_path, capsys):
    rows, _ = sample
    log = MetricsLog(tmp_path, CLASS_NAMES)
    log.add(rows[0])
    log.add(rows[5])
    log = MetricsLog(tmp_path, CLASS_NAMES)
    assert (tmp_path / METRICS).read_text() == "" and capsys.readouterr().err == ""
    mine = "name,value\nmine,1\n"
    (tmp_path / TRAINING_TABLE).write_text(mine)
    (tmp_path / "elsewhere").write_text(mine)
    (tmp_path / EVALUATION_TABLE).unlink()
    (tmp_path / EVALUATION_TABLE).symlink_to(tmp_path / "elsewhere")
    log = MetricsLog(tmp_path, CLASS_NAMES)
    log.add(rows[5])
    assert (tmp_path / f"{TRAINING_TABLE}.damaged1").read_text() == mine
    assert (tmp_path / "elsewhere").read_text() == mine
    assert not (tmp_path / EVALUATION_TABLE).is_symlink()
    assert capsys.readouterr().err.count("is no table of a run") == 2


def test_a_full_disk_costs_no_row(sample, tmp_path, monkeypatch):
    rows, folder = sample
    append = src.base.line_log.append_whole
    log = MetricsLog(tmp_path, CLASS_NAMES)
    for number, row in enumerate(rows):
        full = 3 <= number < 9
        monkeypatch.setattr(src.base.line_log, "append_whole", _refuse if full else append)
        log.add(row)
    log.sync()
    assert _texts(tmp_path) == _texts(folder)


def _refuse(path, text):
    raise OSError(28, "No space left on device")


_WRITE_FOREVER = """
import itertools, sys
from pathlib import Path
from src.run_record.metrics_log import MetricsLog
log = MetricsLog(Path(sys.argv[1]), ("cat",))
for step in itertools.count(1):
    log.add({"kind": "train", "step": step, "epoch": 1, "images": step, "total_loss": 0.1234567})
"""


def test_a_kill_leaves_whole_rows(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", _WRITE_FOREVER, tmp_path], env=importing())
    until = time.monotonic() + 60
    path = tmp_path / METRICS
    while not (path.exists() and path.stat().st_size > 20_000) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) > 100
    assert [parse_row(line)["step"] for line in lines] == list(range(1, len(lines) + 1))
    MetricsLog(tmp_path, ("cat",), resume_at=(1, 50))
    assert len(read_record(tmp_path).training) == 50
    assert len((tmp_path / TRAINING_TABLE).read_text().splitlines()) == 51


# ------------------------------------------------------------------ what others may have written


@given(st.binary(max_size=300))
def test_any_bytes_are_no_row_or_a_sound_one(content):
    row = parse_row(content)
    assert row is None or (row[KIND] in (TRAIN, EVAL) and row["epoch"] >= 0)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"kind": "train"}',
        '{"kind": "other", "step": 1, "epoch": 1, "images": 1}',
        '{"kind": "train", "step": 1.0, "epoch": 1, "images": 1}',
        '{"kind": "train", "step": true, "epoch": 1, "images": 1}',
        '{"kind": "train", "step": -1, "epoch": 1, "images": 1}',
        '{"kind": "train", "step": 1, "epoch": 1, "images": 1, "x": "text"}',
        '{"kind": "train", "step": 1, "epoch": 1, "images": 1, "x": [1]}',
        '{"kind": "eval", "step": 1, "epoch": 1, "images": 1, "per_class": {"a": "b"}}',
        '{"kind": "train", "step": 1' + "0" * 400 + ', "epoch": 1, "images": 1}',
        "[" * 100_000,
    ],
)
def test_no_row(text):
    assert parse_row(f"{text}\n".encode()) is None


def test_numbers_that_are_not_finite_are_missing():
    row = parse_row(
        b'{"kind": "train", "step": 1, "epoch": 1, "images": 1, "x": NaN, "y": 1e999, '
        b'"z": -1e308, "w": 3.4e38}\n'
    )
    assert row["x"] is row["y"] is row["z"] is None and row["w"] == 3.4e38


def test_a_record_that_is_not_there_is_empty(tmp_path):
    assert read_record(tmp_path) == ([], [], {}, 0)
    (tmp_path / METRICS).write_text("what is this\n")
    (tmp_path / "environment.json").write_text("[1]")
    with pytest.raises(src.base.errors.UserError, match="holds no JSON object"):
        read_environment(tmp_path)
    (tmp_path / "environment.json").write_text(json.dumps({"commit": None}))
    assert read_record(tmp_path) == ([], [], {"commit": None}, 1)
    os.remove(tmp_path / METRICS)
    os.mkfifo(tmp_path / METRICS)
    with pytest.raises(src.base.errors.UserError, match="cannot be read"):
        read_record(tmp_path)
