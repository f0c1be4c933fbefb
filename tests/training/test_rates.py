# SPDX-License-Identifier: Apache-2.0
"""The rates of a run: warm-ups of recipes in short runs from pretrained weights."""

import pytest

from src.model_utils.config import load_config
from src.training.rates import rate_advice, run_rates, settle_warmup

RECIPE = "configs/small_data.yaml"  # warms up for 100 steps


def _settled(*arguments, steps=72):
    said = []
    config = load_config(["--config_path", RECIPE, *arguments])
    return settle_warmup(config, steps, said.append), said


def test_one_epoch_from_pretrained_weights_reaches_its_rate_and_falls():
    arguments = ["--pre_trained", "a.ckpt", "--epoch_size", "1", "--device_target", "CPU"]
    config, said = _settled(*arguments)
    assert config.warmup_step == 18
    assert said == [
        "warmup_step 18 instead of 100: with pre_trained, a quarter of the run's 72 steps; "
        "--warmup_step sets another"
    ]
    same, rates = run_rates(load_config(["--config_path", RECIPE, *arguments]), 72, 1, said.append)
    assert same == config
    assert rates.argmax() == 18 and rates.max() == pytest.approx(0.0004)
    assert rates[-1] < 1e-6


@pytest.mark.parametrize(
    "arguments, warmup",
    [
        (["--epoch_size", "1"], 100),  # from scratch
        (["--pre_trained", "a.ckpt"], 100),  # 12 epochs: 864 steps
        (["--pre_trained", "a.ckpt", "--epoch_size", "1", "--warmup_step", "60"], 60),
        (["--pre_trained", "a.ckpt", "--epoch_size", "1", "--warmup_step", "0"], 0),
    ],
)
def test_other_warm_ups_stay(arguments, warmup):
    config, said = _settled(*arguments)
    assert config.warmup_step == warmup and not said
    changed, _ = _settled("--pre_trained", "a.ckpt", "--epoch_size", "1")
    again = changed.replace(warmup_step=warmup)
    assert settle_warmup(again, 72, said.append) == again and not said  # a program asks for it


@pytest.mark.parametrize("steps, warns", [(100, True), (101, False)])
def test_a_warm_up_longer_than_the_run_is_said(steps, warns):
    said = []
    config = load_config(["--config_path", RECIPE, "--epoch_size", "1"])
    run_rates(config, steps, 1, said.append)
    lines = [line for line in said if line.startswith("WARNING: warmup_step 100")]
    assert len(lines) == warns
    assert not lines or lines[0].endswith("--warmup_step 25 warms up for a quarter of it")


def test_the_shortest_run_warms_up_for_a_step():
    assert _settled("--pre_trained", "a.ckpt", "--epoch_size", "1", steps=2)[0].warmup_step == 1


def test_a_recipes_rate_is_pointed_out_where_the_weights_have_seen_the_classes():
    recipe = load_config(["--config_path", RECIPE])
    (line,) = rate_advice(recipe, 2)
    assert line.endswith("--base_lr 0.0001")
    assert not rate_advice(recipe, 0)  # a backbone, or classes that are all new
    assert not rate_advice(load_config(["--config_path", RECIPE, "--base_lr", "0.0004"]), 2)
