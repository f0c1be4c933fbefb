# SPDX-License-Identifier: Apache-2.0
"""Advice for boxes of any shape: the configuration takes it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.data_check.advice import advise
from src.data_check.statistics import BoxTable
from src.model_utils.config import load_config

SIDE = st.floats(0.0, 400.0) | st.sampled_from([0.0, 0.001, 0.5, 400.0])


def advised(sides, *options):
    """The advice for (N, 2) widths and heights of boxes in a picture each."""
    sides = np.array(sides, np.float32).reshape(-1, 2)
    count = len(sides)
    boxes = np.concatenate([np.full((count, 2), 3, np.float32), 3 + sides], axis=1)
    sizes = np.full((count, 2), 500)
    table = BoxTable(boxes, np.ones(count, np.int32), np.arange(count), sizes)
    config = load_config(list(options))
    found = advise(config, table, np.ones(count, int), 1)
    return found, config.replace(**found.keys())


def test_a_box_without_a_shape_decides_nothing():
    rng = np.random.default_rng(0)
    sides = [(s, s * 1.1) for s in rng.uniform(20, 150, 40)]
    found, config = advised([*sides, (0.001, 48.0), (0.0, 0.0), (48.0, 0.0005)])
    assert 0.25 < min(config.anchor_ratios) <= max(config.anchor_ratios) < 4
    assert (found.shapes.sides > 10).all()


@pytest.mark.parametrize("option", [[], ["--anchor_rounding", "False"]])
@pytest.mark.parametrize("sides", [(0.001, 48.0), (48.0, 0.001), (0.0, 0.0), (2.0, 400.0)])
def test_boxes_that_are_all_thin(sides, option):
    _, config = advised([sides] * 3, *option)
    assert all(1 / 16 < ratio < 16 for ratio in config.anchor_ratios)


@pytest.mark.parametrize(
    "given, advice",
    [
        ([], "modern"),
        (["--pre_trained", "a.ckpt"], None),
        (["--box_convention", "legacy"], None),
        (["--box_convention", "modern"], None),
    ],
)
def test_a_training_from_scratch_is_advised_the_modern_convention(given, advice):
    found, _ = advised([(40.0, 50.0)] * 3, *given)
    assert found.keys().get("box_convention") == advice


@pytest.mark.parametrize(
    "given, advice",
    [
        (["--device_target", "CPU"], ("resnet_v1.5_18", "adamw")),
        (["--device_target", "GPU"], (None, "adamw")),
        (["--device_target", "CPU", "--pre_trained", "a.ckpt"], (None, None)),
        (["--device_target", "CPU", "--backbone", "resnet_v1_50"], (None, "adamw")),
        (["--device_target", "CPU", "--base_lr", "0.1"], ("resnet_v1.5_18", None)),
    ],
)
def test_a_small_set_is_advised_a_small_backbone_and_adamw_from_scratch(given, advice):
    keys = advised([(40.0, 50.0)] * 3, *given)[0].keys()
    assert (keys.get("backbone"), keys.get("optimizer")) == advice


@settings(max_examples=4, deadline=None)
@given(st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=6))
def test_what_is_advised_loads(sides):
    found, _ = advised(sides)
    assert np.isfinite(found.shapes.sides).all()
