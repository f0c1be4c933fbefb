# SPDX-License-Identifier: Apache-2.0
"""Result files, today's and the model zoo's, and their score."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from src.base.errors import UserError
from src.evaluation.postprocessing import run_postprocess
from src.evaluation.result_files import ResultFolder
from src.export.model_card import ModelFile, make_card
from src.model_utils.config import load_config
from tests.helpers.stand_ins import CLASS_NAMES, stand_in_config

# Ids of every kind, categories in another order than the classes.
CATEGORIES = {"fox": 3, "cat": 90, "dog": 12}
IMAGES = {"seven": "val/a.b.jpg", 12: "val/C.PNG", "003": "d.jpg"}
BOXES = np.array([[10, 20, 60, 90], [100, 40, 180, 200.5]], np.float32)
LABELS = np.array([1, 3], np.int32)  # cat, fox


def _annotations(path):
    names = list(CATEGORIES)
    data = {
        "images": [
            {"id": i, "file_name": n, "width": 300, "height": 300} for i, n in IMAGES.items()
        ],
        "categories": [{"id": CATEGORIES[n], "name": n} for n in names],
        "annotations": [],
    }
    for image_id in IMAGES:
        for box, label in zip(BOXES, LABELS, strict=True):
            x1, y1, x2, y2 = map(float, box)
            name = CLASS_NAMES[label - 1]
            data["annotations"].append(
                {
                    "id": len(data["annotations"]) + 1,
                    "image_id": image_id,
                    "iscrowd": 0,
                    "category_id": CATEGORIES[name],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                }
            )
    path.write_text(json.dumps(data))
    return path


def _rows(count):
    """boxes (count, 5), labels and mask with the two true boxes last, the others masked out."""
    boxes = np.full((count, 5), 7, np.float32)
    labels, mask = np.zeros(count, np.int32), np.zeros(count, bool)
    boxes[-2:, :4], boxes[-2:, 4] = BOXES, (0.9, 0.8)
    labels[-2:], mask[-2:] = LABELS, True
    return boxes, labels, mask


def write_new(folder, name, stem, count=10):
    """Result files as ascend310_infer writes them."""
    outputs = []
    for index, array in enumerate(_rows(count)):
        (folder / f"{stem}_{index}.bin").write_bytes(array.tobytes())
        outputs.append(
            {
                "file": f"{stem}_{index}.bin",
                "dtype": str(array.dtype),
                "shape": list(array.shape),
                "meaning": "",
            }
        )
    sidecar = {"image": name, "height": 300, "width": 300, "outputs": outputs}
    (folder / f"{stem}_outputs.json").write_text(json.dumps(sidecar))


def write_old(folder, stem, count=80000):
    """Result files as the model zoo's program writes them: labels from 0."""
    boxes, labels, mask = _rows(count)
    arrays = (boxes.astype(np.float16), np.maximum(labels - 1, 0), mask)
    for index, array in enumerate(arrays):
        (folder / f"{stem}_{index}.bin").write_bytes(array.tobytes())


@pytest.fixture
def place(tmp_path):
    (tmp_path / "result_Files").mkdir()
    _annotations(tmp_path / "instances.json")
    return tmp_path


def _config(place, **changes):
    values = {
        "ann_file": str(place / "instances.json"),
        "coco_classes": CLASS_NAMES,
        "result_path": str(place / "result_Files"),
        "output_dir": str(place),
    }
    return load_config([]).replace(**{**values, **changes})


def _write_all(folder, old):
    for name, stem in (("a.b.jpg", "a.b"), ("C.PNG", "C"), ("d.jpg", "d")):
        if old:
            write_old(folder, stem)
        else:
            write_new(folder, name, stem)


@pytest.mark.parametrize("old", [False, True], ids=["sidecars", "float16"])
def test_perfect_results(place, capsys, old):
    _write_all(place / "result_Files", old)
    assert run_postprocess(_config(place)) == 0
    out = capsys.readouterr().out
    assert sum(line.startswith(" Average") for line in out.splitlines()) == 12
    assert "maxDets=100 ] = 1.000" in out and "3 images, 0 of them without a result" in out
    results = json.loads((place / "results.json").read_text())
    assert len(results) == 6
    assert {r["image_id"] for r in results} == set(IMAGES)
    assert {r["category_id"] for r in results} == {90, 3}
    assert results[0]["bbox"] == [10, 20, 50, 70]


@pytest.mark.parametrize("count", [2, 3, 1001])
def test_any_number_of_rows(place, count):
    write_old(place / "result_Files", "d", count)
    found = ResultFolder(place / "result_Files").read("d.jpg")
    assert found.boxes.shape == (count, 4) and found.boxes.dtype == np.float32
    assert list(found.labels[found.valid]) == [1, 3]


def test_missing_results_are_reported_and_count(place, capsys):
    write_new(place / "result_Files", "d.jpg", "d")
    assert run_postprocess(_config(place, report=True)) == 0
    printed = capsys.readouterr()
    assert "2 of 3 images have no result" in printed.err and "a.b.jpg, C.PNG" in printed.err
    assert "maxDets=100 ] = 0.337" in printed.out  # a third of the boxes is found
    report = json.loads((place / "evaluation_report.json").read_text())
    best = report["overall"]["best"]
    assert (best["correct"], best["false"], best["missed"]) == (2, 0, 4)
    assert report["errors"]["kinds"]["missed"]["count"] == 4 and report["speed"] is None
    assert "worst: val/a.b.jpg (correct 0, false 0, missed 2)" in printed.out


def test_equal_stems_are_told_apart_by_their_sidecars(place):
    folder = place / "result_Files"
    write_new(folder, "d.jpg", "d.jpg")
    write_new(folder, "d.png", "d.png", count=4)
    results = ResultFolder(folder)
    assert (len(results.read("d.jpg").boxes), len(results.read("d.png").boxes)) == (10, 4)
    assert results.read("d.bmp") is None


def test_a_result_of_another_image_is_not_taken(place):
    write_new(place / "result_Files", "d.png", "d")
    assert ResultFolder(place / "result_Files").read("d.jpg") is None


def test_the_models_own_class_names_count(place):
    folder = place / "result_Files"
    _write_all(folder, old=False)
    file = ModelFile("m.onnx", (64, 96), 1, inputs={}, outputs={})
    card = make_card(stand_in_config(64, 96), target="CPU", files=[file], checkpoint={})
    (folder / "model.json").write_text(json.dumps(card))
    assert run_postprocess(_config(place, coco_classes=("owl", "fox"))) == 0
    results = json.loads((place / "results.json").read_text())
    assert {r["category_id"] for r in results} == {90, 3}


def _cut(folder):
    path = folder / "d_0.bin"
    path.write_bytes(path.read_bytes()[:-3])


def _same_names(folder):
    path = folder.parent / "instances.json"
    path.write_text(path.read_text().replace("val/C.PNG", "val/d.jpg"))


def _a_pipe(name):
    def edit(folder):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return edit


def _a_folder(name):
    def edit(folder):
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return edit


def _rename(folder, key, index, **changes):
    path = folder.parent / "instances.json"
    data = json.loads(path.read_text())
    data[key][index].update(changes)
    path.write_text(json.dumps(data))


def _edit_sidecar(**changes):
    def edit(folder):
        path = folder / "d_outputs.json"
        sidecar = json.loads(path.read_text())
        sidecar["outputs"][0].update(changes)
        path.write_text(json.dumps(sidecar))

    return edit


@pytest.mark.parametrize(
    ("old", "damage", "message"),
    [
        (False, _cut, "d_0.bin: 197 bytes, but its sidecar says"),
        (True, _cut, "are not float16"),
        (True, lambda f: (f / "d_1.bin").unlink(), "d_1.bin: No such file"),
        (False, lambda f: (f / "d_2.bin").unlink(), "d_2.bin: No such file"),
        (False, lambda f: (f / "d_outputs.json").write_text("{"), "d_outputs.json: damaged"),
        (False, _edit_sidecar(file="../d_0.bin"), "d_outputs.json: damaged"),
        (False, _edit_sidecar(file="/etc/passwd"), "d_outputs.json: damaged"),
        (False, _edit_sidecar(dtype="object"), "d_outputs.json: damaged"),
        (False, _edit_sidecar(shape=[-10, 5]), "d_outputs.json: damaged"),
        (False, _edit_sidecar(shape=[5, 10]), "do not fit together"),
        (False, _edit_sidecar(shape=[2**31 - 1] * 9), "d_outputs.json: damaged"),
        (False, _edit_sidecar(shape=[2**31 - 1] * 8), "d_0.bin: 200 bytes, but its sidecar says"),
        (False, _edit_sidecar(shape=[10, 5] + [1] * 70), "d_outputs.json: damaged"),
        (False, _edit_sidecar(shape=[10, 5] + [1] * 6), "do not fit together"),
        (False, _edit_sidecar(shape=[10, 5.0]), "d_outputs.json: damaged"),
        (False, _edit_sidecar(shape={"10": 5}), "d_outputs.json: damaged"),
        (False, _edit_sidecar(dtype="int32"), "d_outputs.json: damaged"),
        (False, _edit_sidecar(dtype=["float32"]), "d_outputs.json: damaged"),
        (False, _edit_sidecar(file=""), "d_outputs.json: damaged"),
        (False, _edit_sidecar(file=".."), "d_outputs.json: damaged"),
        (False, _edit_sidecar(file="d\0.bin"), "no file can have this name"),
        (False, _edit_sidecar(file="\ud800.bin"), "no file can have this name"),
        (False, _edit_sidecar(file="d" * 300), "File name too long"),
        (False, _a_pipe("d_outputs.json"), "d_outputs.json: not a file, but a pipe"),
        (False, _a_pipe("d_1.bin"), "d_1.bin: not a file, but a pipe"),
        (True, _a_pipe("d_1.bin"), "d_1.bin: not a file, but a pipe"),
        (False, _a_pipe("model.json"), "model.json: not a file, but a pipe"),
        (False, _a_folder("d_outputs.json"), "d_outputs.json: Is a directory"),
        (True, _a_folder("d_0.bin"), "d_0.bin: Is a directory"),
        (False, _a_folder("model.json"), "model.json: Is a directory"),
        (False, lambda f: (f / "d_outputs.json").write_text("[" * 10**5), "d_outputs.json: damag"),
        (False, lambda f: (f / "d_outputs.json").write_text(" " * 2**21), "2.1 MB, of at most"),
        (False, lambda f: os.truncate(f / "d_0.bin", 2**40), "d_0.bin: 1099511.6 MB, of at most"),
        (
            False,
            lambda f: shutil.copy(f / "d_outputs.json", f / "e_outputs.json"),
            "e_outputs.json: is of 'd.jpg' as another sidecar",
        ),
        (False, lambda f: _rename(f, "categories", 0, name=["cat"]), "categories.0. has name"),
        (False, lambda f: _rename(f, "categories", 0, id=[1]), "has id .1.; it must be a whole"),
        (False, _same_names, "2 images are called d.jpg"),
        (False, lambda f: (f / "model.json").write_text("{}"), "model.json: not the description"),
    ],
)
def test_damage_is_named(place, old, damage, message):
    _write_all(place / "result_Files", old)
    damage(place / "result_Files")
    with pytest.raises(UserError, match=message) as raised:
        run_postprocess(_config(place))
    assert "\n" not in str(raised.value)
    assert not (place / "results.json").exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"ann_file": ""}, "ann_file is empty"),
        ({"result_path": ""}, "result_path is empty"),
        ({"ann_file": "/nowhere.json"}, "nowhere.json"),
        ({"result_path": "/nowhere"}, "set result_path to the folder"),
        ({"coco_classes": ("cat", "dog", "owl")}, "owl"),
        ({"coco_classes": ("cat", "dog")}, "labels 1 to 3, but there are 2 classes"),
    ],
)
def test_wrong_settings(place, changes, message):
    _write_all(place / "result_Files", old=True)
    with pytest.raises(UserError, match=message):
        run_postprocess(_config(place, **changes))


def test_no_result_at_all(place):
    with pytest.raises(UserError, match="has no result for any of the 3 images"):
        run_postprocess(_config(place))


def test_the_script(place, repo_root):
    _write_all(place / "result_Files", old=True)
    command = [
        sys.executable,
        repo_root / "postprocess.py",
        "--ann_file",
        "instances.json",
        "--result_path",
        "result_Files",
        "--coco_classes",
        *CLASS_NAMES,
    ]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (place / "results.json").is_file()
    wrong = subprocess.run(command[:4], cwd=place, capture_output=True, text=True, timeout=120)
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: result_path is empty")
