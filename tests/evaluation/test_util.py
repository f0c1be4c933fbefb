# SPDX-License-Identifier: Apache-2.0
"""The model zoo's evaluation routines: a script of the zoo gets the numbers of this project."""

import json

import numpy as np
import pytest
from pycocotools.coco import COCO

from src.base.errors import UserError
from src.evaluation.coco import evaluate_results
from src.util import SUMMARY_KEYS, bbox2result_1image, coco_eval, results2json

CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]  # class 0 is the cat
BOXES = {11: [(3, 10, 10, 40, 30)], 12: [(7, 5, 5, 60, 50), (3, 50, 60, 20, 20)]}


@pytest.fixture
def annotations(tmp_path):
    path = tmp_path / "annotations.json"
    entries = [
        {"image_id": image_id, "category_id": category, "bbox": box, "area": box[2] * box[3]}
        for image_id, rows in BOXES.items()
        for category, *box in rows
    ]
    content = {
        "images": [{"id": id_, "file_name": f"{id_}.jpg"} for id_ in BOXES],
        "categories": CATEGORIES,
        "annotations": [{"id": n, "iscrowd": 0, **entry} for n, entry in enumerate(entries, 1)],
    }
    path.write_text(json.dumps(content))
    return path


def _detections(score=0.9):
    """What a script of the zoo hands over: (N, 5) boxes and labels from 0, image by image."""
    labels = {7: 0, 3: 1}
    for rows in BOXES.values():
        boxes = [(x, y, x + w, y + h, score) for _, x, y, w, h in rows]
        yield np.array(boxes, np.float32), np.array([labels[row[0]] for row in rows], np.int32)


def _outputs():
    return [bbox2result_1image(boxes, labels, 3) for boxes, labels in _detections()]


def test_detections_are_sorted_by_class():
    boxes = np.arange(15, dtype=np.float32).reshape(3, 5)
    cats, dogs, foxes = bbox2result_1image(boxes, np.array([1, 0, 1]), 4)
    np.testing.assert_array_equal(cats, boxes[1:2])
    np.testing.assert_array_equal(dogs, boxes[::2])
    assert foxes.shape == (0, 5)
    empty = bbox2result_1image(np.zeros((0, 5), np.float32), np.zeros(0, np.int32), 3)
    assert [part.shape for part in empty] == [(0, 5)] * 2


def test_a_script_of_the_zoo_gets_our_numbers(annotations, tmp_path, capsys):
    dataset = COCO(str(annotations))
    files = results2json(dataset, _outputs(), str(tmp_path / "results.pkl"))
    assert files == dict.fromkeys(("bbox", "proposal"), str(tmp_path / "results.pkl.bbox.json"))
    entries = json.loads((tmp_path / "results.pkl.bbox.json").read_text())
    assert entries[0] == {
        "image_id": 11,
        "category_id": 3,
        "bbox": [10.0, 10.0, 40.0, 30.0],
        "score": pytest.approx(0.9),
    }
    assert [entry["category_id"] for entry in entries] == [3, 7, 3]
    numbers = coco_eval(None, files, ["bbox"], dataset, single_result=False)
    assert list(numbers) == list(SUMMARY_KEYS) and numbers["Precision/mAP"] == pytest.approx(1.0)
    own = evaluate_results(str(annotations), entries, ["cat", "dog"])
    assert list(numbers.values()) == own.stats.tolist()
    printed = capsys.readouterr().out
    assert all(line in printed for line in own.lines)
    assert coco_eval(files, ["bbox"], str(annotations)) == numbers
    assert coco_eval(None, files, ["bbox"], dataset, plot_detect_result=True) == own.ap


def test_images_without_results_count_unless_single_results_are_asked_for(annotations, tmp_path):
    dataset = COCO(str(annotations))
    files = results2json(dataset, _outputs()[:1], tmp_path / "first")
    key = "Precision/mAP"
    assert coco_eval(None, files, ["bbox"], dataset)[key] == pytest.approx(0.25, abs=0.01)
    assert coco_eval(None, files, ["bbox"], dataset, single_result=True)[key] == pytest.approx(1.0)


def test_what_does_not_fit_is_refused(annotations, tmp_path):
    dataset = COCO(str(annotations))
    with pytest.raises(UserError, match="3 images have results, but the annotations have 2"):
        results2json(dataset, _outputs() + _outputs()[:1], tmp_path / "a")
    three = [bbox2result_1image(boxes, labels, 4) for boxes, labels in _detections()]
    with pytest.raises(UserError, match="image 11 are of 3 classes, but .* have 2 categories"):
        results2json(dataset, three, tmp_path / "a")
    with pytest.raises(UserError, match="only .'bbox'. can be evaluated"):
        coco_eval(None, {}, ["bbox", "segm"], dataset)
    assert not list(tmp_path.glob("a*bbox*"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "is no list of detections"),
        ('[{"image_id": 1}]', "is no list of detections"),
        ("[", "is not JSON"),
        (None, "cannot be read: No such file"),
        ("[" + " " * 200 + "]", "cannot be read: 0.0 MB, of at most"),
    ],
)
def test_results_that_cannot_be_used(annotations, tmp_path, monkeypatch, text, problem):
    monkeypatch.setattr("src.util._LARGEST_RESULTS", 100)
    path = tmp_path / "results.bbox.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=problem):
        coco_eval(None, {"bbox": str(path)}, ["bbox"], str(annotations))
