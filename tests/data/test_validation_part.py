# SPDX-License-Identifier: Apache-2.0
"""Data without a part to evaluate on is said, with the command that makes one."""

import os

import pytest

from src.base.errors import UserError
from src.data.source import data_source
from src.data.validation_part import is_training_data, no_validation_part, warn_of_training_data
from src.model_utils.config import load_config
from tests.helpers.data_helpers import make_coco_root


def test_the_command_has_the_folder_as_a_shell_takes_it():
    assert "split 'my data'` makes a validation part" in warn_of_training_data("my data")
    assert no_validation_part("x", ["train"]).startswith("there is no validation part (only train)")
    assert "anno_path" in warn_of_training_data("")


def test_one_file_by_two_names_is_one(tmp_path):
    file = tmp_path / "a.json"
    file.touch()
    os.symlink(file, tmp_path / "b.json")
    assert is_training_data(str(file), str(tmp_path / "b.json"))
    assert not is_training_data(str(file), str(tmp_path / "c.json"))


def test_a_name_of_the_users_is_looked_for_as_before(tmp_path):
    root = make_coco_root(tmp_path)
    config = load_config(["--coco_root", str(root), "--val_data_type", "night"])
    with pytest.raises(UserError, match="has no part 'night'.*name one of them"):
        data_source(config, "val")
    with pytest.raises(UserError, match=r"no validation part \(only train2017\)"):
        data_source(config.replace(val_data_type="val"), "val")
