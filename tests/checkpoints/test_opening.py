# SPDX-License-Identifier: Apache-2.0
"""One checkpoint opened by evaluation, prediction, export and `Detector`: all say the same."""

import json

import cv2
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from src.base.errors import UserError
from src.checkpoints.file import META_KEY, describe_model, save_checkpoint
from src.evaluation.run import run_evaluation
from src.export import run as exporting
from src.export.plan import plan_export
from src.images.listing import Inputs
from src.inference import Detector
from src.predicting.options import Options
from src.predicting.run import run_prediction
from tests.helpers.tiny_detector import tiny_network
from tests.helpers.tiny_run import make_data, tiny_config, use_tiny_detector

CANVAS = {"img_width": 64, "img_height": 64}


def _evaluate(config, root, **given):
    run_evaluation(config.replace(max_val_images=2, **given))


def _predict(config, root, **given):
    cv2.imwrite(str(root / "picture.png"), np.zeros((40, 48, 3), np.uint8))
    run_prediction(config.replace(**given), Inputs([root / "picture.png"]), Options())


def _export(config, root, **given):
    config = config.replace(
        ckpt_file=config.checkpoint_path, file_name=str(root / "model"), test_batch_size=1, **given
    )
    exporting.run_export(config, plan_export(config))


def _detector(config, root, **given):
    Detector(config.checkpoint_path, device_target="CPU", **CANVAS, **given)


WAYS = {"eval": _evaluate, "predict": _predict, "export": _export, "Detector": _detector}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("opening"))


def _like_the_zoo(path, config):
    """A file without a meta, by whose names the model zoo's are known."""
    network = tiny_network(num_classes=config.num_classes)
    entries = [{"name": p.name, "data": p} for p in network.get_parameters()]
    extra = {"name": "rpn_with_loss.rpn_convs_list.0.rpn_conv.weight", "data": Tensor(np.ones(1))}
    ms.save_checkpoint([*entries, extra], str(path))


def _with_meta(path, config, **changes):
    network = tiny_network(num_classes=config.num_classes)
    save_checkpoint(path, network, meta={**describe_model(config), **changes})


# what the file is, what the user sets, what is said of it; None: it is taken.
KINDS = {
    "own": (_with_meta, {}, None),
    "model zoo's": (_like_the_zoo, {}, None),
    "model zoo's, modern": (
        _like_the_zoo,
        {"box_convention": "modern"},
        "trained with box_convention legacy, but box_convention is modern",
    ),
    "own, other norm": (_with_meta, {"norm": "gn"}, "trained with norm frozen_bn, but norm is gn"),
    "wide": (
        lambda path, config: _with_meta(path, config, fpn_out_channels=8000),
        {},
        "make heads of 10.9 GB",
    ),
    "later version": (
        lambda path, config: _with_meta(path, config, format_version=9),
        {},
        "format_version 9",
    ),
    "damaged": (lambda path, _: path.write_bytes(b"\n" * 999), {}, "not a MindSpore checkpoint"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_all_take_and_refuse_the_same(root, tmp_path, monkeypatch, kind):
    use_tiny_detector(monkeypatch.setattr)
    path = tmp_path / "a.ckpt"
    make, given, message = KINDS[kind]
    config = tiny_config(root, tmp_path / "out", checkpoint_path=path)
    make(path, config)
    # Where a file is taken, `Detector` and the others cannot differ in more than the classes.
    given = {**given, "coco_classes": ["cat", "dog", "fox"]}
    said = {}
    for name, way in WAYS.items():
        try:
            way(config, tmp_path, **given)
        except UserError as error:
            said[name] = str(error).replace("ckpt_file", "checkpoint_path")
    if message is None:
        assert said == {} and (tmp_path / "model.mindir").is_file()
    else:
        assert said.keys() == WAYS.keys() and len(set(said.values())) == 1
        assert message in said["eval"]
        assert not (tmp_path / "model.mindir").exists()


def test_settings_that_are_no_ones_business_change_nothing(root, tmp_path, monkeypatch, capsys):
    """A checkpoint that names files of the user's, and a run's folder that does so too."""
    use_tiny_detector(monkeypatch.setattr)
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    (tmp_path / "gift").mkdir()
    path = tmp_path / "gift" / "a.ckpt"
    config = tiny_config(root, tmp_path / "out", checkpoint_path=path, compile_cache="off")
    made = str(tmp_path / "made")
    foreign = {"result_file": str(mine), **dict.fromkeys(("output_dir", "compile_cache"), made)}
    _with_meta(path, config, settings=foreign)
    (tmp_path / "gift" / "config.yaml").write_text(json.dumps(foreign))
    _evaluate(config, tmp_path)
    _predict(config, tmp_path)
    out = capsys.readouterr().out
    assert mine.read_text() == "precious" and not (tmp_path / "made").exists()
    assert "the checkpoint also sets result_file, output_dir, compile_cache, " in out
    assert "config.yaml only" not in out  # nothing of prediction was left out
    assert META_KEY not in out
