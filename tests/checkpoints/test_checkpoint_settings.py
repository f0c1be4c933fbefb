# SPDX-License-Identifier: Apache-2.0
"""Checkpoints bring their settings: which ones, and who goes first."""

from pathlib import Path

import numpy as np
import pytest

from src.base.errors import UserError
from src.checkpoints.families import family_settings
from src.checkpoints.file import Checkpoint, describe_model
from src.checkpoints.loading import check_model
from src.checkpoints.settings import adopt_settings, stored_settings, with_known_meta
from src.images.geometry import ResizeRule
from src.model_utils.config import load_config

CPU = ("--device_target", "CPU")
ZOO_NAMES = (
    "backbone.conv1.weight",
    "fpn_ncek.fpn_convs_list.0.weight",
    "rpn_with_loss.rpn_convs_list.0.rpn_conv.weight",
    "rcnn.shared_fc_0.weight",
)


def _checkpoint(meta=None, names=()):
    shapes = {name: (64, 64, 3, 3) if "conv2" in name else (1,) for name in names}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    return with_known_meta(Checkpoint(Path("a.ckpt"), arrays, meta or {}))


def _zoo(blocks):
    deep = [f"backbone.layer3.{n}.conv1.weight" for n in range(blocks)]
    block = ("backbone.layer1.0.conv2.weight", "backbone.layer3.0.conv3.weight")
    state = ("moments.backbone.conv1.weight", "global_step")
    return _checkpoint(names=(*ZOO_NAMES, *deep, *block, *state))


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


def _converted(family="torchvision"):
    return _checkpoint({"source": family, "settings": family_settings(family, "resnet_v1_50")})


@pytest.mark.parametrize(
    "family, like",
    [
        ("torchvision", "torchvision"),
        ("detectron2", "detectron2"),
        ("mmdetection", "opencv"),
        ("mmdetection_1", "opencv"),
    ],
)
def test_converted_checkpoints_bring_their_resize_rule(family, like):
    config, _ = adopt_settings(load_config(CPU), _converted(family))
    rule = ResizeRule.from_config(config)
    assert (rule.kind, rule.min_sizes, rule.max_size, rule.like) == (
        "short_edge",
        (800,),
        1333,
        like,
    )
    assert rule.canvases == ((800, 1344), (1344, 800))


def test_the_model_zoos_keep_their_canvas():
    config, _ = adopt_settings(load_config(CPU), _zoo(6))
    rule = ResizeRule.from_config(config)
    assert (rule.kind, rule.canvases, rule.like) == ("canvas", ((768, 1280),), "opencv")


def test_a_canvas_of_the_user_replaces_the_rule():
    """And a rule of the user's goes beside the checkpoint's other keys."""
    config, lines = adopt_settings(load_config((*CPU, "--img_width", "320")), _converted())
    assert ResizeRule.from_config(config) == ResizeRule("canvas", ((768, 320),))
    assert "320 x img_height 768, not by the checkpoint's resize, min_size" in lines[-1]
    given = load_config((*CPU, "--img_width", "320", "--resize", "short_edge"))
    config, lines = adopt_settings(given, _converted())
    assert ResizeRule.from_config(config).like == "torchvision" and len(lines) == 1
    given = load_config((*CPU, "--img_width", "320", "--canvases", "[96x64]"))
    rule = ResizeRule.from_config(adopt_settings(given, _converted())[0])
    assert (rule.kind, rule.canvases) == ("short_edge", ((96, 64),))
    config, _ = adopt_settings(load_config((*CPU, "--min_size", "[400]")), _converted())
    assert ResizeRule.from_config(config).min_sizes == (400,)


def test_a_canvas_of_the_user_goes_before_stored_canvases_only():
    meta = {"settings": {"resize": "stretch", "canvases": ["64x96", "96x64"]}}
    given = load_config((*CPU, "--img_width", "320", "--img_height", "64"))
    config, _ = adopt_settings(given, _checkpoint(meta))
    assert ResizeRule.from_config(config) == ResizeRule("stretch", ((64, 320),))
    assert len(adopt_settings(load_config(CPU), _checkpoint(meta))[0].canvas_sizes) == 2


@pytest.mark.parametrize(
    "settings, complaint",
    [
        ({"canvases": ["32x32", "32768x16384"]}, "a canvas 16384 wide and 32768 high .* anchors"),
        ({"resize": "short_edge", "min_size": [32767], "max_size": 32767}, "GB of memory"),
        ({"canvases": ["64x64"] * 17}, "canvases"),
        ({"canvases": ["64x-64"]}, "canvases"),
        ({"canvases": ["63x64"]}, "multiple of 32"),
        ({"min_size": [0]}, "min_size"),
        ({"min_size": list(range(1, 99))}, "min_size"),
        ({"resize_like": "my own"}, "resize_like"),
    ],
)
def test_stored_rules_are_bounded(settings, complaint):
    with pytest.raises(UserError, match=complaint):
        adopt_settings(load_config(CPU), _checkpoint({"settings": settings}))
