# SPDX-License-Identifier: Apache-2.0
"""Runs that end before their last epoch, by a number of the training."""

import json
import re
import sys

import pytest

from src.checkpoints.file import read_checkpoint
from src.processes.ranks import Ranks
from src.run_record.reading import read_record
from tests.helpers.report_runs import Page
from tests.helpers.tiny_run import make_data, tiny_config
from tests.helpers.tiny_training import train_tiny

SHARED = 0.25  # what all ranks have together


class _Shares(Ranks):
    """One rank that looks like several where statistics are shared."""

    def average(self, parameters):
        for parameter in parameters:
            parameter.set_data(parameter * 0 + SHARED)


class Hook:
    """Is named by `callbacks`."""

    def on_step(self, step):
        pass


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The folder of a run that ended after two of four epochs, and what it printed."""
    folder = tmp_path_factory.mktemp("early")
    printed = []
    sys.modules["early_hook"] = sys.modules[__name__]
    config = tiny_config(
        make_data(folder / "data"),
        folder / "a run",
        norm="bn",
        epoch_size=4,
        eval_interval=3,
        best_metric="total_loss",
        early_stopping=1,
        early_stopping_delta=100,
        run_report=True,
        callbacks="early_hook.Hook",
    )

    def loud(run):
        say, show = run.display.say, run.display.show
        run.display.say = lambda line: (printed.append(line), say(line))
        run.display.show = lambda parts, *rest, **kept: (
            printed.append("  ".join(part.text for part in parts)),
            show(parts, *rest, **kept),
        )
        return run.display

    def sharing(run):
        run.weights._ranks = _Shares()
        return run.weights

    assert train_tiny(config, weights=sharing, display=loud) == 0
    return folder / "a run", printed


def test_the_last_epoch_is_evaluated(ended):
    """Two epochs are no multiple of eval_interval, and the run did not know that they are all."""
    folder, printed = ended
    assert [row["epoch"] for row in read_record(folder).evaluations] == [2]
    report = json.loads((folder / "evaluation_report.json").read_text())
    assert report["subject"]["epoch"] == 2
    assert any("total_loss was not better by more than 100 in 1 epoch;" in line for line in printed)


def test_the_best_weights_have_the_statistics_of_all_ranks(ended):
    best = read_checkpoint(ended[0] / "ckpt_0" / "best.ckpt").arrays
    statistics = [best[name] for name in best if "moving_" in name]
    assert statistics and all((values == SHARED).all() for values in statistics)


def test_the_report_says_how_it_goes_on(ended):
    page = Page((ended[0] / "report.html").read_text())
    assert page.tiles[""]["Epochs"] == "2 of 4" and "10 steps, ended early" in page.words
    assert (
        f"--config_path '{ended[0]}/config.yaml' --resume auto --output_dir '{ended[0]}' "
        "--callbacks early_hook.Hook --early_stopping 0" in page.words
    )


def test_the_losses_on_the_screen_are_those_of_the_log(ended):
    logged = {}
    for line in (ended[0] / "loss_0.log").read_text().splitlines():
        found = re.search(r"epoch: (\d+) step: (\d+), .*total_loss: ([\d.]+)", line)
        logged[int(found[1]), int(found[2])] = found[3]
    shown = {}
    for line in ended[1]:
        if found := re.match(r"epoch (\d+)/4 step (\d+)/5 .*total_loss ([\d.]+)", line):
            shown[int(found[1]), int(found[2])] = found[3]
    assert len(shown) == 10 and logged.items() <= shown.items()
    rows = read_record(ended[0]).training
    losses = [float(loss) for loss in logged.values()]
    assert [row["total_loss"] for row in rows] == pytest.approx(losses, abs=1e-5)
