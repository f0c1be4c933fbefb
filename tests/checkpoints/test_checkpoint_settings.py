# SPDX-License-Identifier: Apache-2.0
"""Checkpoints bring their settings: which ones, and who goes first."""

from pathlib import Path

import numpy as np
import pytest

from src.base.errors import UserError
from src.checkpoints.file import Checkpoint, describe_model
from src.checkpoints.loading import check_model
from src.checkpoints.settings import adopt_settings, stored_settings, with_known_meta
from src.model_utils.config import load_config

CPU = ("--device_target", "CPU")
ZOO_NAMES = (
    "backbone.conv1.weight",
    "fpn_ncek.fpn_convs_list.0.weight",
    "rpn_with_loss.rpn_convs_list.0.rpn_conv.weight",
    "rcnn.shared_fc_0.weight",
)


def _checkpoint(meta=None, names=()):
    arrays = {name: np.zeros(1, np.float32) for name in names}
    return with_known_meta(Checkpoint(Path("a.ckpt"), arrays, meta or {}))


def _zoo(blocks):
    deep = [f"backbone.layer3.{n}.conv1.weight" for n in range(blocks)]
    return _checkpoint(names=(*ZOO_NAMES, *deep, "moments.backbone.conv1.weight", "global_step"))


def test_defaults_give_way_and_a_line_says_so():
    meta = {
        "box_convention": "modern",
        "source": "somebody's",
        "class_names": ["cat", "dog"],
        "settings": {"pixel_std": [1.0, 1.0, 1.0], "test_score_thr": 0.1, "of_the_future": 1},
        "batch_size": 64,
        "seed": 7,
    }
    config, lines = adopt_settings(load_config(CPU), _checkpoint(meta))
    assert config.box_convention == "modern" and config.pixel_std == (1.0, 1.0, 1.0)
    assert config.class_names == ("cat", "dog") and config.test_score_thr == 0.1
    assert (config.batch_size, config.seed) == (2, 1), "settings of the run, not of the model"
    assert len(lines) == 2
    assert lines[1].startswith("note: the checkpoint also sets of_the_future, which does not")
    for part in ("somebody's", "box_convention modern", "pixel_std [1.0, 1.0, 1.0]", "(2 classes)"):
        assert part in lines[0]
    assert "keep_ratio" not in lines[0], "only what is changed"


def test_a_checkpoint_of_the_same_settings_changes_nothing():
    config = load_config(CPU)
    assert adopt_settings(config, _checkpoint(describe_model(config))) == (config, [])
    assert adopt_settings(config, _checkpoint()) == (config, [])


def test_what_the_user_sets_stays_and_the_convention_is_never_mixed(tmp_path):
    (tmp_path / "own.yaml").write_text("channel_order: rgb\n")
    given = load_config(
        (
            *CPU,
            "--config_path",
            str(tmp_path / "own.yaml"),
            "--test_score_thr",
            "0.3",
            "--box_convention",
            "legacy",
        )
    )
    meta = {
        "channel_order": "bgr",
        "stem_pool": "symmetric",
        "box_convention": "modern",
        "settings": {"test_score_thr": 0.1},
    }
    checkpoint = _checkpoint(meta)
    config, _ = adopt_settings(given, checkpoint)
    assert (config.channel_order, config.test_score_thr, config.stem_pool) == (
        "rgb",
        0.3,
        "symmetric",
    )
    with pytest.raises(UserError, match="box_convention modern, but box_convention is legacy"):
        check_model(checkpoint, describe_model(config), same_heads=True)


@pytest.mark.parametrize(
    "blocks, backbone", [(6, "resnet_v1_50"), (23, "resnet_v1_101"), (36, "resnet_v1_152")]
)
def test_bare_model_zoo_files_are_known_by_their_names(blocks, backbone):
    """A ResNet-50 does not say which one it is: the configuration's word counts."""
    given = load_config((*CPU, *(("--backbone", backbone) if blocks == 6 else ())))
    config, lines = adopt_settings(given, _zoo(blocks))
    assert (config.backbone, config.box_convention) == (backbone, "legacy")
    assert config.clip_to_canvas and config.pad_before_normalize
    assert "the model zoo's" in lines[0] and "clip_to_canvas True" in lines[0]


def test_a_bare_model_zoo_file_is_never_run_as_modern():
    checkpoint = _zoo(6)
    config, _ = adopt_settings(load_config((*CPU, "--box_convention", "modern")), checkpoint)
    with pytest.raises(UserError, match="a.ckpt: trained with box_convention legacy"):
        check_model(checkpoint, describe_model(config), same_heads=True)


def test_which_resnet50_is_assumed_is_said_unless_it_was_given():
    lines = adopt_settings(load_config(CPU), _zoo(6))[1]
    assert "assumed: backbone resnet_v1.5_50" in lines[1] and "--backbone resnet_v1_50" in lines[1]
    assert len(adopt_settings(load_config((*CPU, "--backbone", "resnet_v1_50")), _zoo(6))[1]) == 1
    assert len(adopt_settings(load_config(CPU), _zoo(23))[1]) == 1


def test_entries_of_other_programs_do_not_hide_a_model_zoo_file():
    more = _checkpoint(names=(*_zoo(6).arrays, "lr", "ema.decay"))
    assert stored_settings(more)["clip_to_canvas"] is True


def test_a_stored_value_that_cannot_be_names_the_file():
    with pytest.raises(UserError, match="a.ckpt: the settings stored in it: .*test_score_thr: 2"):
        adopt_settings(load_config(CPU), _checkpoint({"settings": {"test_score_thr": 2}}))


def test_other_files_without_settings_say_nothing():
    assert stored_settings(_checkpoint(names=("conv1.weight", "fc.weight"))) == {}
    assert stored_settings(_checkpoint(names=ZOO_NAMES[:3])) == {}
