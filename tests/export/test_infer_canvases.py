# SPDX-License-Identifier: Apache-2.0
"""The C++ application with a model of several canvases: chosen by picture, as Python does."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from src.evaluation.result_files import ResultFolder
from src.export.model_card import card_path
from src.export.model_set import ExportedModel
from src.images.ops import preprocess_image
from src.images.reading import read_image
from tests.helpers.infer_helpers import require_main, run_main
from tests.helpers.odd_images import picture
from tests.helpers.stand_ins import Echo, SmallDetector, export_stand_in, stand_in_config

pytestmark = pytest.mark.slow

# Landscape, portrait, square, as large as a canvas, hardly anything, very long.
SIZES = (
    (70, 90),
    (90, 70),
    (80, 80),
    (64, 96),
    (96, 64),
    (3, 5),
    (20, 900),
    (300, 400),
    (400, 300),
)


@pytest.fixture(scope="module")
def main():
    return require_main("onnxruntime")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Models of the canvases 64x96 and 96x64, made when asked for."""
    folder = tmp_path_factory.mktemp("models")
    made = {}

    def model(network, batch=1, **changes):
        key = (network, batch, *sorted(changes.items()))
        if key not in made:
            values = {"resize": "short_edge", "min_size": (64,), "max_size": 96, **changes}
            path = folder / f"{len(made)}.onnx"
            made[key] = export_stand_in(network(), stand_in_config(64, 96, **values), path, batch)
        return made[key]

    return model


@pytest.fixture
def images(tmp_path):
    """Pictures of all `SIZES`, named by them."""
    folder = tmp_path / "images"
    folder.mkdir()
    for height, width in SIZES:
        Image.fromarray(picture(height, width)).save(folder / f"{height} {width}.png")
    return folder


def _assert_inputs_are_pythons(main, model, images, output, tolerance):
    """Canvas and valid area are equal, pixels to `tolerance` grey levels; both canvases come."""
    done = run_main(main, card_path(model), images, output)
    assert done.returncode == 0, done.stderr
    results = ResultFolder(output / "result_Files")
    target = ExportedModel(card_path(model)).card.input
    seen = set()
    for path in images.iterdir():
        image, meta = preprocess_image(read_image(str(path)), target)
        found = results.read(path.name)
        assert np.array_equal(found.scores[:4], meta), path.name
        difference = np.abs(found.boxes.reshape(image.shape) - image)
        assert (difference * np.reshape(target.std, (3, 1, 1))).max() <= tolerance, path.name
        seen.add(image.shape[1:])
    assert seen == {(64, 96), (96, 64)}


BOTH = {"canvases": ("64x96", "96x64")}


@pytest.mark.parametrize(
    "changes, tolerance",
    [
        ({}, 1.0),
        ({"resize_like": "torchvision"}, 1e-5),
        ({"resize_like": "detectron2", "channel_order": "bgr"}, 1e-5),
        ({"resize_like": "detectron2", "resize": "canvas", **BOTH}, 1e-5),
        ({"resize_like": "torchvision", "resize": "stretch", **BOTH}, 1e-5),
    ],
    ids=["opencv", "torchvision", "detectron2", "canvas", "stretch"],
)
def test_inputs_are_pythons(main, models, images, tmp_path, changes, tolerance):
    _assert_inputs_are_pythons(main, models(Echo, **changes), images, tmp_path, tolerance)


@pytest.mark.parametrize("like", ["torchvision", "detectron2"])
def test_inputs_of_photographs_are_pythons(main, models, images, tmp_path, coco128_root, like):
    for path in sorted((coco128_root / "train2017").glob("*.jpg"))[:16]:
        os.symlink(path, images / path.name)
    _assert_inputs_are_pythons(main, models(Echo, resize_like=like), images, tmp_path, 1e-5)


@pytest.mark.parametrize("like", ["torchvision", "detectron2"])
def test_sanitizers_find_nothing(models, images, tmp_path, like):
    main = require_main("onnxruntime", sanitize=True)
    _assert_inputs_are_pythons(main, models(Echo, resize_like=like), images, tmp_path, 1e-5)


def test_batches_are_of_one_canvas(main, models, images, tmp_path):
    model = models(SmallDetector, batch=2)
    done = run_main(main, card_path(model), images, tmp_path)
    assert done.returncode == 0, done.stderr
    results, network = ResultFolder(tmp_path / "result_Files"), ExportedModel(card_path(model))
    for path in images.iterdir():
        image, meta = preprocess_image(read_image(str(path)), network.card.input)
        expected = [o[0] for o in network(np.stack([image] * 2), np.stack([meta] * 2))]
        found = results.read(path.name)
        arrays = (found.boxes, found.scores, found.labels, found.valid)
        for ours, theirs in zip(expected, arrays, strict=True):
            np.testing.assert_allclose(theirs, ours, atol=1e-4, rtol=1e-5)
    timing = (tmp_path / "time_Result/test_perform_static.txt").read_text()
    assert "infer_count 5 " in timing and "\n9 images in " in timing  # 6 and 3, in twos


@pytest.mark.parametrize("ending", ["", ".json", "_64x96", "_96x64"])
def test_every_name_of_a_model_means_all_its_canvases(main, models, images, tmp_path, ending):
    model = models(SmallDetector)
    name = card_path(model) if ending == ".json" else model.with_stem(model.stem + ending)
    assert run_main(main, name, images, tmp_path).returncode == 0
    assert len(list((tmp_path / "result_Files").glob("*_outputs.json"))) == len(SIZES)


def _entry(number, **changes):
    return lambda card: card["files"][number].update(changes)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.update(version=3), "not the description of a model by this version"),
        (lambda c: c.update(files=[]), "files is not a list of 1 to 16"),
        (lambda c: c.update(files=c["files"] * 9), "files is not a list of 1 to 16"),
        (lambda c: c.update(files=c["files"] * 2), "files has a canvas twice"),
        (_entry(0, name="../m_64x96.onnx"), "a file's name has a folder"),
        (_entry(0, name="/etc/passwd"), "a file's name has a folder"),
        (_entry(0, name=".."), "a file's name has a folder"),
        (_entry(0, name=""), "a file's name has a folder"),
        (_entry(1, name="m_32x32.onnx"), "there is no file"),
        (_entry(1, bytes=1), "describes another file than"),
        (_entry(1, height=64), "do not fit together"),
        (_entry(1, width=-1), "width is not from 1 to 32768"),
        (lambda c: c["files"][1]["outputs"][0].update(shape=[1, 7, 4]), "do not fit together"),
        (lambda c: c["preprocessing"].update(resize="magic"), "unknown resize"),
        (lambda c: c["preprocessing"].update(resize_like="magic"), "unknown resize_like"),
        (lambda c: c["preprocessing"].update(min_size=0), "min_size is not from 1 to 32768"),
        (lambda c: c["preprocessing"].pop("max_size"), "max_size"),
    ],
)
def test_a_description_that_does_not_fit(main, models, images, tmp_path, change, message):
    model = models(SmallDetector)
    for canvas in ("64x96", "96x64"):
        shutil.copy(model.with_stem(f"{model.stem}_{canvas}"), tmp_path / f"m_{canvas}.onnx")
    card = json.loads(card_path(model).read_text())
    for entry in card["files"]:
        entry["name"] = entry["name"].replace(f"{model.stem}_", "m_")
    change(card)
    (tmp_path / "m.onnx.json").write_text(json.dumps(card))
    done = run_main(main, tmp_path / "m.onnx", images, tmp_path)
    assert done.returncode == 1 and message in done.stderr and "m.onnx.json" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "result_Files").exists()
