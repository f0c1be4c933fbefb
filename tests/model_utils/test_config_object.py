# SPDX-License-Identifier: Apache-2.0
"""The configuration: the model zoo's files, derived values, the object, saving."""

import copy
import os
import pickle

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from src.base.errors import UserError
from src.model_utils.config import DEFAULT_ORIGIN, load_config
from src.model_utils.configuration import yaml_files as config_yaml
from src.model_utils.configuration.zoo import ACCEPTED, ZOO_KEYS
from tests.helpers.config_helpers import ROOT, ZOO_FILE, message, write

BASE = load_config([])


# --- the model zoo's files -----------------------------------------------------------------------


def test_a_users_model_zoo_file_loads_and_means_the_same():
    config = load_config(["--config_path", ZOO_FILE])
    with open(ZOO_FILE) as stream:
        given = next(yaml.safe_load_all(stream))
    for key in given.keys() & set(config):
        want = given[key]
        assert getattr(config, key) == (tuple(want) if isinstance(want, list) else want), key
    assert config.class_names == ("scratch", "dent", "traffic light")
    assert (config.num_classes, config.momentum, config.eval_interval) == (4, 0.91, 0)


def test_the_model_zoo_file_has_every_key_that_is_accepted():
    with open(ZOO_FILE) as stream:
        given = next(yaml.safe_load_all(stream))
    # Names that only the instructions for ModelArts use.
    assert given.keys() >= ZOO_KEYS - {"dataset_path", "distribute", "checkpoint"}


def test_model_zoo_values_follow_other_settings():
    argv = "--config_path x --img_width 320 --img_height 256 --anchor_scales 4 8 --num_anchors 6"
    argv = argv.split()[2:]
    shapes = "[[64, 80], [32, 40], [16, 20], [8, 10], [4, 5]]"
    config = load_config([*argv, "--feature_shapes", shapes, "--num_bboxes", str(6 * 6820)])
    assert config.num_bboxes == 6 * 6820
    assert "contradicts" in message(["--config_path", ZOO_FILE, "--img_width", "320"])


@pytest.mark.parametrize("key", sorted(ACCEPTED))
def test_accepted_keys_take_their_neutral_values_and_nothing_else(key):
    accepted = ACCEPTED[key]
    for value in accepted.values or (3,):
        load_config([f"--{key}", str(value)])
    if accepted.values is not None:
        assert "has no effect here" in message([f"--{key}", "something else"])


def test_launcher_values_are_accepted(monkeypatch):
    monkeypatch.setenv("RANK_SIZE", "8")
    monkeypatch.setenv("RANK_ID", "3")
    load_config(["--device_num", "8", "--rank_id", "3"])
    assert "has no effect" in message(["--device_num", "4"])


@pytest.mark.parametrize(
    ("file", "argv", "interval"),
    [
        ("run_eval: True", [], 1),
        ("run_eval: True\ninterval: 3", [], 3),
        ("run_eval: False\ninterval: 3", [], 0),
        ("interval: 3", [], 0),
        ("interval: 3", ["--run_eval", "True"], 3),
        ("run_eval: True", ["--interval", "4"], 4),
        ("run_eval: True", ["--eval_interval", "2"], 2),
        ("run_eval: False", ["--eval_interval", "2"], 2),
        ("eval_interval: 5", ["--run_eval", "False"], 0),
        ("run_eval: True\ninterval: 2\neval_interval: 2", [], 2),
    ],
)
def test_run_eval_and_interval_are_eval_interval(file, argv, interval, tmp_path):
    path = write(tmp_path / "a.yaml", file)
    assert load_config(["--config_path", path, *argv]).eval_interval == interval


# --- derived values ------------------------------------------------------------------------------


def test_derived_values():
    config = load_config(["--img_width", "320", "--img_height", "224", "--coco_classes", "a", "b"])
    assert config.feature_shapes == ((56, 80), (28, 40), (14, 20), (7, 10), (4, 5))
    assert config.num_anchors == 3
    assert config.num_bboxes == 3 * (56 * 80 + 28 * 40 + 14 * 20 + 70 + 20)
    assert config.num_classes == 3
    assert config.class_names == ("a", "b")
    assert config.coco_classes == ("background", "a", "b")
    assert config.rpn_in_channels == config.fpn_out_channels == 256


@pytest.mark.parametrize("count", [1, 2, 200, 1000])
def test_any_number_of_classes(count):
    config = load_config(["--coco_classes", str([f"c{i}" for i in range(count)])])
    assert config.num_classes == count + 1


@given(st.integers(1, 60), st.integers(1, 60))
@settings(max_examples=30)
def test_feature_shapes_cover_any_canvas(rows, columns):
    config = BASE.replace(img_height=32 * rows, img_width=32 * columns)
    for stride, (height, width) in zip((4, 8, 16, 32, 64), config.feature_shapes, strict=True):
        assert height == -(-32 * rows // stride) and width == -(-32 * columns // stride)


# --- the object ----------------------------------------------------------------------------------


def test_it_is_read_only():
    with pytest.raises(AttributeError, match="read-only; use config.replace"):
        BASE.seed = 3
    with pytest.raises(AttributeError, match="read-only"):
        del BASE.seed
    assert BASE.seed == 1


def test_an_unknown_attribute_suggests_the_nearest():
    with pytest.raises(AttributeError, match="no key 'img_widht'; did you mean img_width?"):
        _ = BASE.img_widht
    assert not hasattr(BASE, "__no_such_thing__")


def test_replace_checks_and_leaves_the_original():
    changed = BASE.replace(seed=3, anchor_scales=[4, 8])
    assert (changed.seed, changed.num_anchors, BASE.seed, BASE.num_anchors) == (3, 6, 1, 3)
    assert changed.origin("seed") == "program"
    with pytest.raises(UserError, match="program: num_gts: 0 is too small"):
        BASE.replace(num_gts=0)
    with pytest.raises(UserError, match="program: 'num_gt' is not a key; did you mean num_gts?"):
        BASE.replace(num_gt=3)
    with pytest.raises(UserError, match="contradicts coco_classes"):
        BASE.replace(num_classes=5)


def test_copies_and_pickles_are_equal():
    for copied in (copy.copy(BASE), copy.deepcopy(BASE), pickle.loads(pickle.dumps(BASE))):
        assert copied == BASE and copied.origin("seed") == DEFAULT_ORIGIN
    assert BASE != 3


# --- saving --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--config_path", ZOO_FILE],
        ["--config_path", os.path.join(ROOT, "default_config_101.yaml"), "--weight_decay", "1e-5"],
        ["--coco_classes", "Ä ö", "yes", "1e3", "null", "a: b", "#c", "d, e"],
        ["--output_dir", "a 'b' \"c\"", "--sgd_step", "[]", "--bn_eps", "1e-12"],
    ],
)
def test_a_saved_configuration_loads_to_an_equal_one(argv, tmp_path):
    config = load_config(argv)
    path = str(tmp_path / "new" / "config.yaml")
    config.save(path)
    again = load_config(["--config_path", path])
    assert again == config
    assert again.origin("seed") == path
    assert os.listdir(tmp_path / "new") == ["config.yaml"]
    with open(path) as stream:
        saved = yaml.safe_load(stream)
    assert {**saved, "callbacks": []} == config.to_dict() and "callbacks" not in saved


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), min_size=1)
        .filter(str.strip)
        .filter(lambda name: name != "background"),
        min_size=1,
        max_size=5,
        unique=True,
    ),
    st.floats(1e-12, 1e3),
)
@settings(max_examples=40)
def test_any_class_names_and_numbers_survive_saving(tmp_path_factory, names, number):
    config = BASE.replace(coco_classes=names, base_lr=number)
    path = str(tmp_path_factory.mktemp("save") / "config.yaml")
    config.save(path)
    assert load_config(["--config_path", path]) == config


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    BASE.save(str(path))
    before = path.read_text()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(config_yaml.os, "replace", full)
    with pytest.raises(UserError, match="cannot be written .No space left on device.; choose"):
        BASE.replace(seed=3).save(str(path))
    assert path.read_text() == before
    assert os.listdir(tmp_path) == ["config.yaml"]


def test_saving_below_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="config.yaml: the configuration cannot be written"):
        BASE.save(str(tmp_path / "file" / "config.yaml"))


def test_the_file_that_was_read_is_never_replaced(tmp_path):
    (tmp_path / "config.yaml").write_text("extends: base/config.yaml\nseed: 3  # mine\n")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.yaml").write_text("batch_size: 4\n")
    config = load_config(["--config_path", str(tmp_path / "config.yaml")]).replace(num_gts=9)
    before = {path: path.read_text() for path in tmp_path.rglob("config.yaml")}
    for folder in (tmp_path, tmp_path / "base"):
        assert config.save_in(folder) == folder / "effective_config.yaml"
        assert load_config(["--config_path", str(folder / "effective_config.yaml")]) == config
    assert {path: path.read_text() for path in tmp_path.rglob("config.yaml")} == before
    assert config.save_in(tmp_path / "new") == tmp_path / "new" / "config.yaml"
    assert config.save_in(tmp_path / "new") == tmp_path / "new" / "config.yaml"
    again = load_config(["--config_path", str(tmp_path / "effective_config.yaml")])
    assert again.save_in(tmp_path, "config.yaml") == tmp_path / "config.yaml"
