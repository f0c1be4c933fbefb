# SPDX-License-Identifier: Apache-2.0
"""The synthetic set: repeatable, whole, and with boxes that fit what is drawn."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.base.errors import UserError
from src.data import synthetic
from src.data.synthetic import CLASS_NAMES, MARKER, SyntheticParameters, generate, make_image

SMALL = SyntheticParameters(train=3, val=2, width=96, height=64, min_size=14, max_size=40)


def read_files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_layout_and_annotations_are_coco(tmp_path):
    assert generate(tmp_path / "set", SMALL)
    for split, count in (("train2017", 3), ("val2017", 2)):
        content = json.loads((tmp_path / "set/annotations" / f"instances_{split}.json").read_text())
        assert [c["name"] for c in content["categories"]] == list(CLASS_NAMES)
        assert len(content["images"]) == count
        ids = [a["id"] for a in content["annotations"]]
        assert ids == list(range(1, len(ids) + 1))
        for image in content["images"]:
            pixels = cv2.imread(str(tmp_path / "set" / split / image["file_name"]))
            assert pixels.shape == (image["height"], image["width"], 3)
            assert any(a["image_id"] == image["id"] for a in content["annotations"])


def test_same_seed_same_bytes_other_seed_other_images(tmp_path):
    generate(tmp_path / "a", SMALL)
    generate(tmp_path / "b", SMALL)
    generate(tmp_path / "c", SyntheticParameters(**{**SMALL.__dict__, "seed": 2}))
    assert read_files(tmp_path / "a") == read_files(tmp_path / "b")
    first = next(p for p in read_files(tmp_path / "a") if p.suffix == ".jpg")
    assert read_files(tmp_path / "a")[first] != read_files(tmp_path / "c")[first]


def test_train_and_val_show_different_images(tmp_path):
    generate(tmp_path, SMALL)
    train = (tmp_path / "train2017/000000.jpg").read_bytes()
    assert train != (tmp_path / "val2017/000000.jpg").read_bytes()


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25)
def test_boxes_lie_inside_and_hold_their_visible_area(seed):
    parameters = SyntheticParameters(width=96, height=64, min_size=14, max_size=40)
    image, shapes = make_image(np.random.default_rng(seed), parameters)
    assert image.shape == (64, 96, 3) and image.dtype == np.uint8
    assert 1 <= len(shapes) <= parameters.max_shapes
    for label, (x, y, w, h), area in shapes:
        assert 0 <= label < len(CLASS_NAMES)
        assert x >= 0 and y >= 0 and w >= 1 and h >= 1 and x + w <= 96 and y + h <= 64
        assert max(w, h) <= parameters.max_size + 2
        assert 0 < area <= w * h


def test_a_box_is_the_extent_of_what_is_visible(monkeypatch):
    """Two squares drawn by hand: the second hides the right part of the first."""
    masks = iter([(slice(10, 50), slice(10, 50)), (slice(10, 50), slice(40, 80))])

    def next_mask(rng, name, parameters):
        mask = np.zeros((64, 96), np.uint8)
        mask[next(masks)] = 255
        return mask

    monkeypatch.setattr(synthetic, "_random_mask", next_mask)
    parameters = SyntheticParameters(width=96, height=64, max_size=60, min_shapes=2, max_shapes=2)
    _, shapes = make_image(np.random.default_rng(0), parameters)
    assert [(box, area) for _, box, area in shapes] == [
        ([10.0, 10.0, 30.0, 40.0], 1200.0),
        ([40.0, 10.0, 40.0, 40.0], 1600.0),
    ]


def test_a_shape_that_would_hide_another_is_not_drawn(monkeypatch):
    full = np.zeros((64, 96), np.uint8)
    full[10:50, 10:50] = 255
    monkeypatch.setattr(synthetic, "_random_mask", lambda rng, name, parameters: full)
    parameters = SyntheticParameters(width=96, height=64, max_size=60, min_shapes=2, max_shapes=2)
    _, shapes = make_image(np.random.default_rng(0), parameters)
    assert len(shapes) == 1


def test_shapes_differ_from_their_surroundings(monkeypatch):
    mask = np.zeros((64, 96), np.uint8)
    mask[20:40, 30:60] = 255
    monkeypatch.setattr(synthetic, "_random_mask", lambda rng, name, parameters: mask)
    parameters = SyntheticParameters(width=96, height=64, max_size=60, min_shapes=1, max_shapes=1)
    for seed in range(20):
        image, _ = make_image(np.random.default_rng(seed), parameters)
        inside = image[24:36, 34:56].reshape(-1, 3).mean(axis=0)
        around = np.concatenate([image[8:16, 30:60], image[44:52, 30:60]]).reshape(-1, 3)
        assert np.abs(inside - around.mean(axis=0)).mean() > 20


def test_a_complete_set_is_reused(tmp_path):
    assert generate(tmp_path, SMALL)
    before = (tmp_path / "train2017/000000.jpg").stat().st_mtime_ns
    assert not generate(tmp_path, SMALL)
    assert (tmp_path / "train2017/000000.jpg").stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", ["image", "annotations", "marker", "parameters", "version"])
def test_anything_else_is_made_anew(tmp_path, monkeypatch, damage):
    parameters = SMALL
    generate(tmp_path / "set", SMALL)
    if damage == "image":
        (tmp_path / "set/val2017/000001.jpg").unlink()
    elif damage == "annotations":
        (tmp_path / "set/annotations/instances_val2017.json").unlink()
    elif damage == "marker":
        (tmp_path / "set" / MARKER).write_text("{")
    elif damage == "parameters":
        parameters = SyntheticParameters(**{**SMALL.__dict__, "val": 1})
    else:
        monkeypatch.setattr(synthetic, "GENERATOR_VERSION", 99)
    assert generate(tmp_path / "set", parameters)
    assert len(list((tmp_path / "set/val2017").iterdir())) == parameters.val
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something other"):
        generate(tmp_path, SMALL)
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(synthetic, "_write_split", fail)
    with pytest.raises(UserError, match="disk full"):
        generate(tmp_path / "set", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_an_impossible_path_is_one_line():
    with pytest.raises(UserError, match="too long"):
        generate("x" * 5000, SMALL)


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"train": 0}, "--train"),
        ({"val": -1}, "--val"),
        ({"width": 8}, "--width"),
        ({"min_size": 50}, "--min_size"),
        ({"max_size": 65}, "--max_size"),
        ({"min_shapes": 9}, "--min_shapes"),
        ({"seed": -1}, "--seed"),
        ({"width": 10**6}, "--width is 1000000, it must be from 32 to 4096"),
        ({"height": 5000}, "--height"),
        ({"train": 10**9}, "--train"),
        ({"max_shapes": 10**30}, "--max_shapes"),
    ],
)
def test_parameters_that_make_no_sense(tmp_path, changes, named):
    with pytest.raises(UserError, match=named):
        generate(tmp_path / "set", SyntheticParameters(**{**SMALL.__dict__, **changes}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("argv", [[], ["--output", "d", "--seed", "x"], ["--output", "d", "-z"]])
def test_command_line_mistakes(argv):
    with pytest.raises(UserError, match="command line: "):
        synthetic.main(argv)


def test_command_line(tmp_path, repo_root):
    sizes = {"train": 2, "val": 1, "width": 64, "height": 64, "min_size": 12, "max_size": 30}
    arguments = [f"--{name}={value}" for name, value in sizes.items()]
    command = [sys.executable, "-m", "src.synthetic", "--output", str(tmp_path / "a b"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(repo_root)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("made ") and "2 training and 1 validation" in done.stdout
    done = subprocess.run(
        [*command, "--seed", "-4"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
