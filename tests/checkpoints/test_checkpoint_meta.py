# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint says about itself is somebody else's text: checked before it is used."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.base.errors import DamagedFileError, UserError
from src.checkpoints.file import Checkpoint
from src.checkpoints.meta import FIELDS, META_VERSION, RUN_KEYS, dump_meta, parse_meta, require_run
from src.checkpoints.settings import adopt_settings, stored_settings
from src.model_utils.config import load_config
from src.model_utils.configuration.schema import RULES
from src.model_utils.configuration.weights import MODEL_KEYS, WEIGHT_KEYS
from tests.helpers.tiny_detector import tiny_run_meta

PATH = Path("gift.ckpt")
META = {
    **tiny_run_meta(3),
    "source": "somebody's",
    "settings": {"test_score_thr": 0.1},
    "frozen_stages": 2,
    "num_images": 10,
    "seed": 1,
    "annotations_sha256": "0" * 64,
    "accumulate_steps": 1,
    "train_sampler": "repeat_factor",
    "repeat_threshold": 0.001,
}


def _parse(meta):
    return parse_meta(json.dumps(meta), PATH)


def test_what_is_written_is_read_again():
    meta = parse_meta(dump_meta(META), PATH)
    assert meta == META and meta.keys() == FIELDS.keys()
    require_run(meta, PATH)


def test_the_best_of_earlier_versions_is_their_ap():
    best = _parse({**META, "best": {"ap": 0.25, "epoch": 3}})["best"]
    expected = {"metric": "ap", "value": 0.25, "epoch": 3, "level": 0.25, "waited": 0, "judged": 0}
    assert best == expected
    longest = f"ap/{'x' * 200}"  # of a class
    assert _parse({**META, "best": {**best, "metric": longest}})["best"]["metric"] == longest


def test_parts_of_an_epoch_follow_each_other():
    # 6 images, then 3 steps of 2 (the first three counted as made): the run stands behind them
    require_run(_parse({**META, "epoch_parts": [[3, 2]]}), PATH)
    for parts in ([[3, 3]], [[3, 2], [4, 1]], [[100, 2]]):
        with pytest.raises(DamagedFileError, match="epoch_parts: .* do not follow each other"):
            require_run(_parse({**META, "epoch_parts": parts}), PATH)
    for parts in ([[0, 2]], [[3]], [3], [[3, 0]], "x", [[1, 1]] * 20_000):
        with pytest.raises(DamagedFileError, match="says epoch_parts: "):
            _parse({**META, "epoch_parts": parts})


def test_files_without_a_version_or_without_an_entry_are_read():
    assert _parse({"norm": "bn", "of_another_program": {"deep": [1]}}) == {"norm": "bn"}
    assert parse_meta(None, PATH) == {} == _parse({})


def test_a_later_version_is_told_from_damage():
    message = f"gift.ckpt: format_version {META_VERSION + 1}: a later version of this project"
    with pytest.raises(UserError, match=message) as raised:
        _parse({**META, "format_version": META_VERSION + 1, "norm": {"of": "the future"}})
    assert not isinstance(raised.value, DamagedFileError)


NO_JSON = (
    "",
    "{",
    "[]",
    "3",
    "null",
    "[" * 100_000,
    '{"a":' * 100_000,
    '{"epoch": %s}' % ("9" * 9999),
)


@pytest.mark.parametrize("text", NO_JSON, ids=lambda text: f"{text[:6]}x{len(text)}")
def test_entries_that_cannot_be_read(text):
    with pytest.raises(DamagedFileError, match="gift.ckpt: its entry faster_rcnn_meta cannot be"):
        parse_meta(text, PATH)


JUNK = (
    None,
    True,
    -1,
    1.5,
    float("nan"),
    float("inf"),
    10**400,
    -(10**18),
    "",
    "x\x1b[2J",
    "y" * 9999,
    "\ud800",
    [],
    [None] * 5,
    ["cat", "cat"],
    ["c\n"],
    [[]],
    {},
    {"a": {}},
    list(range(20_000)),
)
# What of it can be, as what.
FINE = {
    "class_names": (),
    "source": ("",),
    "annotations_sha256": ("",),
    "best": ({},),
    "settings": ({}, {"a": {}}),
    "loss_logs": ([],),
    "canvases": ([],),
    "epoch_parts": ([],),
    "roi_layer": ({},),
    "rcnn_head": ({},),
    "rpn_max_num": (),
}


@pytest.mark.parametrize("key", ["format_version", *FIELDS])
def test_no_field_takes_everything(key):
    """Type, range and length of every field: an error, or a value that is a plain one."""
    for value in JUNK:
        text = key in ("source", "annotations_sha256") or (
            key in RULES and RULES[key].kind == "str"
        )
        number = key in RULES and RULES[key].kind in ("int", "float")
        try:
            parsed = _parse({**META, key: value})
        except DamagedFileError as error:
            assert f"says {key}: " in str(error) and str(error).startswith("gift.ckpt: its entry")
            assert str(error).isprintable() and len(str(error)) < 450
            continue
        boolean = isinstance(value, bool) and isinstance(META[key], bool)
        in_range = number and type(value) in (int, float)
        assert (
            boolean or in_range or (text and isinstance(value, str)) or value in FINE.get(key, ())
        )
        assert parsed[key] == value or key in ("rcnn_head", "roi_layer", "settings")


@pytest.mark.parametrize("key", RUN_KEYS)
def test_a_run_goes_on_only_from_all_of_it(key):
    meta = {name: value for name, value in _parse(META).items() if name != key}
    with pytest.raises(DamagedFileError, match=f"lacks {key}; take another checkpoint"):
        require_run(meta, PATH)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"step_in_epoch": 8}, "step_in_epoch: 8 is above steps_per_epoch 7"),
        ({"global_step": 4}, "global_step: 4 is not what epoch 1, step_in_epoch 3"),
        ({"epoch": 2}, "global_step: 3 is not what epoch 2"),
        ({"world_size": 2}, "are 1 of world_size 2"),
    ],
)
def test_a_run_cannot_stand_anywhere(changes, message):
    with pytest.raises(DamagedFileError, match=message):
        require_run(_parse({**META, **changes}), PATH)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(sorted(FIELDS)), inner),
        max_leaves=6,
    ),
    st.sampled_from(sorted(FIELDS)),
)
@settings(max_examples=150, deadline=None)
def test_any_value_is_taken_or_named(value, key):
    try:
        meta = _parse({**META, key: value})
        require_run(meta, PATH)
    except UserError as error:
        assert str(error).startswith("gift.ckpt: ") and len(str(error)) < 500


def test_a_million_classes_are_refused_at_once():
    with pytest.raises(DamagedFileError, match="class_names: .* at most 10000 names"):
        _parse({"class_names": [f"c{i}" for i in range(1_000_000)]})


# ------------------------------------------------------------------ settings in it


def _checkpoint(meta):
    return Checkpoint(PATH, {"a": np.zeros(1, np.float32)}, _parse(meta))


def test_only_keys_that_belong_to_weights_are_adopted():
    plain = load_config(["--device_target", "CPU"])
    text = [key for key in RULES if RULES[key].kind in ("path", "str") and key not in WEIGHT_KEYS]
    foreign = {**dict.fromkeys(text, "/tmp/x"), "batch_size": 64, "check": False, "no key": [1]}
    stored = _checkpoint({"norm": "bn", "settings": {**foreign, "test_score_thr": 0.2}})
    config, lines = adopt_settings(plain, stored)
    assert config == plain.replace(norm="bn", test_score_thr=0.2)
    assert lines[0] == "settings of the checkpoint: norm bn, test_score_thr 0.2"
    assert lines[1].startswith("note: the checkpoint also sets ") and len(lines) == 2
    assert lines[1].endswith(", ..., which does not belong to weights and is ignored")


def test_no_path_device_or_address_belongs_to_weights():
    assert not [key for key in WEIGHT_KEYS if RULES[key].kind == "path"]
    names = {key for key in WEIGHT_KEYS if RULES[key].kind == "str"}
    fixed = {"backbone", "norm", "box_convention", "channel_order", "stem_pool"}
    fixed |= {"resize", "resize_like", "padding", "fpn_norm", "fpn_upsample"}
    assert names == fixed | {"roi_level_formula", "test_nms", "test_nms_kind"}
    assert len(set(WEIGHT_KEYS)) == len(WEIGHT_KEYS) and set(MODEL_KEYS) <= set(WEIGHT_KEYS)


@pytest.mark.parametrize(
    "value", [None, 3, [], "x", {"test_score_thr": "x"}, {"rpn_max_num": 10**9}]
)
def test_odd_settings_are_refused(value):
    with pytest.raises(DamagedFileError, match="settings: "):
        _parse({"norm": "bn", "settings": value})


@pytest.mark.parametrize(
    "settings_, message",
    [
        ({"fpn_out_channels": 8192}, "heads of 11.4 GB, but the file holds 0.0 GB"),
        ({"roi_layer": {"out_size": 64}}, "heads of 4.3 GB"),
        ({"img_width": 8192, "img_height": 8192}, "make 16760832 anchors"),
        ({"norm": "none"}, "gift.ckpt: the settings stored in it: .*norm: 'none' is not one of"),
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_built(settings_, message):
    with pytest.raises(UserError, match=message):
        adopt_settings(
            load_config(["--device_target", "CPU"]), _checkpoint({"settings": settings_})
        )


def test_what_the_converter_stores_comes_through():
    from src.checkpoints.families import FAMILIES, family_settings

    for family in FAMILIES:
        known = family_settings(family, "resnet_v1.5_50")
        assert known.keys() <= set(WEIGHT_KEYS)
        assert stored_settings(_checkpoint({"settings": known})).items() >= known.items()
