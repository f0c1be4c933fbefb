# SPDX-License-Identifier: Apache-2.0
"""The C++ application's threads and batches: the same results, whatever runs at once."""

import json
import os
import pty
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from src.evaluation.result_files import ResultFolder
from tests.helpers.data_helpers import edit_json
from tests.helpers.infer_helpers import require_main, run_main
from tests.helpers.odd_images import picture
from tests.helpers.stand_ins import CLASS_NAMES, SmallDetector, export_stand_in, stand_in_config

pytestmark = pytest.mark.slow

HEIGHT, WIDTH, BATCH, IMAGES = 64, 96, 2, 23
ENDINGS = ("_0.bin", "_1.bin", "_2.bin", "_detections.json", "_outputs.json")


@pytest.fixture(scope="module")
def main():
    return require_main("onnxruntime")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """detector.onnx, which takes two pictures, and a folder of 23, some of them broken."""
    folder = tmp_path_factory.mktemp("pipeline")
    config = stand_in_config(HEIGHT, WIDTH)
    export_stand_in(SmallDetector(), config, folder / "detector.onnx", BATCH)
    (folder / "images").mkdir()
    for number in range(IMAGES):
        path = folder / f"images/{number:02}.png"
        if number % 5 == 4:
            path.write_bytes(b"\x89PNG broken")
        else:
            Image.fromarray(picture(50 + number, 90 - number, number)).save(path)
    return folder


@pytest.fixture
def copied(folder, tmp_path):
    for name in ("detector.onnx", "detector.onnx.json"):
        shutil.copy(folder / name, tmp_path / name)
    return tmp_path / "detector.onnx"


def _results(output):
    return {path.name: path.read_bytes() for path in (output / "result_Files").iterdir()}


def test_results_do_not_depend_on_what_runs_at_once(main, folder, tmp_path):
    found = {}
    for streams in (1, 2, 5):
        output = tmp_path / str(streams)
        options = (f"--streams={streams}", "--threads=1")
        done = run_main(main, folder / "detector.onnx", folder / "images", output, *options)
        assert done.returncode == 3, done.stderr
        found[streams] = _results(output), done.stderr
        timing = (output / "time_Result/test_perform_static.txt").read_text()
        assert f"infer_count 10 (batch 2, {streams} at once," in timing
        assert "\n19 images in " in timing
    assert found[1] == found[2] == found[5]
    names = [f"{number:02}" for number in range(IMAGES)]
    good = [name for number, name in enumerate(names) if number % 5 != 4]
    assert set(found[1][0]) == {"model.json", *(n + end for n in good for end in ENDINGS)}
    said = [line for line in found[1][1].splitlines() if "images could not" not in line]
    assert [line.partition(".png")[0][-2:] for line in said] == names[4::5]  # in their order


def test_detections_for_people(main, folder, tmp_path):
    assert run_main(main, folder / "detector.onnx", folder / "images", tmp_path).returncode == 3
    results = ResultFolder(tmp_path / "result_Files")
    count = 0
    for path in (tmp_path / "result_Files").glob("*_detections.json"):
        found, name = json.loads(path.read_text()), f"{path.name[:2]}.png"
        expected = results.read(name)
        rows = np.flatnonzero(expected.valid)
        assert found["image"] == name
        assert (found["width"], found["height"]) == Image.open(folder / "images" / name).size
        assert [row["label"] for row in found["detections"]] == expected.labels[rows].tolist()
        for row, number in zip(found["detections"], rows, strict=True):
            assert row["class"] == CLASS_NAMES[row["label"] - 1]
            assert np.float32(row["score"]) == expected.scores[number]
            assert np.array_equal(np.float32(row["box"]), expected.boxes[number])
            count += 1
    assert count > IMAGES


def _any_batch_by_name(card):
    card["form"] = {"dynamic_batch": True}


def _any_batch(card):
    for tensor in (*card["inputs"], *card["outputs"]):
        tensor["shape"][0] = None


@pytest.mark.parametrize(
    ("change", "size", "message"),
    [
        (None, BATCH, ""),
        (None, 3, "--batch_size=3: the model takes 2 images at once"),
        (_any_batch, BATCH, ""),
        (_any_batch_by_name, BATCH, ""),
        (_any_batch, 0, "inputs are not those of its .json file"),  # 1 where any number goes
        (_any_batch, 2000, "not a number from 0 to 1024"),
    ],
)
def test_the_size_of_a_batch(main, folder, copied, tmp_path, change, size, message):
    if change:
        edit_json(copied.with_name("detector.onnx.json"), change)
    done = run_main(main, copied, folder / "images", tmp_path, f"--batch_size={size}")
    assert message in done.stderr and (done.returncode == 3) == (not message)


def test_streams_are_for_onnxruntime(main, folder, tmp_path):
    options = ("--streams=2", "--backend=mindspore_lite")
    done = run_main(main, folder / "detector.onnx", folder / "images", tmp_path, *options)
    assert done.returncode == 2 and "takes one batch after the other" in done.stderr


@pytest.mark.parametrize("streams", [1, 3])
def test_what_fails_in_a_thread_ends_the_program(main, folder, copied, tmp_path, streams):
    """The writer's complaint about a label that has no name; all others stop and nothing waits."""
    edit_json(copied.with_name("detector.onnx.json"), lambda c: c.update(class_names=["only"]))
    done = run_main(main, copied, folder / "images", tmp_path, f"--streams={streams}")
    assert done.returncode == 1 and "of 1 classes; export it again" in done.stderr


def test_progress_on_a_terminal(main, folder, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(400):
        os.symlink(folder / "images/00.png", images / f"{number}.png")
    ours, theirs = pty.openpty()
    arguments = [f"--mindir_path={folder / 'detector.onnx'}", f"--dataset_path={images}"]
    with subprocess.Popen(
        [main, *arguments, f"--output_path={tmp_path}"], stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                said += os.read(ours, 65536)
            except OSError:  # its end
                break
        assert process.wait(timeout=300) == 0
    os.close(ours)
    assert b"400 images in " in said
    if b" images/s, " in said:  # a fast machine needs no look
        assert b"\r\x1b[K" in said and b" of 400 images, " in said
