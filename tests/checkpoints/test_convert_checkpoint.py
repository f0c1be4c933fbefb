# SPDX-License-Identifier: Apache-2.0
"""The converter's command line: files in, files out, what it says, and what it refuses."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from safetensors.numpy import load_file, save_file

from src.base.errors import UserError
from src.checkpoints.file import describe_model, read_checkpoint, save_checkpoint, save_parameters
from src.checkpoints.foreign import to_torchvision
from src.checkpoints.foreign.parameters import detector_shapes
from src.checkpoints.loading import check_model
from src.checkpoints.pretrained import load_pretrained
from src.convert_checkpoint import main
from src.FasterRcnn.backbones import build_backbone
from src.model_utils.config import load_config
from tests.helpers import foreign_checkpoints as foreign
from tests.helpers.checkpoint_files import load_detector_file
from tests.helpers.paths import REPO
from tests.helpers.recipe import make_weight
from tests.helpers.tiny_detector import tiny_network

NAMES = ("red", "green", "blue")


def convert(*arguments):
    return main(["--ckpt_file", *map(str, arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def torchvision_file(folder):
    """torchvision's detector with COCO's 91 outputs, weights by recipe."""
    path = folder / "torchvision.safetensors"
    save_file(foreign.fill(foreign.torchvision(), make_weight), path)
    return path


@pytest.fixture(scope="module")
def converted_file(torchvision_file):
    assert convert(torchvision_file) == 0
    return torchvision_file.with_suffix(".ckpt")


def config_of(meta, **changes):
    """The configuration that a converted checkpoint asks for."""
    config = load_config(["--device_target", "CPU"])
    known = {key: value for key, value in meta["settings"].items() if key in config}
    return config.replace(**known, **changes)


def test_a_detector_with_its_settings(converted_file, torchvision_file):
    checkpoint = read_checkpoint(converted_file)
    meta = checkpoint.meta
    assert {n: a.shape for n, a in checkpoint.arrays.items()} == detector_shapes(
        "resnet_v1.5_50", 81, unused_outputs=10
    )
    assert meta["unused_outputs"] == meta["settings"]["unused_outputs"] == 10
    source = load_file(torchvision_file)
    np.testing.assert_array_equal(
        checkpoint.arrays["rcnn.shared_fc_0.weight"], source["roi_heads.box_head.fc6.weight"].T
    )
    assert meta["box_convention"] == "modern" and meta["settings"]["bn_eps"] == 1e-5
    assert meta["settings"]["clip_to_canvas"] is False and len(meta["class_names"]) == 80
    assert meta["source"].startswith("torchvision Faster R-CNN")
    config = config_of(meta)
    assert config.class_names == tuple(meta["class_names"])
    assert check_model(checkpoint, describe_model(config), same_heads=True) == []
    with pytest.raises(UserError, match="trained with box_convention modern"):
        check_model(checkpoint, describe_model(load_config([])), same_heads=True)


@pytest.mark.slow
def test_it_loads_into_the_network(converted_file):
    from src.detector import build_detector

    meta = read_checkpoint(converted_file).meta
    config = config_of(meta, img_width=64, img_height=64)
    network = build_detector(config)
    notes = load_detector_file(network, converted_file, describe_model(config))
    assert notes == []


def test_there_and_back_is_the_same_bit_for_bit(converted_file, torchvision_file, capsys):
    back = converted_file.with_name("back.safetensors")
    assert convert(converted_file, "--to", "torchvision", "--output", back) == 0
    assert "fasterrcnn_resnet50_fpn(num_classes=91)" in capsys.readouterr().out
    written, original = load_file(back), load_file(torchvision_file)
    assert {n: a.shape for n, a in written.items()} == {n: a.shape for n, a in original.items()}
    deltas = {name for name in written if "bbox_pred" in name and "roi_heads" in name}
    assert all(np.array_equal(written[n], original[n]) for n in written.keys() - deltas)
    kept = written["roi_heads.box_predictor.bbox_pred.bias"].reshape(91, 4).any(1)
    assert kept.sum() == 80 and not kept[[0, 12, 26, 83]].any()

    again = converted_file.with_name("again.ckpt")
    assert convert(back, "--output", again) == 0
    first, second = read_checkpoint(converted_file), read_checkpoint(again)
    assert first.meta == second.meta and first.arrays.keys() == second.arrays.keys()
    for name, array in first.arrays.items():
        assert array.tobytes() == second.arrays[name].tobytes(), name


@pytest.fixture(scope="module")
def own_file(folder):
    """A training checkpoint of this project: 101 layers, three classes, optimizer state."""
    path = folder / "own.ckpt"
    config = load_config([]).replace(
        backbone="resnet_v1_101", box_convention="modern", coco_classes=NAMES
    )
    arrays = foreign.fill(detector_shapes("resnet_v1_101", 4))
    arrays |= {"moments.rcnn.cls_scores.bias": np.ones(4, np.float32)}
    save_parameters(path, _parameters(arrays), {**describe_model(config), "global_step": 3})
    return path


def _parameters(arrays):
    return [ms.Parameter(Tensor(np.ascontiguousarray(a)), name=n) for n, a in arrays.items()]


def test_own_classes_for_torchvision(own_file, capsys):
    output = own_file.with_name("own.safetensors")
    assert convert(own_file, "--to", "torchvision", "--output", output) == 0
    said = capsys.readouterr().out
    assert "resnet101" in said and "stem_pool is same here and symmetric in torchvision" in said
    written, own = load_file(output), read_checkpoint(own_file).arrays
    assert {n: a.shape for n, a in written.items()} == foreign.torchvision(101, outputs=4)
    deltas = written["roi_heads.box_predictor.bbox_pred.weight"]
    assert not deltas[:4].any()
    np.testing.assert_array_equal(deltas[4:], own["rcnn.reg_scores.weight"].T)
    np.testing.assert_array_equal(
        written["roi_heads.box_predictor.cls_score.weight"], own["rcnn.cls_scores.weight"].T
    )


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"box_convention": "legacy"}, "has box_convention legacy, but .* has modern"),
        ({"norm": "gn"}, "has norm gn"),
        ({"backbone": "resnet_v1_50"}, "has backbone resnet_v1_50"),
        (None, "does not say its backbone, norm"),
    ],
)
def test_what_torchvision_would_compute_otherwise_is_refused(tmp_path, changes, message):
    path = tmp_path / "a.ckpt"
    config = load_config([]).replace(
        **{"box_convention": "modern", "coco_classes": NAMES, **(changes or {})}
    )
    save_checkpoint(path, tiny_network(), meta=describe_model(config) if changes else {})
    with pytest.raises(UserError, match=message):
        convert(path, "--to", "torchvision", "--output", tmp_path / "b.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]


def test_torch_is_only_needed_for_its_own_format(own_file, tmp_path, monkeypatch):
    monkeypatch.setattr(to_torchvision, "has_torch", lambda: False)
    with pytest.raises(UserError, match="b.pth: needs PyTorch.*safetensors"):
        convert(own_file, "--to", "torchvision", "--output", tmp_path / "b.pth")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_torchvision_loads_it_strictly(converted_file, own_file, tmp_path):
    torch = pytest.importorskip("torch")
    detection = pytest.importorskip("torchvision").models.detection
    for file, builder, outputs in ((converted_file, "resnet50", 91), (own_file, "resnet101", 4)):
        output = tmp_path / f"{builder}.pth"
        assert convert(file, "--to", "torchvision", "--output", output) == 0
        state = torch.load(output, weights_only=True)
        backbone = detection.backbone_utils.resnet_fpn_backbone(backbone_name=builder, weights=None)
        detection.FasterRCNN(backbone, num_classes=outputs).load_state_dict(state, strict=True)


# ------------------------------------------------------------------ other sources


def test_a_backbone_to_start_from(folder, capsys):
    path = folder / "resnet50.safetensors"
    arrays = foreign.fill(foreign.resnet(50)) | {"fc.bias": np.ones(1000, np.float32)}
    save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, path)
    assert convert(path, "--full_table") == 0
    said = capsys.readouterr().out
    assert "left out: fc.bias: the classifier" in said and "layer4.2.bn3.running_var" in said
    checkpoint = read_checkpoint(path.with_suffix(".ckpt"))
    assert checkpoint.meta["settings"]["stem_pool"] == "symmetric"
    assert "box_convention" not in checkpoint.meta  # a backbone serves both
    network = nn.Cell()
    network.backbone = build_backbone(
        "resnet_v1.5_50", norm="bn", eps=1e-5, frozen_stages=2, stem_pool="symmetric"
    )
    expected = describe_model(load_config([]).replace(norm="bn", stem_pool="symmetric"))
    report = load_pretrained(network, path.with_suffix(".ckpt"), expected)
    assert len(report.loaded) == report.total == 265 and not report.unused and not report.notes


def test_a_published_model_zoo_checkpoint_in_half_precision(folder):
    """fp16, the oldest names, optimizer state beside the weights."""
    path = folder / "zoo.ckpt"
    arrays = foreign.fill(detector_shapes("resnet_v1_152", 81))
    arrays = {n.replace("fpn_neck", "fpn_ncek"): a for n, a in arrays.items()}
    state = {f"moments.{n}": a for n, a in arrays.items() if a.ndim == 1}
    half = {n: a.astype(np.float16) for n, a in (arrays | state).items()}
    ms.save_checkpoint([{"name": n, "data": Tensor(a)} for n, a in half.items()], str(path))
    assert convert(path) == 0
    checkpoint = read_checkpoint(folder / "zoo_converted.ckpt")
    for name, array in arrays.items():
        expected = array.astype(np.float16).astype(np.float32)
        found = checkpoint.arrays[name.replace("fpn_ncek", "fpn_neck")]
        assert found.dtype == np.float32 and np.array_equal(found, expected)
    assert checkpoint.meta["backbone"] == "resnet_v1_152"
    assert checkpoint.meta["settings"]["clip_to_canvas"] is True
    assert checkpoint.meta["box_convention"] == "legacy"
    assert checkpoint.meta["pad_before_normalize"] is True


def test_a_detectron2_pickle_with_hints(folder, tmp_path):
    path = folder / "model_final.pkl"
    arrays = foreign.fold_norms(foreign.fill(foreign.detectron2(outputs=4)))
    arrays = {n: np.ascontiguousarray(a) for n, a in arrays.items()}
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "me"}))
    classes = tmp_path / "classes.txt"
    classes.write_text("\n".join(NAMES))
    output = folder / "d2.ckpt"
    hints = [
        "--bn_eps",
        "0",
        "--channel_order",
        "rgb",
        "--pixel_mean",
        "3",
        "2",
        "1",
        "--pixel_std",
        "1",
        "1",
        "2",
        "--coco_classes",
        classes,
    ]
    assert convert(path, "--output", output, *hints) == 0
    meta = read_checkpoint(output).meta
    assert meta["class_names"] == list(NAMES) and meta["backbone"] == "resnet_v1_50"
    assert meta["settings"]["bn_eps"] == 0 and meta["settings"]["channel_order"] == "rgb"
    assert meta["pixel_mean"] == meta["settings"]["pixel_mean"] == [3, 2, 1]


def test_nothing_is_written_when_something_is_left_over(tmp_path):
    path = tmp_path / "a.safetensors"
    arrays = foreign.fill(foreign.resnet(50)) | {"extra.weight": np.ones(2, np.float32)}
    save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, path)
    with pytest.raises(UserError, match="1 parameter has no place .*extra.weight"):
        convert(path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


# ------------------------------------------------------------------ the command line


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "exists already"),
        (["--output", "a.pth"], "must end in .ckpt"),
        (["--output", "."], "must end in .ckpt"),
        (["--output", "folder.ckpt"], "is a folder"),
        (["--to", "torchvision", "--output", "b.ckpt"], "must end in .pth or"),
        (["--to", "torchvision", "--output", "b.pth", "--bn_eps", "0"], "no effect with --to"),
        (["--to", "caffe"], "invalid choice"),
        (["--bn_eps", "-1"], "bn_eps: -1 is too small"),
        (
            ["--channel_order", "grb", "--pixel_mean", "1", "1", "1", "--pixel_std", "1", "1", "1"],
            "is not one of rgb, bgr",
        ),
        (["--channel_order", "bgr"], "give --pixel_mean and --pixel_std"),
        (["--backbone", "resnet_v2"], "is not one of"),
        (["--coco_classes", "a", "a"], "twice"),
        (["--config_path", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_wrong_arguments(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("folder.ckpt").mkdir()
    save_file({"a": np.ones(2, np.float32)}, "a.safetensors")
    Path("a.ckpt").write_text("keep me")
    with pytest.raises(UserError, match=message):
        convert("a.safetensors", *arguments)
    assert Path("a.ckpt").read_text() == "keep me"


def test_an_output_that_cannot_be_written(own_file, tmp_path):
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "b.safetensors"
    with pytest.raises(UserError, match="cannot be written"):
        convert(own_file, "--to", "torchvision", "--output", below)
    path = tmp_path / "r.safetensors"
    arrays = foreign.fill(foreign.resnet(50))
    save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, path)
    with pytest.raises(UserError, match="its folder cannot be made"):
        convert(path, "--output", below.with_suffix(".ckpt"))


def test_the_input_is_never_written_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_checkpoint("a.ckpt", tiny_network())
    with pytest.raises(UserError, match="is the checkpoint itself"):
        convert("a.ckpt", "--output", "./a.ckpt", "--overwrite")


def test_one_line_and_exit_code_2(tmp_path):
    script = [sys.executable, str(REPO / "convert_checkpoint.py")]
    path = tmp_path / "no such.pth"
    done = subprocess.run([*script, "--ckpt_file", path], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == f"error: {path}: no such file; set --ckpt_file to a checkpoint\n"


def test_help_does_not_wait_for_mindspore():
    code = (
        "import sys, json\n"
        "from src.convert_checkpoint import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(json.dumps([m for m in sys.modules if m == 'mindspore']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO)
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert "--to {torchvision}" in done.stdout
