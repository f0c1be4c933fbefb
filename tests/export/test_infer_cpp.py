# SPDX-License-Identifier: Apache-2.0
"""The C++ application on ONNX Runtime: preprocessing, files, errors, sanitizers."""

import contextlib
import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.base.errors import UserError
from src.evaluation.result_files import ResultFolder
from src.export.exported_model import open_onnx
from src.images.headers import read_header
from src.images.ops import InputFormat, preprocess_image
from src.images.reading import decode_image, read_image
from tests.helpers.infer_helpers import require_main, run_main
from tests.helpers.odd_images import picture, write_broken, write_good
from tests.helpers.stand_ins import Echo, SmallDetector, export_stand_in, stand_in_config
from tests.images.test_image_reading import BOMBS, WHOLE, damaged

pytestmark = pytest.mark.slow

HEIGHT, WIDTH = 64, 96
# Root, too, may then not read what nobody may read.
AS_A_USER = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
AS_A_USER = AS_A_USER if os.geteuid() == 0 else ()


@pytest.fixture(scope="module")
def main():
    return require_main("onnxruntime")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Echo models by their settings, made when asked for; and the small detector."""
    folder = tmp_path_factory.mktemp("models")
    made = {}

    def model(name="echo", batch=1, **changes):
        key = (name, batch, *sorted(changes.items()))
        if key not in made:
            network = Echo() if name == "echo" else SmallDetector()
            config = stand_in_config(HEIGHT, WIDTH, **changes)
            path = export_stand_in(network, config, folder / f"{len(made)}.onnx", batch)
            made[key] = path, InputFormat.from_config(config)
        return made[key]

    return model


def _grey_levels(results, path, target):
    """Largest difference of the C++ input from Python's, in grey levels; metas must be equal."""
    image, meta = preprocess_image(read_image(str(path)), target)
    found = results.read(path.name)
    assert np.array_equal(found.scores[:4], meta)
    difference = np.abs(found.boxes.reshape(image.shape) - image)
    return float((difference * np.reshape(target.std, (3, 1, 1))).max())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"keep_ratio": False, "channel_order": "bgr"},
        {"pad_before_normalize": True, "pixel_mean": (3.0, 90.5, 200.0), "pixel_std": (1, 2, 60)},
    ],
    ids=["default", "stretched", "padded_first"],
)
def test_every_kind_of_image_is_read_as_python_reads_it(main, models, tmp_path, changes):
    images = tmp_path / "images"
    images.mkdir()
    names = write_good(images)
    model, target = models(**changes)
    done = run_main(main, model, images, tmp_path)
    assert done.returncode == 0, done.stderr
    results = ResultFolder(tmp_path / "result_Files")
    worst = {name: _grey_levels(results, images / name, target) for name in names}
    assert max(worst.values()) <= 1.0, worst


def test_real_images_to_one_grey_level(main, models, tmp_path, coco128_root):
    images = tmp_path / "images"
    images.mkdir()
    chosen = sorted((coco128_root / "train2017").glob("*.jpg"))[:20]
    for path in chosen:
        os.symlink(path, images / path.name)
    model, target = models()
    assert run_main(main, model, images, tmp_path).returncode == 0
    results = ResultFolder(tmp_path / "result_Files")
    worst = [_grey_levels(results, images / path.name, target) for path in chosen]
    assert len(worst) == 20 and max(worst) <= 1.0, worst


def test_broken_images_are_counted_and_the_others_go_on(main, models, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    good, broken = write_good(images), write_broken(images)
    done = run_main(main, models()[0], images, tmp_path, prefix=AS_A_USER)
    assert done.returncode == 3, done.stderr
    assert f"{len(broken)} of {len(good) + len(broken)} images could not be used" in done.stderr
    for name in broken:
        assert f"error: image {images / name}: " in done.stderr
    results = ResultFolder(tmp_path / "result_Files")
    assert all(results.read(name) is not None for name in good)
    assert all(results.read(name) is None for name in broken)


def test_sanitizers_find_nothing(models, tmp_path):
    main = require_main("onnxruntime", sanitize=True)
    images = tmp_path / "images"
    images.mkdir()
    good, broken = write_good(images), write_broken(images)
    assert len(good) >= 20 and len(broken) >= 20
    done = run_main(main, models()[0], images, tmp_path, prefix=AS_A_USER)
    assert done.returncode == 3, done.stderr[-3000:]
    assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr
    assert len(list((tmp_path / "result_Files").glob("*_outputs.json"))) == len(good)


def _verdicts(done, images, names):
    """Names of `names` that the program took, by what it says of the others."""
    return {name for name in names if f"error: image {images / name}: " not in done.stderr}


def test_damaged_pictures_are_refused_and_taken_as_python_does(main, models, tmp_path):
    """Bombs, cut and zeroed files, changed bits and numbers: one verdict, one size."""
    images = tmp_path / "images"
    images.mkdir()
    # What only Python reads.
    whole = {k: v for k, v in WHOLE.items() if read_header(v).kind != "JPEG 2000"}
    whole.pop("animated webp")
    rng = random.Random(11)
    files = {**whole, **{f"bomb {k}": v for k, v in BOMBS.items() if k != "jp2"}}
    for number in range(250):
        files[str(number)] = damaged(whole[rng.choice(sorted(whole))], rng)
    for name, data in files.items():
        (images / f"{name}.jpg").write_bytes(data)
    os.mkfifo(images / "fifo.jpg")
    (images / "._hidden.jpg").write_text("of a Mac")
    done = run_main(main, models()[0], images, tmp_path)
    assert done.returncode == 3, done.stderr
    sizes = {}
    for name, data in files.items():
        with contextlib.suppress(UserError):
            sizes[f"{name}.jpg"] = decode_image(data, name).shape[:2]
    assert "fifo.jpg: not a regular file" in done.stderr and "hidden" not in done.stderr
    assert _verdicts(done, images, [f"{name}.jpg" for name in files]) == set(sizes)
    for name, (height, width) in sizes.items():
        found = json.loads((tmp_path / f"result_Files/{name[:-4]}_outputs.json").read_text())
        assert (found["height"], found["width"]) == (height, width)


def test_the_limit_of_pixels_is_the_cards_or_the_options(main, models, tmp_path, one_image):
    for suffix in ("", ".json"):
        shutil.copy(f"{models()[0]}{suffix}", tmp_path / f"m.onnx{suffix}")
    _changed_card(tmp_path / "m.onnx", lambda card: card.update(max_image_pixels=6000))
    outputs = [tmp_path / str(n) for n in range(3)]
    done = run_main(main, tmp_path / "m.onnx", one_image, outputs[0])
    assert done.returncode == 3 and "90x70 pixels, more than --max_image_pixels=6000" in done.stderr
    options = ("--max_image_pixels=9000",)
    assert run_main(main, tmp_path / "m.onnx", one_image, outputs[1], *options).returncode == 0
    _changed_card(tmp_path / "m.onnx", lambda card: card.update(max_image_pixels=0))
    done = run_main(main, tmp_path / "m.onnx", one_image, outputs[2])
    assert done.returncode == 1 and "max_image_pixels is not from 1 to" in done.stderr


def test_batches_and_the_last_one_that_is_not_full(main, models, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(5):
        Image.fromarray(picture(70, 90, number)).save(images / f"{number}.png")
    model, target = models("detector", batch=2)
    assert run_main(main, model, images, tmp_path).returncode == 0
    results, (run, *_) = ResultFolder(tmp_path / "result_Files"), open_onnx(model)
    for number in range(5):
        image, meta = preprocess_image(read_image(str(images / f"{number}.png")), target)
        expected = [o[0] for o in run(np.stack([image] * 2), np.stack([meta] * 2))]
        found = results.read(f"{number}.png")
        for ours, theirs in zip(
            expected, (found.boxes, found.scores, found.labels, found.valid), strict=True
        ):
            np.testing.assert_allclose(theirs, ours, atol=1e-4)
    timing = (tmp_path / "time_Result/test_perform_static.txt").read_text()
    assert "infer_count 3 " in timing and "\n5 images in " in timing


def test_equal_stems_get_results_of_their_own(main, models, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for name, seed in (("a.png", 1), ("a.bmp", 2), ("b.png", 3)):
        Image.fromarray(picture(70, 90, seed)).save(images / name)
    model, target = models()
    assert run_main(main, model, images, tmp_path).returncode == 0
    results = ResultFolder(tmp_path / "result_Files")
    for name in ("a.png", "a.bmp", "b.png"):
        assert _grey_levels(results, images / name, target) <= 1.0
    assert (tmp_path / "result_Files/b_0.bin").is_file()  # the model zoo's name where it can be


@pytest.fixture
def one_image(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(picture(70, 90)).save(images / "a.png")
    return images


def _changed_card(model, change):
    card = json.loads(Path(f"{model}.json").read_text())
    change(card)
    Path(f"{model}.json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.update(model_bytes=1), "describes another file"),
        (lambda c: c.update(version=99), "not the description of a model by this version"),
        (lambda c: c["preprocessing"].update(height=128), "do not fit together"),
        (lambda c: c["preprocessing"].update(height="64"), "type must be number"),
        (lambda c: c["preprocessing"].update(pixel_std=[1, 0, 1]), "pixel_std"),
        (lambda c: c["preprocessing"].pop("pixel_mean"), "pixel_mean"),
        (lambda c: c["outputs"].pop(), "json"),
        (lambda c: c["outputs"][2].update(dtype="int64"), "labels"),
        (lambda c: c["inputs"][0].update(shape=[1024, 3, 1 << 15, 1 << 15]), "do not fit"),
        (lambda c: c.update(class_names="a\n\x1b[31m"), "type must be array"),
    ],
)
def test_a_description_that_does_not_fit(main, models, tmp_path, one_image, change, message):
    for suffix in ("", ".json"):
        shutil.copy(f"{models()[0]}{suffix}", tmp_path / f"m.onnx{suffix}")
    _changed_card(tmp_path / "m.onnx", change)
    done = run_main(main, tmp_path / "m.onnx", one_image, tmp_path)
    assert done.returncode == 1 and message in done.stderr and "m.onnx.json" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "result_Files").exists()


def test_a_model_that_has_other_tensors_than_its_description(main, models, tmp_path, one_image):
    model = models()[0]
    shutil.copy(models("detector")[0], tmp_path / "m.onnx")
    shutil.copy(f"{model}.json", tmp_path / "m.onnx.json")
    size = (tmp_path / "m.onnx").stat().st_size
    _changed_card(tmp_path / "m.onnx", lambda card: card.update(model_bytes=size))
    done = run_main(main, tmp_path / "m.onnx", one_image, tmp_path)
    assert done.returncode == 1 and "are not those of its .json file" in done.stderr


@pytest.mark.parametrize(
    "options, code, message",
    [
        (["--device_target=TPU"], 2, "none of Ascend, CPU"),
        (["--device_target=Ascend"], 2, "runs on the CPU only"),
        (["--backend=magic"], 2, "none of onnxruntime"),
        (["--backend=mindspore_lite"], 1, "built without the backend mindspore_lite"),
        (["--device_id=-1"], 2, "not a number"),
        (["--max_image_pixels=many"], 2, "not a number from 0 to 1073741824"),
        (["--mindir_path="], 2, "is missing"),
        (["--wrong=1"], 2, "is no argument"),
        (["stray"], 2, "is no argument"),
        (["--mindir_path=/nowhere/m.onnx"], 1, "/nowhere/m.onnx.json: cannot be read"),
        (["--dataset_path=/nowhere"], 1, "/nowhere: No such file"),
        (["--output_path=/dev/null/out"], 1, "cannot make the folder"),
    ],
)
def test_wrong_arguments(main, models, tmp_path, one_image, options, code, message):
    done = run_main(main, models()[0], one_image, tmp_path, *options)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert message in done.stderr


def test_results_are_never_mixed_with_older_ones(main, models, tmp_path, one_image):
    assert run_main(main, models()[0], one_image, tmp_path).returncode == 0
    again = run_main(main, models()[0], one_image, tmp_path)
    assert again.returncode == 1 and "holds results already" in again.stderr


def test_a_file_that_is_no_model(main, models, tmp_path, one_image):
    shutil.copy(f"{models()[0]}.json", tmp_path / "m.onnx.json")
    (tmp_path / "m.onnx").write_bytes(b"no model")
    _changed_card(tmp_path / "m.onnx", lambda card: card.update(model_bytes=8))
    done = run_main(main, tmp_path / "m.onnx", one_image, tmp_path)
    assert done.returncode == 1 and "m.onnx: " in done.stderr


def test_damaged_results_are_noticed(main, models, tmp_path, one_image):
    assert run_main(main, models()[0], one_image, tmp_path).returncode == 0
    boxes = tmp_path / "result_Files/a_0.bin"
    boxes.write_bytes(boxes.read_bytes()[:-1])
    with pytest.raises(UserError, match="but its sidecar says"):
        ResultFolder(tmp_path / "result_Files").read("a.png")
