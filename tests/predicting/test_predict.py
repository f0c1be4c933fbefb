# SPDX-License-Identifier: Apache-2.0
"""predict.py around the network: its arguments, its inputs, what it writes."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.base.errors import UserError
from src.checkpoints.file import describe_model, save_checkpoint
from src.commands import predict
from src.commands.predict import parse_arguments
from src.images.listing import Inputs
from src.images.views import View
from src.inference import Found
from src.model_utils.config import load_config
from src.predicting.entries import draw_entry, entry_of
from src.predicting.finding import Tiling
from src.predicting.names import CLASSES, COCO, CROPS, CSV, LABELS, PREDICTIONS, unique_stems
from src.predicting.options import Options
from src.predicting.result_files import FORMATS, result_writers
from src.predicting.run import check_names, run_prediction, write_predictions
from tests.helpers.data_helpers import canvas_format
from tests.helpers.tiny_detector import TinyDetector
from tests.helpers.tiny_run import use_tiny_detector

TOO_LONG = "x" * 5000


def test_arguments_are_split():
    argv = [
        "--checkpoint_path",
        "c.ckpt",
        "--input",
        "a.jpg",
        "b",
        "--min_score=0.3",
        "--seed",
        "2",
    ]
    rest = ["--checkpoint_path", "c.ckpt", "--seed", "2"]
    own, others = parse_arguments(argv)
    assert (own.input, own.min_score, own.recursive, others) == (["a.jpg", "b"], 0.3, False, rest)
    own, others = parse_arguments(["--help", "--recursive"])
    assert (own.input, own.min_score, own.recursive, others) == ([], 0.5, True, ["--help"])


@pytest.mark.parametrize(
    "argv, complaint",
    [
        ([], "nothing to look at"),
        (["--input"], "--input"),
        (["--input", "a", "--min_score", "high"], "not a number"),
        (["--input", "a", "--min_score", "1.5"], "is not 0 to 1"),
        (["--input", "a", "--min_score", "nan"], "is not 0 to 1"),
        (["--input", "a", "--tile_overlap", "0.95"], "--tile_overlap: 0.95 is not 0 to 0.9"),
        (["--input", "a", "--tile_threshold", "x"], "--tile_threshold: 'x' is not a number"),
        (["--input", "a", "--tile_match", "area"], "invalid choice: 'area'"),
        (["--input", "a", "--formats", "xml"], "invalid choice: 'xml'"),
        (["--input", "a", "--frame_step", "0"], "--frame_step: 0 is not 1 or more"),
        (["--input", "a", "--max_frames", "-1"], "--max_frames: -1 is not 0 or more"),
    ],
)
def test_wrong_arguments(argv, complaint):
    with pytest.raises(UserError, match=complaint):
        parse_arguments(argv)


def test_pictures_of_equal_names_do_not_overwrite_each_other():
    names = unique_stems(["a", "a", "a_1", "a"])
    assert names[0] == "a" and len(set(names)) == 4


def test_large_pictures_are_drawn_smaller(tmp_path, monkeypatch):
    monkeypatch.setattr("src.predicting.entries._LARGEST_PICTURE", 640 * 320)
    entry = {"detections": [{"class": "cat", "score": 0.9, "box": [0.0, 0.0, 900.0, 300.0]}]}
    draw_entry(entry, np.zeros((640, 1280, 3), np.uint8), ("cat",), tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size == (640, 320)


@pytest.mark.parametrize("letter", ["ü", "猫", "🐈"])
def test_names_as_long_as_the_file_system_takes(tmp_path, letter):
    names = unique_stems([letter * (250 // len(letter.encode()))] * 2)
    assert len(set(names)) == 2
    for name in names:
        assert name.strip("_2").strip(letter) == ""  # cut between characters
        (tmp_path / f"{name}.jsonl").write_text("")


def test_an_entry_keeps_sure_detections_that_are_numbers(tmp_path):
    found = Found(
        np.array([[1.0, 2.0, 30.0, 40.0], [5.0, 5.0, 20.0, 20.0], [0, 0, 9, 9], [0, 0, np.nan, 8]]),
        np.array([0.9, 0.6, 0.3, 0.95]),
        np.array([2, 1, 1, 1]),
    )
    rgb = np.zeros((50, 60, 3), np.uint8)
    entry = entry_of("i.jpg", rgb, found, ("cat", "dog"), 0.5)
    assert (entry["file"], entry["width"], entry["height"]) == ("i.jpg", 60, 50)
    assert entry["detections"] == [
        {"class": "dog", "score": 0.9, "box": [1.0, 2.0, 30.0, 40.0]},
        {"class": "cat", "score": 0.6, "box": [5.0, 5.0, 20.0, 20.0]},
    ]
    json.dumps(entry)
    draw_entry(entry, rgb, ("cat", "dog"), tmp_path / "i.png")
    assert Image.open(tmp_path / "i.png").size == (640, round(50 * 640 / 60))
    draw_entry({**entry, "detections": []}, rgb, ("cat", "dog"), tmp_path / "none.png")


@pytest.mark.parametrize("image, output", [("a.png", "."), ("out/a.png", "link")])
def test_no_result_goes_where_an_image_is(tmp_path, monkeypatch, image, output):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out")
    Path(image).write_text("precious")
    with pytest.raises(UserError, match=f"would overwrite the image {image}"):
        check_names(Inputs([Path(image)]), Path(output))
    check_names(Inputs([Path(image)]), Path("elsewhere"))


VIEWS = (View(canvas_format(32, 64)),)


@dataclass(frozen=True)
class Settings:
    """The keys that writing predictions asks for."""

    output_dir: str = "out"
    test_batch_size: int = 2
    class_names: tuple[str, ...] = ("cat", "dog")
    max_image_pixels: int = 1_000_000


class OneBoxEach:
    """Stands for the network: the same detection in every image."""

    views = VIEWS

    def detect_inputs(self, inputs):
        ((image, _),) = inputs
        found = Found(np.float32([[1, 2, 9, 8]]), np.float32([0.9]), np.int32([2]))
        return [found] * len(image)


def look_at(*names, **options):
    """Predict by the stand-in; return the exit code."""
    inputs = Inputs([Path(name) for name in names])
    return write_predictions(OneBoxEach(), Settings(), inputs, Options(**options))


def test_an_unreadable_image_does_not_cost_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = ["a.png", "bad.png", "b.png", "gone.png", "c.png"]
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (20, 10)).save(name)
    Path("bad.png").write_text("no picture")
    assert look_at(*names) == 2
    entries = json.loads(Path("out", PREDICTIONS).read_text())
    assert [e["file"] for e in entries] == ["a.png", "b.png", "c.png"]
    assert all(e["detections"][0]["class"] == "dog" for e in entries)
    written = {p.name for p in Path("out").iterdir()}
    assert written == {"a.png", "b.png", "c.png", PREDICTIONS}
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: image bad.png") and second.startswith("error: image gone.png")
    assert "skip_bad_images" not in first + second
    assert look_at("a.png") == 0


def test_pictures_of_both_orientations(tmp_path, monkeypatch, capsys):
    """Each canvas is announced once; the results are in the order of the files."""
    monkeypatch.chdir(tmp_path)
    use_tiny_detector(monkeypatch.setattr)
    canvases = ["64x96", "96x64"]
    settings = {"device_target": "CPU", "coco_classes": ["cat", "dog"], "canvases": canvases}
    config = load_config([]).replace(**settings, output_dir="out", checkpoint_path="tiny.ckpt")
    save_checkpoint("tiny.ckpt", TinyDetector(3), meta=describe_model(config))
    names = ["a.png", "b.png", "c.png", "d.png", "e.png"]
    for name, size in zip(names, [(60, 40), (40, 60), (66, 40), (40, 62), (60, 40)], strict=True):
        Image.new("RGB", size, "red").save(name)
    assert run_prediction(config, Inputs([Path(name) for name in names]), Options(0.0)) == 0
    entries = json.loads(Path("out", PREDICTIONS).read_text())
    assert [(e["file"], e["width"]) for e in entries] == [
        *zip(names, [60, 40, 66, 40, 60], strict=True)
    ]
    assert all(e["detections"] for e in entries)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("canvas ")]
    assert [line.split(":")[0] for line in said] == ["canvas 64x96", "canvas 96x64"]


def test_pictures_that_come_out_black_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((20, 30), 3000, np.uint16)).save("dark.tif")
    assert look_at("dark.tif") == 0
    out = capsys.readouterr().out
    assert "note: dark.tif has values up to 3000 of 65535, like 12 bits: 11 of 255" in out


def test_pictures_beyond_the_limit_do_not_cost_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, size in (("small.png", (20, 10)), ("large.png", (2000, 1000))):
        Image.new("RGB", size).save(name)
    assert look_at("large.png", "small.png") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "large.png is a PNG of 2000x1000 pixels, more than max_image_pixels 1000000" in line


@pytest.mark.parametrize("size", ["31", "640x", "tiny"])
def test_tiles_of_no_size(tmp_path, monkeypatch, size):
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_text("")
    with pytest.raises(UserError, match=f"--tile '{size}' is "):
        predict.main(["--input", "a.png", "--tile", size, "--checkpoint_path", "c.ckpt"])


def test_what_is_asked_for_arrives(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_text("")
    seen = []
    monkeypatch.setattr("src.commands.predict.choose_runtime", lambda config: config)
    monkeypatch.setattr(
        "src.predicting.run.run_prediction", lambda config, inputs, options: seen.append(options)
    )
    argv = ["--input", "a.png", "--formats", "csv", "coco", "--crops", "--no_drawing"]
    argv += ["--tile", "64x96", "--tiles_only", "--tile_match", "iou", "--tile_overlap", "0.3"]
    argv += ["--frame_step", "3", "--max_frames", "7", "--min_score", "0.2"]
    predict.main([*argv, "--test_nms", "agnostic"])
    tiling = Tiling((64, 96), 0.3, "iou", 0.5, per_class=False, whole=False)
    expected = Options(0.2, ("csv", "coco"), False, True, tiling, 3, 7)
    assert seen == [expected]
    predict.main(["--input", "a.png", "--tile", "auto"])
    assert seen[1].tiling == Tiling()
    predict.main(["--input", "a.png"])
    assert seen[2] == Options()


@pytest.mark.parametrize(
    "options, folder",
    [([], "predictions"), (["--output_dir", "."], "."), (["--output_dir=x"], "x")],
)
def test_results_go_to_a_folder_of_their_own(tmp_path, monkeypatch, options, folder):
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_text("")
    Path("config.yaml").write_text("output_dir: train")
    seen = []
    monkeypatch.setattr("src.commands.predict.choose_runtime", lambda config: config)
    name = "src.predicting.run.run_prediction"
    monkeypatch.setattr(name, lambda config, *rest: seen.append(config))
    predict.main(["--input", "a.png", "--checkpoint_path", "ckpt_0/c.ckpt", *options])
    assert [config.output_dir for config in seen] == [folder]


@pytest.mark.parametrize(
    "arguments, code, text",
    [
        (["--help"], 0, "--min_score"),
        ([], 2, "error: command line: nothing to look at"),
        (["--input", "gone.jpg"], 2, "error: --input gone.jpg"),
        (["--input", TOO_LONG], 2, "error: --input xxx"),
    ],
)
def test_the_program_answers_without_the_network(tmp_path, repo_root, arguments, code, text):
    done = subprocess.run(
        [sys.executable, str(repo_root / "predict.py"), *arguments],
        cwd=tmp_path,
        env=dict(os.environ),
        capture_output=True,
        text=True,
    )
    assert done.returncode == code
    assert text in (done.stdout if code == 0 else done.stderr)
    assert "Traceback" not in done.stderr


def test_file_names_that_are_not_utf8_are_in_every_format(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"caf\xe9.png")
    try:
        Path(name).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    Image.new("RGB", (20, 10)).save(name, format="PNG")
    assert look_at(name, formats=FORMATS, crops=True) == 0
    written = "caf\\udce9.png"
    assert json.loads(Path("out", PREDICTIONS).read_text())[0]["file"] == written
    assert json.loads(Path("out", COCO).read_text())["images"][0]["file_name"] == written
    assert Path("out", CSV).read_text().count(f"{written},") == 1
    assert [len(list(Path("out").glob(f"{f}/**/*.*"))) for f in (LABELS, CROPS)] == [1, 1]


def test_class_names_that_are_not_utf8_are_written(tmp_path):
    with result_writers(FORMATS, tmp_path, ("caf\udce9",)):
        pass
    assert (tmp_path / CLASSES).read_text() == "caf\\udce9\n"
