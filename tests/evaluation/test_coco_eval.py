# SPDX-License-Identifier: Apache-2.0
"""Results and COCO numbers: ground truth as detections, id kinds, empty results, per-class AP."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.base.errors import UserError
from src.evaluation.coco import evaluate_results
from src.evaluation.coco_results import check_result_path, detections_to_results, write_results
from src.evaluation.ground_truth import category_ids_of, coco_from_records, load_ground_truth


def _ground_truth(image_ids=(1, 2, 3), categories=((7, "cat"), (3, "dog"))):
    annotations = []
    for i, image_id in enumerate(image_ids):
        for k, (category_id, _) in enumerate(categories):
            box = [10.0 + 5 * i, 20.0 + 30 * k, 40.0 + i, 25.0]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category_id,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    return {
        "images": [{"id": image_id, "file_name": f"{image_id}.jpg"} for image_id in image_ids],
        "annotations": annotations,
        "categories": [{"id": c, "name": name} for c, name in categories],
    }


def _as_detections(data, class_names):
    """Feed the ground truth (without crowds) through the writer, image by image."""
    ids = category_ids_of(data, class_names)
    results = []
    for image in data["images"]:
        own = [
            a
            for a in data["annotations"]
            if a["image_id"] == image["id"] and not a.get("iscrowd") and a["category_id"] in ids
        ]
        xywh = np.array([a["bbox"] for a in own], np.float32).reshape(-1, 4)
        boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
        labels = np.array([ids.index(a["category_id"]) + 1 for a in own], np.int32)
        pad = 3  # invalid rows must not count
        results += detections_to_results(
            [image["id"]],
            np.pad(boxes, ((0, pad), (0, 0)), constant_values=5.0)[None],
            np.pad(np.ones(len(own), np.float32), (0, pad))[None],
            np.pad(labels, (0, pad), constant_values=1)[None],
            np.pad(np.ones(len(own), bool), (0, pad))[None],
            ids,
        )
    return results


@pytest.mark.parametrize("split", ["train2017", "val2017"])
@pytest.mark.parametrize("name", ["bccd", "coco128"])
def test_ground_truth_as_detections_is_perfect(name, split, request, tmp_path):
    root = request.getfixturevalue(f"{name}_root")
    path = root / "annotations" / f"instances_{split}.json"
    data = load_ground_truth(path)
    class_names = [category["name"] for category in data["categories"]]
    results = _as_detections(data, class_names)
    write_results(tmp_path / "results.json", results)
    results = json.loads((tmp_path / "results.json").read_text())
    summary = evaluate_results(path, results, class_names)
    assert len(results) == sum(not a.get("iscrowd") for a in data["annotations"])
    assert summary.ap == pytest.approx(1.0, abs=1e-9) and summary.ap50 == pytest.approx(1.0)
    assert len(summary.lines) == 12
    assert summary.lines[0].endswith("= 1.000") and "AP" in summary.lines[0]
    assert min(row.ap for row in summary.per_class if row.num_boxes) == pytest.approx(1.0)


def test_crowds_neither_help_nor_harm():
    data = _ground_truth()
    data["annotations"][0]["iscrowd"] = 1
    results = _as_detections(data, ["cat", "dog"])
    assert len(results) == 5
    # A detection inside the crowd is ignored, one elsewhere would be a false positive.
    inside = {"image_id": 1, "category_id": 7, "bbox": [12.0, 22.0, 5.0, 5.0], "score": 2.0}
    summary = evaluate_results(data, [*results, inside], ["cat", "dog"])
    assert summary.ap == pytest.approx(1.0)
    outside = {**inside, "bbox": [200.0, 200.0, 5.0, 5.0]}
    assert evaluate_results(data, [*results, outside], ["cat", "dog"]).ap < 0.9
    assert [row.num_boxes for row in summary.per_class] == [2, 3]


@pytest.mark.parametrize(
    "image_ids", [("a", "b/c.d", "0003"), (2**40, -5, 0), (1, "1", "two"), ("10", "9", "100")]
)
def test_any_kind_of_image_id(image_ids):
    data = _ground_truth(image_ids)
    results = _as_detections(data, ["dog", "cat"])
    assert {result["image_id"] for result in results} == set(image_ids)
    assert evaluate_results(data, results, ["dog", "cat"]).ap == pytest.approx(1.0)
    swapped = {image_ids[0]: image_ids[1], image_ids[1]: image_ids[0]}
    for result in results:
        result["image_id"] = swapped.get(result["image_id"], result["image_id"])
    assert evaluate_results(data, results, ["dog", "cat"]).ap < 0.8  # keyed by id, not by order


def test_no_detection_at_all():
    summary = evaluate_results(_ground_truth(), [], ["cat", "dog"])
    assert summary.ap == 0.0 and len(summary.lines) == 12
    assert summary.table()[1].split() == ["cat", "3", "0", "0.000", "0.000"]


def test_no_ground_truth_at_all():
    data = {**_ground_truth(), "annotations": []}
    box = {"image_id": 1, "category_id": 7, "bbox": [0.0, 0.0, 5.0, 5.0], "score": 0.5}
    summary = evaluate_results(data, [box], ["cat", "dog"])
    assert summary.ap == -1.0
    assert summary.table()[1].split() == ["cat", "0", "1", "-", "-"]


def test_classes_select_and_order_the_table():
    data = _ground_truth()
    results = [r for r in _as_detections(data, ["cat", "dog"]) if r["category_id"] == 3]
    summary = evaluate_results(data, results, ["dog", "cat"])
    assert [(row.name, row.ap) for row in summary.per_class] == [
        ("dog", pytest.approx(1.0)),
        ("cat", 0.0),
    ]
    assert summary.ap == pytest.approx(0.5)
    assert evaluate_results(data, results, ["dog"]).ap == pytest.approx(1.0)


def test_only_the_evaluated_images_count():
    data = _ground_truth()
    results = [r for r in _as_detections(data, ["cat", "dog"]) if r["image_id"] != 3]
    summary = evaluate_results(data, results, ["cat", "dog"], image_ids=[2, 1])
    assert summary.ap == pytest.approx(1.0) and summary.num_images == 2
    assert evaluate_results(data, results, ["cat", "dog"]).ap < 0.7


def test_missing_area_and_iscrowd_are_made_up():
    data = _ground_truth()
    results = _as_detections(data, ["cat", "dog"])
    for annotation in data["annotations"]:
        del annotation["area"], annotation["iscrowd"]
    before = json.dumps(data)
    assert evaluate_results(data, results, ["cat", "dog"]).ap == pytest.approx(1.0)
    assert json.dumps(data) == before  # left as it was


def test_records_become_coco():
    records = [
        SimpleNamespace(
            image_id="x",
            file_name="a/x.jpg",
            boxes=np.array([[1, 2, 11, 22], [0, 0, 5, 5]], np.float32),
            labels=np.array([2, 1], np.int32),
            crowd=np.array([False, True]),
        ),
        SimpleNamespace(
            image_id="empty",
            file_name="e.jpg",
            boxes=np.zeros((0, 4), np.float32),
            labels=np.zeros(0, np.int32),
            crowd=np.zeros(0, bool),
        ),
    ]
    data = coco_from_records(records, ["cat", "dog"])
    assert [image["id"] for image in data["images"]] == ["x", "empty"]
    first, second = data["annotations"]
    assert first["bbox"] == [1.0, 2.0, 10.0, 20.0] and first["area"] == 200.0
    assert (first["category_id"], second["iscrowd"]) == (2, 1)
    json.dumps(data)
    assert evaluate_results(data, _as_detections(data, ["cat", "dog"]), ["cat", "dog"]).ap > 0.999


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31), count=st.integers(0, 6), images=st.integers(1, 3))
def test_the_writer_keeps_valid_rows_only_and_their_values(seed, count, images):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 500, (images, count, 2, 2)).astype(np.float32)
    boxes = np.concatenate([corners.min(2), corners.max(2)], -1)
    scores = rng.random((images, count), np.float32)
    labels = rng.integers(1, 4, (images, count))
    valid = rng.random((images, count)) < 0.5
    ids = [f"image {i}" for i in range(images)]
    results = detections_to_results(ids, boxes, scores, labels, valid, [90, 5, 17])
    assert len(results) == valid.sum()
    where = np.argwhere(valid)
    for (i, k), result in zip(where, results, strict=True):
        x, y, w, h = result["bbox"]
        np.testing.assert_allclose([x, y, x + w, y + h], boxes[i, k], atol=2e-4)
        assert result["image_id"] == ids[i]
        assert result["category_id"] == [90, 5, 17][labels[i, k] - 1]
        assert result["score"] == scores[i, k]
    json.dumps(results, allow_nan=False)


def test_values_that_json_cannot_hold_are_left_out():
    boxes = np.array([[[0, 0, 5, 5], [np.nan, 0, 5, 5], [0, 0, np.inf, 5]]], np.float32)
    results = detections_to_results(
        [1], boxes, np.ones((1, 3)), np.ones((1, 3), int), np.ones((1, 3), bool), [1]
    )
    assert [result["bbox"] for result in results] == [[0, 0, 5, 5]]


def test_results_are_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new folder" / "results.json"
    write_results(path, [{"a": 1}])
    assert json.loads(path.read_text()) == [{"a": 1}]
    with pytest.raises(TypeError):
        write_results(path, [{"a": object()}])
    assert json.loads(path.read_text()) == [{"a": 1}]


def test_unwritable_results_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the results.*result_file"):
        write_results(tmp_path / "file" / "results.json", [])


def _broken(tmp_path, content):
    path = tmp_path / "annotations.json"
    path.write_text(content)
    return path


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "does not exist"),
        ("{", "is not valid JSON: line 1"),
        ("[]", "its top level is a list"),
        ('{"images": [], "annotations": []}', "has no 'categories'"),
        ('{"images": [], "annotations": {}, "categories": []}', "is a dict, not a list"),
        ("[" * 100000, "nested too deeply"),
        ('{"images": ' + "9" * 5000, "a number of too many digits"),
    ],
)
def test_unusable_annotation_files(tmp_path, content, message):
    path = tmp_path / "none.json" if content is None else _broken(tmp_path, content)
    with pytest.raises(UserError, match=message) as raised:
        load_ground_truth(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "where, change, message",
    [
        ("annotations", {"iscrowd": None}, "annotations.0. has iscrowd None"),
        ("annotations", {"bbox": None}, "annotations.0. has bbox None"),
        ("annotations", {"image_id": [1]}, "annotations.0. has image_id .1."),
        ("annotations", {"image_id": 5}, "none of its 1 annotations belongs to a listed image"),
        ("images", {"id": None}, "images.0. has id None"),
        ("images", {"id": 1.5}, "images.0. has id 1.5; it must be a whole number or a string"),
        ("images", {"id": float("nan")}, "images.0. has id nan"),
        ("images", {"id": True}, "images.0. has id True"),
        ("categories", {"id": None}, "categories.0. has id None"),
    ],
)
def test_entries_that_cannot_be_evaluated(tmp_path, where, change, message):
    data = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 1, 5, 5]}],
        "categories": [{"id": 7, "name": "cat"}],
    }
    data[where][0].update(change)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match=message):
        evaluate_results(path, [], ["cat"])


def test_entries_that_take_no_part_may_be_anything(tmp_path):
    box = [1, 1, 5, 5]
    data = {
        "images": [{"id": 1.0}],
        "annotations": [
            {"image_id": 1.0, "category_id": 7, "bbox": box},
            {"image_id": 1.0, "category_id": 8, "bbox": []},
            {"image_id": 2, "category_id": 7},
            {"image_id": 1.0, "category_id": 99},
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 8}],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data))
    result = {"image_id": 1, "category_id": 7, "bbox": box, "score": 0.9}
    assert evaluate_results(path, [result], ["cat"]).ap == pytest.approx(1.0)


def test_two_categories_of_one_name(tmp_path):
    data = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "cat"}],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match="have the name 'cat' .ids 7 and 9"):
        evaluate_results(path, [], ["cat"])


def test_a_path_that_cannot_be_written_is_known_before(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file/r.json"):
        with pytest.raises(UserError, match="cannot write the results"):
            check_result_path(path)
    check_result_path(tmp_path / "new/r.json")
    assert not (tmp_path / "new").exists()


def test_unknown_class_and_unknown_image():
    data = _ground_truth()
    with pytest.raises(UserError, match="no category named 'fox'.*cat, dog"):
        evaluate_results(data, [], ["fox"])
    with pytest.raises(UserError, match="no image with id 'other' .1 of 2"):
        evaluate_results(data, [], ["cat"], image_ids=[1, "other"])


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path):
    path = _broken(tmp_path, "\ufeff" + json.dumps(_ground_truth()))
    assert load_ground_truth(path) == _ground_truth()


@pytest.mark.parametrize("area", [None, "large", True, float("nan"), 10**400])
def test_an_area_that_is_no_number_is_computed(area):
    data = _ground_truth()
    results = _as_detections(data, ["cat", "dog"])
    expected = evaluate_results(data, results, ["cat", "dog"]).stats
    for annotation in data["annotations"]:
        annotation["area"] = area
    np.testing.assert_array_equal(evaluate_results(data, results, ["cat", "dog"]).stats, expected)


def test_category_ids_of_two_kinds():
    data = _ground_truth()
    expected = evaluate_results(data, _as_detections(data, ["cat"]), ["cat", "dog"])
    other = {category["id"]: category["id"] for category in data["categories"]}
    (dog,) = [category["id"] for category in data["categories"] if category["name"] == "dog"]
    other[dog] = "d"
    for entry in data["categories"]:
        entry["id"] = other[entry["id"]]
    for entry in data["annotations"]:
        entry["category_id"] = other[entry["category_id"]]
    summary = evaluate_results(data, _as_detections(data, ["cat"]), ["cat", "dog"])
    assert summary.per_class == expected.per_class and summary.ap == expected.ap


def _dense(count):
    """One image of `count` objects of a class, and all of them found."""
    boxes = [[20.0 * (i % 50), 20.0 * (i // 50), 15.0, 15.0] for i in range(count)]
    data = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": box, "iscrowd": 0}
            for i, box in enumerate(boxes, start=1)
        ],
        "categories": [{"id": 1, "name": "cell"}],
    }
    results = [
        {"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9 - i / 1000}
        for i, box in enumerate(boxes)
    ]
    return data, results


def test_as_many_detections_count_as_the_detector_gives():
    data, results = _dense(150)
    usual = evaluate_results(data, results, ["cell"], max_detections=10)
    assert usual.lines[0].endswith("maxDets=100 ] = 0.663")  # 100 of 150
    assert "of up to 150 detections" in usual.notes[0] and "to 150 to count" in usual.notes[0]
    more = evaluate_results(data, results, ["cell"], max_detections=150)
    assert more.ap == more.ap50 == more.stats[8] == 1.0
    assert more.per_class[0].ap == 1.0
    assert [line.count("maxDets=150") for line in more.lines] == [1] * 6 + [0, 0] + [1] * 4
    assert "maxDets=  1 " in more.lines[6] and "maxDets= 10 " in more.lines[7]
    assert more.notes == (
        "note: up to 150 detections of a class count in an image (test_max_per_img); with COCO's "
        "own 100 AP is 0.663",
    )


def test_the_table_is_that_of_pycocotools(bccd_root, capsys):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    path = bccd_root / "annotations" / "instances_val2017.json"
    data = load_ground_truth(path)
    names = [category["name"] for category in data["categories"]]
    random = np.random.default_rng(0)
    results = [
        {
            **result,
            "bbox": list(np.add(result["bbox"], random.normal(0, 4, 4).round(2))),
            "score": float(random.random()),
        }
        for result in _as_detections(data, names)
    ]
    summary = evaluate_results(path, results, names)
    truth = COCO(str(path))
    evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    capsys.readouterr()
    evaluation.summarize()
    assert list(summary.lines) == capsys.readouterr().out.splitlines()
    np.testing.assert_allclose(summary.stats, evaluation.stats, rtol=1e-15)
    assert summary.report()[:12] == list(summary.lines)


def test_a_class_without_a_category_is_not_judged():
    data = _ground_truth()
    names = ["cat", "fox", "dog"]
    ids = category_ids_of(data, names)
    assert ids == [7, None, 3]
    boxes = np.full((1, 2, 4), 5.0, np.float32)
    labels = np.array([[2, 3]])
    found = detections_to_results([1], boxes, boxes[..., 0], labels, labels > 0, ids)
    assert [result["category_id"] for result in found] == [3]
    summary = evaluate_results(data, _as_detections(data, names), names, name="val.json")
    assert summary.ap == pytest.approx(1.0)
    assert summary.table()[2].split() == ["fox", "0", "0", "-", "-"]
    assert "val.json has no category named 'fox'" in summary.notes[0]
    assert '{"id": ..., "name": "fox"}' in summary.notes[0]


def test_a_category_of_another_spelling_is_no_missing_one():
    data = _ground_truth(categories=((7, "cat"), (3, "Traffic light")))
    with pytest.raises(UserError, match="'traffic light' .it has cat, Traffic light"):
        category_ids_of(data, ["cat", "traffic light"])
    data["categories"].append({"id": 9, "name": ["no", "text"]})
    assert category_ids_of(data, ["cat", "Traffic light"]) == [7, 3]


def test_nothing_to_judge_by(tmp_path):
    data = _ground_truth()
    results = _as_detections(data, ["cat", "dog"])
    del data["annotations"]
    path = _broken(tmp_path, json.dumps(data))
    summary = evaluate_results(path, results, ["cat", "dog"])
    assert summary.report() == [f"note: {path} has no box to judge by: no numbers"]


def test_whole_numbers_are_ids_however_they_are_written(tmp_path):
    data = _ground_truth()
    for entry in (*data["images"], *data["categories"]):
        entry["id"] = float(entry["id"])
    for entry in data["annotations"][::2]:
        entry["image_id"] = float(entry["image_id"])
    read = load_ground_truth(_broken(tmp_path, json.dumps(data)))
    assert read == _ground_truth() and all(type(i["id"]) is int for i in read["images"])


@pytest.mark.parametrize("key", ["images", "categories"])
def test_an_id_given_twice(tmp_path, key):
    data = _ground_truth()
    data[key][1]["id"] = data[key][0]["id"]
    with pytest.raises(UserError, match=rf"{key}.1. repeats the id \d of {key}.0."):
        load_ground_truth(_broken(tmp_path, json.dumps(data)))


def test_results_never_replace_a_device(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/null", tmp_path / "pipe"):
        with pytest.raises(UserError, match="pipe, socket or device"):
            check_result_path(path)
