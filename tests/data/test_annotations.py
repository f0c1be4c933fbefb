# SPDX-License-Identifier: Apache-2.0
"""Annotation files -> records: equal for both formats, and every bad input is one clear line."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.base.errors import UserError
from src.data.coco_annotations import read_coco
from src.data.records import AnnotationReport, ImageRecord, fit_boxes, limit_boxes
from src.data.txt_annotations import read_txt
from tests.helpers.data_helpers import CLASSES, coco_dict, write_json


def coco(tmp_path, content, classes=CLASSES, keep_empty=True, max_boxes=0):
    path = write_json(tmp_path / "anno.json", content)
    return read_coco(path, str(tmp_path), classes, keep_empty=keep_empty, max_boxes=max_boxes)


def txt(tmp_path, text, classes=CLASSES, keep_empty=True, max_boxes=0):
    path = tmp_path / "anno.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_txt(str(path), str(tmp_path), classes, keep_empty=keep_empty, max_boxes=max_boxes)


def make_record(boxes, labels=None, crowd=None) -> ImageRecord:
    count = len(boxes)
    return ImageRecord(
        image_id=1,
        file_name="a.jpg",
        image_path="/a.jpg",
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.ones(count, np.int32) if labels is None else np.array(labels, np.int32),
        crowd=np.zeros(count, bool) if crowd is None else np.array(crowd, bool),
    )


# ------------------------------------------------------------------ the two formats agree


def class_names(path):
    return [category["name"] for category in json.loads(path.read_text())["categories"]]


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_txt_equals_coco_on_bccd(bccd_root, split):
    anno = bccd_root / "annotations" / f"instances_{split}.json"
    names = class_names(anno)
    a, report_a = read_coco(str(anno), str(bccd_root / split), names, keep_empty=True)
    b, report_b = read_txt(str(bccd_root / f"{split}.txt"), str(bccd_root), names, keep_empty=True)
    assert [r.image_path for r in a] == [r.image_path for r in b]
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.crowd, other.crowd)
    assert (report_a.num_images, report_a.num_boxes) == (report_b.num_images, report_b.num_boxes)
    assert report_a.counts == report_b.counts == {}


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_txt_equals_rounded_coco_on_coco128(coco128_root, split):
    """Its TXT holds whole pixels: the records are those of the JSON, rounded."""
    anno = coco128_root / "annotations" / f"instances_{split}.json"
    names = class_names(anno)
    a, _ = read_coco(str(anno), str(coco128_root / split), names, keep_empty=True)
    path = str(coco128_root / f"{split}.txt")
    b, _ = read_txt(path, str(coco128_root), names, keep_empty=True)
    assert [r.image_path for r in a] == [r.image_path for r in b]
    assert sum(len(r.labels) for r in a) > 800
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(np.rint(one.boxes), other.boxes)
        np.testing.assert_array_equal(one.labels, other.labels)


# ------------------------------------------------------------------ COCO


def test_coco_record(tmp_path):
    records, report = coco(tmp_path, coco_dict())
    (record,) = records
    assert record.image_id == 1 and record.file_name == "a.jpg"
    assert record.image_path == str(tmp_path / "a.jpg")
    assert record.boxes.dtype == np.float32 and record.labels.dtype == np.int32
    np.testing.assert_array_equal(record.boxes, [[10, 20, 40, 60], [1.5, 2.25, 10, 11.25]])
    np.testing.assert_array_equal(record.labels, [1, 2])  # by name: cat has category id 7
    np.testing.assert_array_equal(record.crowd, [False, False])
    assert record.stated_size == (80, 100)
    assert report.lines() == [f"{tmp_path / 'anno.json'}: 1 image, 2 boxes"]


def test_coco_subset_and_order_of_classes(tmp_path):
    records, report = coco(tmp_path, coco_dict(), classes=("dog",))
    np.testing.assert_array_equal(records[0].labels, [1])
    np.testing.assert_array_equal(records[0].boxes, [[1.5, 2.25, 10, 11.25]])
    assert report.counts == {"other_class": 1}
    records, _ = coco(tmp_path, coco_dict(), classes=("dog", "cat"))
    np.testing.assert_array_equal(records[0].labels, [2, 1])


def test_coco_200_classes_with_odd_ids(tmp_path):
    names = [f"class {k}" for k in range(200)]
    content = coco_dict(
        annotations=[
            {"image_id": 1, "category_id": f"id{k}", "bbox": [k, 1, 2, 3]} for k in (0, 199, 77)
        ],
        categories=[{"id": f"id{k}", "name": names[k]} for k in reversed(range(200))],
    )
    records, _ = coco(tmp_path, content, classes=names)
    np.testing.assert_array_equal(records[0].labels, [1, 200, 78])


def test_coco_ids_and_names_of_every_kind(tmp_path):
    images = [
        {"id": -3, "file_name": "x/y.z/a b.tar.jpg"},
        {"id": "9", "file_name": "q.png"},
        {"id": 9, "file_name": "ü.jpg", "width": "?"},
        {"id": 2**60, "file_name": "last.jpg"},
    ]
    records, _ = coco(tmp_path, coco_dict(images, []))
    assert [r.image_id for r in records] == [-3, "9", 9, 2**60]
    assert records[0].image_path == str(tmp_path / "x/y.z/a b.tar.jpg")
    assert records[2].stated_size is None


def test_coco_findings_are_counted_with_examples(tmp_path):
    boxes = [[0, 0, 0, 5], [0, 0, 5, -1], [float("nan"), 0, 5, 5], [0, 0, float("inf"), 5]]
    boxes += [[1e39, 0, 5, 5], [10**400, 0, 5, 5], [3, 3, 5, 5]]
    content = coco_dict(
        annotations=[{"image_id": 1, "category_id": 7, "bbox": box} for box in boxes]
        + [{"image_id": 99, "category_id": 7, "bbox": [0, 0, 1, 1]}] * 5
    )
    records, report = coco(tmp_path, content)
    np.testing.assert_array_equal(records[0].boxes, [[3, 3, 8, 8]])
    assert report.counts == {"degenerate": 2, "non_finite": 4, "unknown_image": 5}
    text = "\n".join(report.lines())
    assert "2 boxes without a positive width" in text and "a.jpg [0, 0, 0, 5]" in text
    assert "5 annotations of images that the file does not list" in text
    assert len(report.examples["unknown_image"]) == 3


def test_images_without_boxes(tmp_path):
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in (1, 2, 3)]
    content = coco_dict(
        images,
        [
            {"image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1]},
            {"image_id": 2, "category_id": 3, "bbox": [0, 0, 1, 1], "iscrowd": 1},
        ],
    )
    records, report = coco(tmp_path, content, keep_empty=True)
    assert [r.image_id for r in records] == [1, 2, 3] and not report.counts
    assert records[2].boxes.shape == (0, 4)
    records, report = coco(tmp_path, content, keep_empty=False)
    assert [r.image_id for r in records] == [1]  # a crowd region alone teaches nothing
    assert report.counts == {"empty_image": 2}


def test_largest_boxes_are_kept_in_order(tmp_path):
    sizes = [3, 9, 1, 7, 5]
    content = coco_dict(
        annotations=[{"image_id": 1, "category_id": 3, "bbox": [0, 0, s, s]} for s in sizes]
    )
    records, report = coco(tmp_path, content, max_boxes=3)
    assert records[0].boxes[:, 2].tolist() == [9, 7, 5]
    assert report.counts == {"too_many": 2} and report.num_boxes == 3


def test_crowd_regions_give_way_to_objects():
    record = make_record([[0, 0, 9, 9], [0, 0, 1, 1], [0, 0, 2, 2]], crowd=[True, False, False])
    kept = limit_boxes(record, 2, AnnotationReport())
    assert kept.crowd.tolist() == [False, False]


def test_fit_boxes_clips_and_drops():
    report = AnnotationReport()
    record = make_record([[-5, 2, 8, 90], [1, 1, 4, 4], [100, 0, 120, 9], [0, 80, 9, 99]])
    fitted = fit_boxes(record, 80, 100, report)
    np.testing.assert_array_equal(fitted.boxes, [[0, 2, 8, 80], [1, 1, 4, 4]])
    assert report.counts == {"clipped": 1, "outside": 2}


BAD_COCO = {
    "not json": ('{"images": [', "not valid JSON: line 1"),
    "empty file": ("", "not valid JSON"),
    "not utf-8": (b'{"images": "\xff\xfe"}', "not UTF-8"),
    "a list": ("[1, 2]", "its top level is a list"),
    "deeply nested": ("[" * 200000, "nested too deeply"),
    "no images": (json.dumps({"annotations": [], "categories": []}), "has no 'images'"),
    "no annotations": (json.dumps({"images": [], "categories": []}), "has no 'annotations'"),
    "no categories": (json.dumps({"images": [], "annotations": []}), "has no 'categories'"),
    "images is an object": (
        json.dumps({"images": {}, "annotations": [], "categories": []}),
        "'images' is a dict, not a list",
    ),
    "image is a number": (json.dumps(coco_dict(images=[5])), "images[0] is 5, not an object"),
    "no image at all": (json.dumps(coco_dict(images=[])), "lists no images"),
    "image without id": (json.dumps(coco_dict([{"file_name": "a.jpg"}])), "images[0] has no 'id'"),
    "image id is a float": (
        json.dumps(coco_dict([{"id": 1.5, "file_name": "a.jpg"}])),
        "images[0] has id 1.5",
    ),
    "image id is true": (
        json.dumps(coco_dict([{"id": True, "file_name": "a.jpg"}])),
        "images[0] has id True",
    ),
    "image without name": (json.dumps(coco_dict([{"id": 1}])), "has file_name None"),
    "image id twice": (
        json.dumps(coco_dict([{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}])),
        "images[1] repeats image id 1 (of 'a.jpg')",
    ),
    "category without name": (json.dumps(coco_dict(categories=[{"id": 3}])), "has name None"),
    "category id twice": (
        json.dumps(coco_dict(categories=[{"id": 3, "name": "cat"}, {"id": 3, "name": "dog"}])),
        "categories[1] repeats id 3",
    ),
    "category name twice": (
        json.dumps(coco_dict(categories=[{"id": 3, "name": "cat"}, {"id": 7, "name": "cat"}])),
        "categories[1] repeats the name 'cat'",
    ),
    "class missing": (
        json.dumps(coco_dict(categories=[{"id": 3, "name": "cats"}, {"id": 7, "name": "dog"}])),
        "class 'cat' of coco_classes is not among the categories of {path}; did you mean 'cats'?",
    ),
    "annotation without image": (
        json.dumps(coco_dict(annotations=[{"category_id": 3, "bbox": [0, 0, 1, 1]}])),
        "annotations[0] has no 'image_id'",
    ),
    "annotation without box": (
        json.dumps(coco_dict(annotations=[{"image_id": 1, "category_id": 3}])),
        "annotations[0] has bbox None",
    ),
    "box of three": (
        json.dumps(coco_dict(annotations=[{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3]}])),
        "has bbox [1, 2, 3]; it must be four numbers",
    ),
    "box of text": (
        json.dumps(
            coco_dict(annotations=[{"image_id": 1, "category_id": 3, "bbox": ["1", 2, 3, 4]}])
        ),
        "it must be four numbers",
    ),
    "unknown category": (
        json.dumps(
            coco_dict(annotations=[{"image_id": 1, "category_id": 4, "bbox": [1, 2, 3, 4]}])
        ),
        "has category_id 4, which no category has",
    ),
    "iscrowd of 2": (
        json.dumps(
            coco_dict(
                annotations=[{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 2}]
            )
        ),
        "has iscrowd 2; it must be 0 or 1",
    ),
    "ids of other kinds": (
        json.dumps(
            coco_dict(annotations=[{"image_id": "1", "category_id": 3, "bbox": [1, 2, 3, 4]}])
        ),
        "none of its 1 annotations belongs to a listed image",
    ),
}


@pytest.mark.parametrize("case", BAD_COCO)
def test_bad_coco_is_one_clear_line(tmp_path, case):
    content, expected = BAD_COCO[case]
    path = tmp_path / "anno.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        read_coco(str(path), str(tmp_path), CLASSES, keep_empty=True)
    message = str(caught.value)
    assert expected.replace("{path}", str(path)) in message
    assert str(path) in message and "\n" not in message


def test_training_file_without_boxes_is_an_error(tmp_path):
    with pytest.raises(UserError, match="none of its images has a usable box"):
        coco(tmp_path, coco_dict(annotations=[]), keep_empty=False)


@pytest.mark.parametrize("reader", [read_coco, read_txt])
def test_missing_file_and_folder(tmp_path, reader):
    with pytest.raises(UserError, match="gone.json does not exist"):
        reader(str(tmp_path / "gone.json"), "", CLASSES, keep_empty=True)
    with pytest.raises(UserError, match="is a folder"):
        reader(str(tmp_path), "", CLASSES, keep_empty=True)


# ------------------------------------------------------------------ TXT


def test_txt_rows(tmp_path):
    text = "\ufeffd/a b.jpg 1,2,3,4,1 5.5,6,7e0,8,2,1\r\n\n d/c.JPEG  \n"
    records, report = txt(tmp_path, text)
    assert [r.file_name for r in records] == ["d/a b.jpg", "d/c.JPEG"]
    assert [r.image_id for r in records] == ["a b", "c"]
    np.testing.assert_array_equal(records[0].boxes, [[1, 2, 3, 4], [5.5, 6, 7, 8]])
    assert records[0].labels.tolist() == [1, 2] and records[0].crowd.tolist() == [False, True]
    assert records[1].boxes.shape == (0, 4)
    assert report.num_crowd == 1 and "(1 of them a crowd region)" in report.lines()[0]


def test_txt_names_that_look_difficult(tmp_path):
    text = "a.jpg copy, 2.png 1,2,3,4,1\nnosuffix 1,2,3,4,2\nx y,z.jpg\n"
    records, _ = txt(tmp_path, text)
    assert [r.file_name for r in records] == ["a.jpg copy, 2.png", "nosuffix", "x y,z.jpg"]
    assert [len(r.labels) for r in records] == [1, 1, 0]


def test_txt_ids_are_paths_where_names_repeat(tmp_path):
    records, _ = txt(tmp_path, "a/1.jpg 1,2,3,4,1\nb/1.jpg 1,2,3,4,1\n")
    assert [r.image_id for r in records] == ["a/1.jpg", "b/1.jpg"]


def test_txt_findings(tmp_path):
    records, report = txt(tmp_path, "a.jpg 5,5,5,9,1 nan,1,2,3,1 9,9,1,1,1 0,0,inf,3,1 1,1,2,2,1")
    np.testing.assert_array_equal(records[0].boxes, [[1, 1, 2, 2]])
    assert report.counts == {"degenerate": 2, "non_finite": 2}


BAD_TXT = {
    "four fields": ("a.jpg 1,2,3,4", "line 1: box '1,2,3,4' has 4 fields"),
    "seven fields": ("a.jpg 1,2,3,4,1,0,0", "has 7 fields"),
    "other separator": ("a.jpg 1;2;3;4;1", "box '1;2;3;4;1' has 1 fields"),
    "not a number": ("a.jpg 1,x,3,4,1", "has a coordinate that is not a number"),
    "empty coordinate": ("a.jpg 1,,3,4,1", "has a coordinate that is not a number"),
    "class name": ("a.jpg 1,2,3,4,cat", "has class 'cat'; give the class's number, 1 to 2"),
    "class 0": ("ok.jpg 1,2,3,4,1\na.jpg 1,2,3,4,0", "line 2: box '1,2,3,4,0' has class 0"),
    "class too high": ("a.jpg 1,2,3,4,3", "classes are numbered 1 to 2"),
    "negative class": ("a.jpg 1,2,3,4,-1", "has class -1"),
    "crowd of 5": ("a.jpg 1,2,3,4,1,5", "has iscrowd '5'; it must be 0 or 1"),
    "no name": ("1,2,3,4,1 1,2,3,4,1", "not with an image's file name"),
    "image twice": ("a.jpg 1,2,3,4,1\nb.jpg\na.jpg 1,2,3,4,1", "line 3: image 'a.jpg' was already"),
    "nothing": ("\n  \n", "no row with an image"),
    "not utf-8": (b"\xff\xfe a.jpg", "not UTF-8"),
}


@pytest.mark.parametrize("case", BAD_TXT)
def test_bad_txt_is_one_clear_line(tmp_path, case):
    text, expected = BAD_TXT[case]
    with pytest.raises(UserError) as caught:
        txt(tmp_path, text)
    message = str(caught.value)
    assert expected in message and str(tmp_path / "anno.txt") in message and "\n" not in message


coordinate = st.floats(-1e4, 1e4, width=32)
side = st.floats(0.5, 1e4, width=32)
word = st.text(st.characters(categories=("L", "N"), include_characters="._-"), min_size=1)
box = st.tuples(coordinate, coordinate, side, side, st.integers(1, 2), st.booleans())


@settings(max_examples=60)
@given(
    rows=st.lists(
        st.tuples(st.lists(word, min_size=1, max_size=3), st.lists(box, max_size=4)),
        min_size=1,
        max_size=4,
        unique_by=lambda row: tuple(row[0]),
    )
)
def test_txt_gives_back_what_was_written(tmp_path_factory, rows):
    lines = []
    for words, boxes in rows:
        fields = [
            f"{x!r},{y!r},{x + w!r},{y + h!r},{label}" + (",1" if crowd else "")
            for x, y, w, h, label, crowd in boxes
        ]
        lines.append(" ".join([" ".join(words) + ".jpg", *fields]))
    records, _ = txt(tmp_path_factory.mktemp("txt"), "\n".join(lines))
    for record, (words, boxes) in zip(records, rows, strict=True):
        assert record.file_name == " ".join(words) + ".jpg"
        expected = [[x, y, x + w, y + h] for x, y, w, h, _, _ in boxes]
        np.testing.assert_array_equal(record.boxes, np.array(expected, np.float32).reshape(-1, 4))
        assert record.labels.tolist() == [b[4] for b in boxes]
        assert record.crowd.tolist() == [b[5] for b in boxes]


@settings(max_examples=150)
@given(text=st.text(st.sampled_from("a.jpg ,0123456789-+enai\n\t\r"), max_size=60))
def test_any_txt_is_read_or_refused_in_one_line(tmp_path_factory, text):
    try:
        records, _ = txt(tmp_path_factory.mktemp("txt"), text)
    except UserError as error:
        assert "\n" not in str(error)
        return
    for record in records:
        assert np.isfinite(record.boxes).all() and record.file_name.strip()
        assert (record.boxes[:, 2:] > record.boxes[:, :2]).all()
