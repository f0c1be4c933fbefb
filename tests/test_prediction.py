# SPDX-License-Identifier: Apache-2.0
"""predict.py around the network: its arguments, its inputs, what it writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from predict import parse_arguments
from src.errors import UserError
from src.image_ops import InputFormat
from src.prediction import (
    batches_of,
    draw_entry,
    entry_of,
    find_images,
    picture_names,
    with_saved_config,
)


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
    assert parse_arguments(argv) == (["a.jpg", "b"], 0.3, rest)
    assert parse_arguments(["--help"]) == ([], 0.5, ["--help"])


@pytest.mark.parametrize(
    "argv, complaint",
    [
        ([], "nothing to look at"),
        (["--input"], "--input"),
        (["--input", "a", "--min_score", "high"], "not a number"),
        (["--input", "a", "--min_score", "1.5"], "not between 0 and 1"),
        (["--input", "a", "--min_score", "nan"], "not between 0 and 1"),
    ],
)
def test_wrong_arguments(argv, complaint):
    with pytest.raises(UserError, match=complaint):
        parse_arguments(argv)


def test_folders_stand_for_their_images(tmp_path):
    for name in ("b.PNG", "a.jpg", "notes.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "empty").mkdir()
    single = tmp_path / "notes.txt"
    found = find_images([str(single), str(tmp_path)])
    assert [p.name for p in found] == ["notes.txt", "a.jpg", "b.PNG"]
    with pytest.raises(UserError, match="no images in it"):
        find_images([str(tmp_path / "empty")])
    with pytest.raises(UserError, match="no such file"):
        find_images([str(tmp_path / "gone.jpg")])


@pytest.mark.parametrize("spelling", [["--checkpoint_path", "{}"], ["--checkpoint_path={}"]])
def test_the_runs_own_config_is_found(tmp_path, spelling):
    checkpoint = tmp_path / "train/ckpt_0/faster_rcnn-1_2.ckpt"
    checkpoint.parent.mkdir(parents=True)
    argv = [part.format(checkpoint) for part in spelling]
    assert with_saved_config(argv) == argv
    config = tmp_path / "train/config.yaml"
    config.write_text("")
    assert with_saved_config(argv)[:2] == ["--config_path", str(config)]
    assert with_saved_config(argv)[-len(argv) :] == argv
    chosen = [*argv, "--config_path", "x.yaml"]
    assert with_saved_config(chosen) == chosen
    assert with_saved_config([]) == []


def test_pictures_of_equal_names_do_not_overwrite_each_other():
    paths = [Path("x/a.jpg"), Path("y/a.png"), Path("a_1.jpg"), Path("z/a.bmp")]
    names = picture_names(paths)
    assert names[0] == "a.png" and len(set(names)) == 4


def test_batches_have_one_shape_and_keep_every_image(tmp_path):
    sizes = [(40, 30), (20, 50), (64, 32)]
    for i, size in enumerate(sizes):
        Image.new("RGB", size, (i, 0, 0)).save(tmp_path / f"{i}.png")
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    batches = list(batches_of(paths, InputFormat(height=32, width=64), 2))
    assert [len(pictures) for pictures, _, _ in batches] == [2, 1]
    shapes = [p.shape[:2] for pictures, _, _ in batches for p in pictures]
    assert shapes == [(h, w) for w, h in sizes]
    for _, image, meta in batches:
        assert image.shape == (2, 3, 32, 64) and image.dtype == np.float32
        assert meta.shape == (2, 4)
    np.testing.assert_array_equal(batches[1][1][0], batches[1][1][1])


def test_an_entry_keeps_valid_and_sure_detections(tmp_path):
    found = (
        np.array([[1.0, 2.0, 30.0, 40.0], [5.0, 5.0, 20.0, 20.0], [0, 0, 9, 9], [0, 0, 8, 8]]),
        np.array([0.9, 0.6, 0.3, 0.95]),
        np.array([2, 1, 1, 1]),
        np.array([True, True, True, False]),
    )
    rgb = np.zeros((50, 60, 3), np.uint8)
    entry = entry_of(Path("i.jpg"), rgb, found, ("cat", "dog"), 0.5)
    assert (entry["file"], entry["width"], entry["height"]) == ("i.jpg", 60, 50)
    assert entry["detections"] == [
        {"class": "dog", "score": 0.9, "box": [1.0, 2.0, 30.0, 40.0]},
        {"class": "cat", "score": 0.6, "box": [5.0, 5.0, 20.0, 20.0]},
    ]
    json.dumps(entry)
    draw_entry(entry, rgb, ("cat", "dog"), tmp_path / "i.png")
    assert Image.open(tmp_path / "i.png").size == (640, round(50 * 640 / 60))
    draw_entry({**entry, "detections": []}, rgb, ("cat", "dog"), tmp_path / "none.png")


@pytest.mark.parametrize(
    "arguments, code, text",
    [
        (["--help"], 0, "--min_score"),
        ([], 2, "error: command line: nothing to look at"),
        (["--input", "gone.jpg"], 2, "error: --input gone.jpg"),
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
