# SPDX-License-Identifier: Apache-2.0
"""An exported ONNX model is evaluated like the network that it was made of."""

import json
import sys

import numpy as np
import pytest

from src.backends.exported import with_model
from src.base.errors import UserError
from src.commands import eval_onnx
from src.data.mindrecord import ensure_mindrecord
from src.detector import ViewsDetector
from src.evaluation.run import evaluate, read_ground_truth, run_evaluation
from src.export.model_card import description_of
from src.export.model_set import ExportedModel
from src.model_utils.config import load_config
from tests.helpers.data_helpers import edit_json, make_coco_root
from tests.helpers.stand_ins import SmallDetector, export_stand_in, stand_in_config

ONNXRUNTIME = pytest.importorskip("onnxruntime")
BATCH = 2
PORTRAITS = 3  # of 7 pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set, and model.onnx of two canvases: model_64x96.onnx and model_96x64.onnx."""
    folder = tmp_path_factory.mktemp("exported")
    make_coco_root(folder / "data", split="val2017", portraits=PORTRAITS)
    config = stand_in_config(64, 96, canvases=["64x96", "96x64"], pixel_mean=[120.0, 110.0, 100.0])
    export_stand_in(SmallDetector(seed=4), config, folder / "model.onnx", BATCH)
    return folder


def _arguments(folder, output, *more, key="--file_name"):
    given = {
        "--coco_root": folder / "data",
        key: folder / "model.onnx",
        "--output_dir": output,
        "--mindrecord_dir": output / "records",
    }
    return [*(str(part) for pair in given.items() for part in pair), *more]


def _evaluate_checkpoint_path(arguments):
    return run_evaluation(load_config([*arguments, "--device_target", "CPU"]))


@pytest.mark.parametrize(
    ("program", "key"),
    [(eval_onnx.main, "--file_name"), (_evaluate_checkpoint_path, "--checkpoint_path")],
    ids=["eval_onnx.py", "eval.py"],
)
def test_an_exported_model_gives_the_network_s_results(folder, tmp_path, capsys, program, key):
    given = ("--test_batch_size", "8", "--num_classes", "81", "--report")
    arguments = _arguments(folder, tmp_path, *given, key=key)
    assert program(arguments) == 0
    out = capsys.readouterr().out
    assert "of the model, not of the configuration: num_classes, test_batch_size" in out
    assert out.count(" Average ") == 12
    config, path = load_config(arguments), folder / "model.onnx.json"
    config = config.replace(checkpoint_path=str(path), device_target="CPU")
    network_config, _ = with_model(config, ExportedModel(path))
    records = ensure_mindrecord(network_config, "val")
    truth = read_ground_truth(network_config, records)
    network = ViewsDetector(SmallDetector(seed=4), network_config, lambda cell, *x: cell(*x))
    summary, expected = evaluate(network, network_config, records, truth)
    assert "\n".join(summary.lines) in out
    assert not (tmp_path / "results.json").exists()  # that is of the checkpoint's evaluation
    found = json.loads((tmp_path / "onnx" / "results.json").read_text())
    assert len(found) > 7 and f"7 images, {len(found)} detections, " in out
    assert f"(ONNX Runtime {ONNXRUNTIME.__version__})" in out
    where = [(r["image_id"], r["category_id"]) for r in expected.results]
    assert [(r["image_id"], r["category_id"]) for r in found] == where
    assert json.loads((tmp_path / "onnx" / "evaluation_report.json").read_text())["classes"]
    for key in ("bbox", "score"):
        ours, theirs = ([r[key] for r in rows] for rows in (found, expected.results))
        assert np.allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("name", ["model", "model.onnx.json", "model_96x64.onnx", "model.ONNX"])
def test_a_model_is_found_by_any_of_its_names(folder, name):
    assert description_of(folder / name, ".onnx") == folder / "model.onnx.json"


def test_a_model_of_one_canvas_may_be_called_like_one_of_several(tmp_path):
    (tmp_path / "a_1x2.onnx.json").write_text("{}")
    assert description_of(tmp_path / "a_1x2.onnx", ".onnx") == tmp_path / "a_1x2.onnx.json"


def _no_shape(card):
    del card["files"][1]["inputs"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.update(file_format="MINDIR"), "describes no ONNX model"),
        (lambda card: card.update(class_names=["a", "a"]), "class_names has 'a' twice"),
        (_no_shape, "inputs does not say one shape of image for all files"),
        (lambda card: card["files"][0]["inputs"][0].update(shape=["x"]), "one shape of image"),
        (lambda card: card["files"][0]["inputs"][0].update(shape=[3, 3, 64, 96]), "one shape of"),
    ],
)
def test_descriptions_that_do_not_fit(folder, tmp_path, change, message):
    description = tmp_path / "model.onnx.json"
    description.write_bytes((folder / "model.onnx.json").read_bytes())
    edit_json(description, change)
    with pytest.raises(UserError, match=message):
        eval_onnx.main(_arguments(folder, tmp_path, "--file_name", str(description)))


def test_what_is_missing_is_one_line(folder, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="give the model to evaluate with --file_name"):
        eval_onnx.main([])
    with pytest.raises(UserError, match="other.onnx.json: No such file or directory"):
        eval_onnx.main(_arguments(folder, tmp_path, "--file_name", str(tmp_path / "other")))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"needs onnxruntime or openvino, .*\[onnx\].*\[openvino\]"):
        eval_onnx.main(_arguments(folder, tmp_path))
