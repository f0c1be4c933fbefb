# SPDX-License-Identifier: Apache-2.0
"""A training ends with its report, and one that cannot be written changes nothing."""

import json

import pytest

from src.report import build
from tests.helpers.report_runs import Page
from tests.helpers.tiny_run import CLASS_NAMES, NUM_TRAIN, NUM_VAL, make_data, tiny_config
from tests.helpers.tiny_training import train_tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data") / "data")


def test_the_last_evaluation_is_in_the_report(data, tmp_path, capsys):
    settings = {"run_report": True, "eval_interval": 1, "epoch_size": 1}
    assert train_tiny(tiny_config(data, tmp_path, **settings)) == 0
    assert f"report: {tmp_path / 'report.html'}" in capsys.readouterr().out
    page = Page((tmp_path / "report.html").read_text())
    evaluation = json.loads((tmp_path / "evaluation_report.json").read_text())
    assert page.tiles["evaluation"]["AP"] == f"{evaluation['summary']['ap']:.3f}"
    assert [row["class"] for row in page.table("best threshold")] == list(CLASS_NAMES)
    assert page.tiles[""]["Training pictures"] == str(NUM_TRAIN)
    assert page.table("boxes a picture")[1]["pictures"] == str(NUM_VAL)
    assert page.pictures and page.rects


def test_a_report_that_fails_leaves_the_training_as_it_is(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(build, "render_page", lambda *_, **__: 1 / 0)
    assert train_tiny(tiny_config(data, tmp_path, run_report=True, epoch_size=1)) == 0
    said = capsys.readouterr()
    assert "done; checkpoints in" in said.out and "WARNING: no report.html" in said.err
    assert not (tmp_path / "report.html").exists()
