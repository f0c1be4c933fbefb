# SPDX-License-Identifier: Apache-2.0
"""Which weights are the best, by any number of the record, and when a run gets no better."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.base.errors import UserError
from src.training.best import BestMetric, require_metric, value_of


def _follow(best, values, first=1):
    """The epochs whose weights were the best, and those after which the run was over."""
    kept, over = [], []
    for epoch, value in enumerate(values, start=first):
        if best.take({best.metric: value}, epoch):
            kept.append(epoch)
        if best.is_over():
            over.append(epoch)
    return kept, over


def test_ap_rises_and_losses_fall():
    assert _follow(BestMetric("ap"), [0.1, 0.3, 0.3, 0.2, 0.4]) == ([1, 2, 5], [])
    assert _follow(BestMetric("val_total_loss"), [3.0, 4.0, 2.0, 2.0]) == ([1, 3], [])


def test_it_is_over_after_so_many_that_are_not_better():
    values = [0.1, 0.3, 0.301, 0.302, 0.5, None, 0.2, 0.2]
    assert _follow(BestMetric("ap", patience=2), values) == ([1, 2, 3, 4, 5], [8])
    # Better, but not by enough to go on; the weights are kept all the same.
    strict = BestMetric("ap", patience=2, delta=0.01)
    assert _follow(strict, values[:4]) == ([1, 2, 3, 4], [4])
    assert "ap was not better by more than 0.01 in 2 evaluations" in strict.why_over()


def test_a_remark_stands_beside_every_number():
    best = BestMetric("ap", patience=1, remark="measured on the training pictures")
    assert best.take({"ap": 0.5}, 3)
    assert str(best) == "ap 0.5 (epoch 3, measured on the training pictures)"


@pytest.mark.parametrize("metric", ["ap", "val_total_loss"])
def test_what_is_no_number_is_neither_better_nor_worse(metric):
    nan, inf = float("nan"), float("inf")
    values = [nan, 0.4, nan, inf, -inf, 0.4]
    assert _follow(BestMetric(metric, patience=1), values) == ([2], [6])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(0, 11))
def test_a_run_that_goes_on_judges_as_one_that_was_not_stopped(values, stop):
    whole = BestMetric("ap", patience=3, delta=0.05)
    kept, over = _follow(whole, values)
    first = BestMetric("ap", patience=3, delta=0.05)
    before = _follow(first, values[:stop])
    second = BestMetric("ap", patience=3, delta=0.05, state=first.state())
    after = _follow(second, values[stop:], first=stop + 1)
    assert (before[0] + after[0], before[1] + after[1]) == (kept, over)
    assert second.state() == whole.state()


def test_an_epoch_that_is_evaluated_again_counts_once():
    best = BestMetric("ap", patience=2)
    _follow(best, [0.5, 0.4])
    again = BestMetric("ap", patience=2, state=best.state())
    assert _follow(again, [0.4], first=2) == ([], []) and not again.is_over()


def test_another_metric_begins_anew():
    best = BestMetric("ap")
    best.take({"ap": 0.9}, 1)
    other = BestMetric("ap50", state=best.state())
    assert other.take({"ap50": 0.2}, 2)


def test_weights_that_could_not_be_written_are_not_the_best():
    best = BestMetric("ap", patience=2)
    assert best.take({"ap": 0.3}, 1)
    best.not_kept()
    assert best.state()["level"] == 0.3 and best.state()["value"] is None
    best = BestMetric("ap", patience=2, state=best.state())  # waits where it has waited
    assert best.take({"ap": 0.2}, 2) and not best.is_over()
    assert best.take({"ap": 0.3}, 3) and best.is_over()

    best = BestMetric("ap")
    best.take({"ap": 0.3}, 1)
    assert best.take({"ap": 0.5}, 2)
    best.not_kept()
    assert best.take({"ap": 0.4}, 3) and best.state()["epoch"] == 3


def test_a_class_s_ap():
    row = {"ap": 0.5, "per_class": {"a/b": 0.2, "c": None}}
    assert value_of(row, "ap/a/b") == 0.2
    assert value_of(row, "ap/c") is None and value_of(row, "ap/d") is None


@pytest.mark.parametrize(
    "metric, evaluates, with_losses, problem",
    [
        ("mAP", True, True, "is no number of a run's record; did you mean ap"),
        ("ap/dogg", True, True, "did you mean ap/dog"),
        ("per_class", True, True, "is no number"),
        ("time", True, True, "is no number"),
        ("val_total_loss", True, False, "with eval_losses only"),
        ("ap50", False, False, "set eval_interval, or take a number of the training"),
    ],
)
def test_a_number_that_the_run_does_not_have(metric, evaluates, with_losses, problem):
    with pytest.raises(UserError, match=problem):
        require_metric(
            metric, "command line", ("cat", "dog"), evaluates=evaluates, with_losses=with_losses
        )


def test_numbers_that_a_run_has():
    for metric in ("ap", "ap_small", "ap/dog", "val_rpn_loss"):
        require_metric(metric, "", ("cat", "dog"), evaluates=True, with_losses=True)
    require_metric("total_loss", "", ("cat",), evaluates=False, with_losses=False)


def test_a_run_goes_on_from_its_own_configuration(tmp_path):
    """Its file names every key, the default metric too, though it evaluates nothing."""
    from src.model_utils.config import load_config
    from src.training.recording import run_best

    saved = tmp_path / "config.yaml"
    load_config(["--eval_interval", "0"]).save(saved)
    config = load_config(["--config_path", str(saved)])
    assert config.is_given("best_metric") and run_best(config, {}) is None
    with pytest.raises(UserError, match="set eval_interval"):
        run_best(config.replace(early_stopping=2, report=True), {})
