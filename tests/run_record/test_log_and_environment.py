# SPDX-License-Identifier: Apache-2.0
"""log.txt, and environment.json."""

import io
import sys

import numpy as np
import pytest

from src.base.console import line_listeners, warn
from src.base.progress import Display, Part
from src.model_utils.config import load_config
from src.run_record.environment import write_environment
from src.run_record.log_file import LOG_VARIABLE, listening
from src.run_record.reading import read_environment
from src.run_record.schema import ENVIRONMENT, LOG


def test_the_log_has_what_was_shown_before_and_after_it_began(tmp_path, capsys):
    (tmp_path / LOG).write_text("an earlier start\n")
    display = Display(io.StringIO())
    with pytest.raises(ValueError), listening() as log:
        display.say("reading the data")
        log.begin(tmp_path)
        warn("WARNING: a warning")
        display.show([Part("step 1/2"), Part("lr 0.1")], 1, 2)
        display.show([Part("step 2/2")], 2, 2, keep=True)
        Display(quiet=True).say("of another rank")
        raise ValueError("the end")
    display.say("of nobody")
    assert (tmp_path / LOG).read_text().splitlines() == [
        "an earlier start",
        "reading the data",
        "WARNING: a warning",
        "step 2/2",
        "error: the end",
    ]
    assert not line_listeners


def test_a_run_that_did_not_begin_leaves_no_log(tmp_path):
    with listening():
        Display(io.StringIO()).say("reading the data")
    assert not list(tmp_path.iterdir())


def test_no_second_log_where_a_launcher_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setenv(LOG_VARIABLE, str(tmp_path / "." / LOG))
    with listening() as log:
        log.begin(tmp_path)
        warn("something")
    assert not (tmp_path / LOG).exists()
    monkeypatch.delenv(LOG_VARIABLE)
    with open(tmp_path / LOG, "w") as output, listening() as log:  # python train.py > log.txt
        monkeypatch.setattr(sys, "stdout", output)
        log.begin(tmp_path)
        warn("something")
    assert (tmp_path / LOG).read_text() == ""


def test_the_log_is_not_written_through_a_link(tmp_path):
    (tmp_path / "mine").write_text("mine\n")
    (tmp_path / LOG).symlink_to(tmp_path / "mine")
    with listening() as log:
        log.begin(tmp_path)
        warn("something")
    assert (tmp_path / "mine").read_text() == "mine\n"
    assert (tmp_path / LOG).read_text() == "something\n"


def test_a_log_that_cannot_be_written_is_said_once(tmp_path, capsys):
    with listening() as log:
        log.begin(tmp_path / "file" / "folder")
        (tmp_path / "file").write_text("in the way")
        warn("one")
        warn("two")
    assert capsys.readouterr().err.count("cannot be written") == 1


def test_the_environment_says_what_a_run_needs_to_be_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--seed", "3"])
    monkeypatch.setenv("SOME_PASSWORD", "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    config = load_config(["--device_target", "CPU", "--callbacks", "os.path.Hook"])
    place = {"world_size": 2, "step": 0, "epoch": 1}
    write_environment(tmp_path, config, **place, resumed=False)
    found = read_environment(tmp_path)
    assert found["command"] == ["train.py", "--seed", "3"] and found["processes"] == 2
    assert found["packages"]["numpy"] == np.__version__ and found["python"] in sys.version
    assert found["processors"] >= 1 and found["memory_mb"] > 100 and found["device_target"] == "CPU"
    assert found["variables"]["OMP_NUM_THREADS"] == "2" and found["callbacks"] == ["os.path.Hook"]
    assert "secret" not in (tmp_path / ENVIRONMENT).read_text()
    for step in (5, 9):
        write_environment(tmp_path, config, world_size=1, step=step, epoch=2, resumed=True)
    found = read_environment(tmp_path)
    assert found["step"] == 9 and [start["step"] for start in found["earlier"]] == [0, 5]
    write_environment(tmp_path, config, **place, resumed=False)
    assert read_environment(tmp_path)["earlier"] == []
