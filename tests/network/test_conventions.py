# SPDX-License-Identifier: Apache-2.0
"""`box_convention` and the five keys whose `auto` follows from it: each means one thing."""

import pytest

from src.checkpoints.file import Checkpoint, describe_model
from src.checkpoints.loading import check_model
from src.checkpoints.settings import adopt_settings, with_known_meta
from src.detector import build_detector, build_loss
from src.FasterRcnn.names import BOX_CONVENTIONS
from src.FasterRcnn.roi_align import LEVEL_FORMULAS
from src.model_utils.config import DEFAULT_CONFIG, load_config
from src.model_utils.configuration.derived import BY_CONVENTION, as_auto, resolved
from src.model_utils.configuration.yaml_files import read_documents
from tests.helpers.network_helpers import small_config

RPN_TARGET = "RPN: low-quality matches go to the box they are the best of"
RCNN_TARGET = "RCNN: the same"
RCNN_MATCHES = "RCNN: least overlap of low-quality matches"
DIVISOR = "RPN: divide by"
TIGHT = "a canvas of its own for every picture"
LEVELS = "levels by mmdetection's formula"
OFFSET = "pixels added to a width"
# Of the backbone and of widths nothing here depends: the smallest.
SMALL = {
    "backbone": "resnet_v1.5_18",
    "fpn_out_channels": 32,
    "rpn_feat_channels": 32,
    "rcnn_fc_out_channels": 32,
}
RULES = {
    "legacy": {
        RPN_TARGET: True,
        RCNN_TARGET: True,
        RCNN_MATCHES: 0.5,
        DIVISOR: 16,
        LEVELS: True,
        TIGHT: False,
        OFFSET: {1.0},
    },
    "modern": {
        RPN_TARGET: False,
        RCNN_TARGET: False,
        RCNN_MATCHES: None,
        DIVISOR: None,
        LEVELS: False,
        TIGHT: True,
        OFFSET: {0.0},
    },
}


def _rules(**changes):
    """What the built network and its loss do."""
    config = small_config(**SMALL, **changes)
    network = build_detector(config)
    loss = build_loss(network, config)
    offsets = {cell.offset for _, cell in loss.cells_and_names() if hasattr(cell, "offset")}
    return {
        RPN_TARGET: loss.rpn_targets.matcher.steal,
        RCNN_TARGET: loss.rcnn_targets.matcher.steal,
        RCNN_MATCHES: loss.rcnn_targets.matcher.min_pos_iou,
        DIVISOR: loss.rpn_loss.expected,
        TIGHT: network.tight,
        LEVELS: network.roi_align.choose_level.added_inside,
        OFFSET: offsets,
    }


@pytest.mark.parametrize("convention", BOX_CONVENTIONS)
def test_auto_follows_the_convention(convention):
    assert _rules(box_convention=convention) == RULES[convention]


@pytest.mark.parametrize("convention, other", [BOX_CONVENTIONS, BOX_CONVENTIONS[::-1]])
@pytest.mark.parametrize(
    "key, changed",
    [
        ("low_quality_target", (RPN_TARGET, RCNN_TARGET)),
        ("low_quality_stage2", (RCNN_MATCHES,)),
        ("rpn_loss_divisor", (DIVISOR,)),
        ("roi_level_formula", (LEVELS,)),
        ("padding", (TIGHT,)),
    ],
)
def test_each_key_alone_changes_what_it_says(convention, other, key, changed):
    found = _rules(box_convention=convention, **{key: BY_CONVENTION[key][other]})
    expected = {name: RULES[other][name] for name in changed}
    assert found == {**RULES[convention], **expected}


def test_the_choices_are_auto_and_what_it_can_mean():
    values, _, choices = read_documents(DEFAULT_CONFIG)
    for key, meanings in BY_CONVENTION.items():
        assert values[key] == "auto" and meanings.keys() == set(BOX_CONVENTIONS)
        assert set(choices[key]) == {"auto", *meanings.values()}
    assert set(LEVEL_FORMULAS) == set(BY_CONVENTION["roi_level_formula"].values())


@pytest.mark.parametrize("convention", BOX_CONVENTIONS)
def test_resolving_and_back(convention):
    config = load_config([]).replace(box_convention=convention)
    values = {key: resolved(config, key) for key in (*BY_CONVENTION, "box_convention", "norm")}
    assert "auto" not in values.values()
    assert as_auto(values) == {
        **dict.fromkeys(BY_CONVENTION, "auto"),
        "box_convention": convention,
        "norm": "frozen_bn",
    }
    odd = {"box_convention": convention, "rpn_loss_divisor": "mean", "roi_level_formula": None}
    assert as_auto(odd) == odd and as_auto({"roi_level_formula": "torchvision"})


# ------------------------------------------------------------------ with checkpoints


def _described(tmp_path, **changes):
    return Checkpoint(tmp_path / "a.ckpt", {}, describe_model(load_config([]).replace(**changes)))


@pytest.mark.parametrize("convention", BOX_CONVENTIONS)
def test_checkpoints_say_the_formula_and_adopting_it_is_silent(convention, tmp_path):
    checkpoint = _described(tmp_path, box_convention=convention)
    assert checkpoint.meta["roi_level_formula"] == BY_CONVENTION["roi_level_formula"][convention]
    config, lines = adopt_settings(load_config([]), checkpoint)
    assert (config.box_convention, config.roi_level_formula) == (convention, "auto")
    assert not [line for line in lines if "roi_level_formula" in line]
    assert check_model(checkpoint, describe_model(config), same_heads=True) == []
    del checkpoint.meta["roi_level_formula"]  # as in a file from before there was the key
    assert adopt_settings(load_config([]), checkpoint) == (config, lines)
    assert check_model(checkpoint, describe_model(config), same_heads=True) == []


@pytest.mark.parametrize("convention", BOX_CONVENTIONS)
def test_files_from_before_the_key_keep_their_padding(convention, tmp_path):
    checkpoint = _described(tmp_path, box_convention=convention)
    assert checkpoint.meta["padding"] == BY_CONVENTION["padding"][convention]
    assert with_known_meta(checkpoint) is checkpoint
    del checkpoint.meta["padding"]
    config, _ = adopt_settings(load_config([]), with_known_meta(checkpoint))
    assert resolved(config, "padding") == "canvas"


def test_another_formula_comes_with_the_checkpoint(tmp_path):
    checkpoint = _described(tmp_path, roi_level_formula="torchvision")
    config, lines = adopt_settings(load_config([]), checkpoint)
    assert config.roi_level_formula == "torchvision"
    assert lines == ["settings of the checkpoint: roi_level_formula torchvision"]
    own = load_config(["--roi_level_formula", "mmdetection"])
    config, lines = adopt_settings(own, checkpoint)
    assert (config.roi_level_formula, lines) == ("mmdetection", [])
    assert check_model(checkpoint, describe_model(config), same_heads=True) == [
        "trained with roi_level_formula torchvision, used here with mmdetection"
    ]
