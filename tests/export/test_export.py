# SPDX-License-Identifier: Apache-2.0
"""Exporting: the real network in every format, and what happens when a step fails."""

import dataclasses
import json
import os
import re

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

import src.export.run as exporting
from src.base.errors import UserError
from src.checkpoints.file import describe_model, save_checkpoint
from src.detector import build_detector
from src.export.exported_model import Comparison, compare, open_mindir, open_onnx
from src.export.formats import FORMATS
from src.export.model_card import read_card
from src.export.model_set import ExportedModel
from src.export.plan import plan_export
from src.FasterRcnn.norms import norm_layer
from src.FasterRcnn.soft_nms import SoftNms
from src.images.ops import InputFormat, preprocess_image
from tests.helpers.network_helpers import fill_by_recipe, small_batch, small_config, tiny_backbone
from tests.helpers.odd_images import picture
from tests.helpers.stand_ins import CLASS_NAMES, SmallDetector, stand_in_config


def _export(config):
    return exporting.run_export(config, plan_export(config))


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A configuration that exports the small detector from a checkpoint."""
    monkeypatch.setattr("src.detector.build_detector", lambda config: SmallDetector())
    config = stand_in_config(
        64,
        96,
        file_format="MINDIR",
        test_batch_size=1,
        ckpt_file=str(tmp_path / "small.ckpt"),
        file_name=str(tmp_path / "model"),
    )
    save_checkpoint(tmp_path / "small.ckpt", SmallDetector(seed=4), meta=describe_model(config))
    return config


def _files(tmp_path):
    return sorted(path.name for path in tmp_path.iterdir() if not path.name.endswith(".ckpt"))


def test_file_and_description(small, tmp_path, capsys):
    assert _export(small) == 0
    assert _files(tmp_path) == ["model.mindir", "model.mindir.json"]
    assert "checked: equal to the network bit for bit" in capsys.readouterr().out
    card = read_card(tmp_path / "model.mindir.json").content
    assert card["version"] == 1 and "files" not in card  # as older readers know it
    assert card["class_names"] == list(CLASS_NAMES)
    assert card["preprocessing"] == {
        "height": small.img_height,
        "width": small.img_width,
        "keep_ratio": small.keep_ratio,
        "channel_order": small.channel_order,
        "pixel_mean": list(small.pixel_mean),
        "pixel_std": list(small.pixel_std),
        "pad_before_normalize": small.pad_before_normalize,
    }
    assert card["max_image_pixels"] == small.max_image_pixels
    assert card["checked"] == {"runtime": f"mindspore {ms.__version__}", "precision": "float32"}
    assert card["model_bytes"] == (tmp_path / "model.mindir").stat().st_size
    described = [(t["name"], t["dtype"], t["shape"]) for t in card["inputs"] + card["outputs"]]
    assert described == [
        ("image", "float32", [1, 3, 64, 96]),
        ("image_meta", "float32", [1, 4]),
        ("boxes", "float32", [1, 6, 4]),
        ("scores", "float32", [1, 6]),
        ("labels", "int32", [1, 6]),
        ("valid", "bool", [1, 6]),
    ]
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.glob("model*")}
    assert modes == {0o644}  # MindSpore itself makes files that only their owner may read


@pytest.mark.parametrize("file_format, name", [("MINDIR", "ü b'c\"%.MindIR"), ("ONNX", "d e.ONNX")])
def test_any_name_that_a_file_can_have(small, tmp_path, monkeypatch, file_format, name):
    if file_format == "ONNX":
        pytest.importorskip("onnx")
    folder, ending = tmp_path / "a folder", f".{file_format.lower()}"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for file_name in (name, str(folder / f"-{name}")):
        assert _export(small.replace(file_format=file_format, file_name=file_name)) == 0
    assert _files(folder) == sorted(
        written
        for base in (name[: -len(ending)] + ending, f"-{name[: -len(ending)]}{ending}")
        for written in (base, f"{base}.json")
    )


def test_onnx_with_the_weights_of_the_checkpoint(small, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    _export(small.replace(file_format="ONNX", test_batch_size=2))
    run, inputs, outputs = open_onnx(tmp_path / "model.onnx")
    card = read_card(tmp_path / "model.onnx.json").content
    assert [t["model_name"] for t in card["inputs"] + card["outputs"]] == inputs + outputs
    assert card["operators"]["Conv"] == 1 and card["opset"] >= 11
    assert set(card["form"].values()) == {False} and len(card["form"]) == 5
    image, image_meta = small_batch(64, 96, 3)[:2]
    network = SmallDetector(seed=4)
    expected = [o.asnumpy() for o in network(Tensor(image), Tensor(image_meta))]
    result = compare(expected, run(image, image_meta))
    assert result.same and result.count > 0


@pytest.mark.parametrize("file_format", ["MINDIR", "ONNX"])
def test_a_file_for_each_canvas(small, tmp_path, capsys, file_format):
    if file_format == "ONNX":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    changes = {"resize": "short_edge", "min_size": (64,), "max_size": 96, "resize_like": "opencv"}
    config = small.replace(file_format=file_format, **changes)
    assert _export(config) == 0
    ending = f".{file_format.lower()}"
    names = [f"model_{canvas}{ending}" for canvas in ("64x96", "96x64")]
    assert _files(tmp_path) == [f"model{ending}.json", *names]
    assert capsys.readouterr().out.count("checked: ") == 2
    model, network = ExportedModel(tmp_path / f"model{ending}.json"), SmallDetector(seed=4)
    assert model.card.input == InputFormat.from_config(config)
    assert [file.name for file in model.card.files] == names
    for height, width, canvas in ((70, 90, (64, 96)), (200, 100, (96, 64)), (50, 50, (64, 96))):
        image, meta = preprocess_image(picture(height, width), model.card.input)
        assert image.shape[1:] == canvas
        expected = [o.asnumpy() for o in network(Tensor(image[None]), Tensor(meta[None]))]
        result = compare(expected, model(image[None], meta[None]))
        assert result.same and result.count > 0


def test_fewer_canvases_take_the_earlier_files_away(small, tmp_path, capsys):
    several = small.replace(canvases=("64x96", "96x64", "96x96"))
    _export(several)
    (tmp_path / "model_32x32.mindir").write_bytes(b"of nobody")
    _export(small)
    kept = ["model.mindir", "model.mindir.json", "model_32x32.mindir"]
    assert _files(tmp_path) == kept
    removed = "model_64x96.mindir, model_96x64.mindir, model_96x96.mindir"
    assert f"removed, of an earlier export: {removed}" in capsys.readouterr().out
    _export(several.replace(canvases=("64x96", "96x64")))
    assert _files(tmp_path) == [
        "model.mindir.json",
        "model_32x32.mindir",
        "model_64x96.mindir",
        "model_96x64.mindir",
    ]


def test_an_error_at_the_second_canvas_leaves_the_earlier_export(small, tmp_path, monkeypatch):
    several = small.replace(canvases=("64x96", "96x64"))
    _export(several)
    before = {name: (tmp_path / name).read_bytes() for name in _files(tmp_path)}
    worse = Comparison(count=3, unmatched=2, box=9.0, score=0.5, equal=False)
    outcomes = [Comparison(3, 0, 0.0, 0.0, True), worse]
    monkeypatch.setattr("src.export.checking.compare", lambda *outputs: outcomes.pop(0))
    with pytest.raises(UserError, match="model_96x64.mindir: the written model finds"):
        _export(several)
    assert {name: (tmp_path / name).read_bytes() for name in _files(tmp_path)} == before


def test_a_folder_in_the_place_of_a_canvas(small, tmp_path):
    (tmp_path / "model_96x64.mindir").mkdir()
    with pytest.raises(UserError, match="model_96x64.mindir is a folder"):
        _export(small.replace(canvases=("64x96", "96x64")))


def test_a_model_that_differs_is_not_kept(small, tmp_path, monkeypatch):
    _export(small)
    before = {name: (tmp_path / name).read_bytes() for name in _files(tmp_path)}
    worse = Comparison(count=3, unmatched=2, box=9.0, score=0.5, equal=False)
    monkeypatch.setattr("src.export.checking.compare", lambda *outputs: worse)
    with pytest.raises(UserError, match="finds something else than the network") as raised:
        _export(small)
    assert "2 of 3" in str(raised.value)
    assert {name: (tmp_path / name).read_bytes() for name in _files(tmp_path)} == before


def _failing(*arguments, **options):
    raise RuntimeError("Can not find key CumSum in convert map.\n--- much more ---")


def test_what_the_exporter_cannot_do_is_one_line(small, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting.ms, "export", _failing)
    with pytest.raises(UserError, match="cannot export this network .*CumSum") as raised:
        _export(small)
    assert "much more" not in str(raised.value) and _files(tmp_path) == []


def test_an_interrupted_export_leaves_nothing(small, tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    replaced = dataclasses.replace(FORMATS["MINDIR"], open=interrupt)
    monkeypatch.setitem(FORMATS, "MINDIR", replaced)
    with pytest.raises(KeyboardInterrupt):
        _export(small)
    assert _files(tmp_path) == []


def test_a_full_disk_is_one_line(small, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("src.export.publishing.os.replace", full)
    with pytest.raises(UserError, match="No space left on device"):
        _export(small)
    assert _files(tmp_path) == []


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"ckpt_file": "/nowhere.ckpt"}, "no such file; set ckpt_file"),
        ({"coco_classes": ("dog", "cat", "fox")}, "in its order"),
        ({"box_convention": "modern"}, "trained with box_convention"),
    ],
)
def test_checkpoints_that_do_not_fit(small, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        _export(small.replace(**changes))
    assert _files(tmp_path) == []


def test_group_norm_is_mindspores_and_can_be_exported(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, (2, 64, 6, 5)).astype(np.float32)
    layer, mindspores = norm_layer("gn", 64, 1e-5), nn.GroupNorm(32, 64, eps=1e-5)
    for name in ("gamma", "beta"):
        value = Tensor(rng.random(64).astype(np.float32))
        getattr(layer, name).set_data(value)
        getattr(mindspores, name).set_data(value)
    expected = mindspores(Tensor(x)).asnumpy()
    for training in (True, False):
        layer.set_train(training)
        np.testing.assert_allclose(layer(Tensor(x)).asnumpy(), expected, atol=1e-5)
    exporting.ms.export(layer, Tensor(x), file_name=str(tmp_path / "gn"), file_format="ONNX")
    session = onnxruntime.InferenceSession(tmp_path / "gn.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_onnx_has_no_loops_for_very_many_detections(small, tmp_path, monkeypatch):
    """Soft-NMS then makes a graph of thirty operators a detection."""
    pytest.importorskip("onnx")
    monkeypatch.setattr("src.detector.build_detector", lambda config: _SmallWithSoftNms())
    changes = {"test_nms_kind": "soft_linear", "test_max_per_img": 301}
    with pytest.raises(UserError, match="test_max_per_img: 301 .* give at most 300, ") as caught:
        _export(small.replace(file_format="ONNX", **changes))
    assert "\n" not in str(caught.value) and _files(tmp_path) == []


class _SmallWithSoftNms(SmallDetector):
    def __init__(self):
        super().__init__()
        self.suppression = SoftNms(
            "soft_linear", per_class=True, iou_threshold=0.5, sigma=0.5, min_score=0.1, most=301
        )


@pytest.fixture
def real(tmp_path, monkeypatch):
    """The real network's configuration, on a small canvas, with each kind of block once."""
    monkeypatch.setattr("src.detector.build_backbone", tiny_backbone)
    path = str(tmp_path / "real.ckpt")
    return small_config(
        ckpt_file=path, file_name=str(tmp_path / "real"), rpn_nms_post=40, test_batch_size=2
    )


def _export_real(config):
    """Export the network of a configuration, with weights of the recipe."""
    network = build_detector(config)
    fill_by_recipe(network)
    save_checkpoint(config.ckpt_file, network, meta=describe_model(config))
    _export(config)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {
            "box_convention": "modern",
            "roi_align_aligned": True,
            "stem_pool": "symmetric",
            "canvases": ("64x96", "96x64"),
        },
        {
            "box_convention": "modern",
            "roi_align_aligned": True,
            "roi_layer": {"type": "RoIAlign", "out_size": 7, "sample_num": 0},
            "fpn_norm": "bn",
            "rpn_conv_depth": 2,
            "rcnn_head": {"convs": 4, "dense": 1, "norm": "bn"},
            "test_nms_kind": "soft_gaussian",
        },
    ],
    ids=["torch", "adaptive_v2"],
)
def test_the_real_network_in_onnx(real, capsys, changes):
    """Its other forms, with few channels, are in test_onnx_graph.py."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    config = real.replace(file_format="ONNX", **changes)
    _export_real(config)
    printed = capsys.readouterr().out
    found = [int(count) for count in re.findall(r"checked: (\d+) detections", printed)]
    assert len(found) == printed.count(", 0 without a partner") == len(config.canvas_sizes)
    assert min(found) > 30


@pytest.mark.slow
def test_the_real_network_for_ascend_on_a_machine_without_one(real, tmp_path, capsys):
    _export_real(real.replace(export_target="Ascend"))
    assert "equal to the network bit for bit (40 detections)" in capsys.readouterr().out
    card = json.loads((tmp_path / "real.mindir.json").read_text())
    assert card["target"] == "Ascend"
    graph = (tmp_path / "real.mindir").read_bytes()
    assert b"ROIAlign" in graph and b"NMSWithMask" not in graph
    # Convolutions in half precision, boxes within their rounding of what float32 gives.
    image, image_meta = small_batch(64, 96, 2)[:2]
    outputs = open_mindir(tmp_path / "real.mindir")(image, image_meta)
    assert [str(o.dtype) for o in outputs] == ["float32", "float32", "int32", "bool"]
    assert np.isfinite(outputs[0]).all() and os.listdir(tmp_path).count("real.mindir") == 1
