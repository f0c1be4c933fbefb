# SPDX-License-Identifier: Apache-2.0
"""Boxes and ids that are written in another way than they are read are recognised and named."""

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from src.base.errors import UserError
from src.data.annotation_clues import FrameClues, WritingClues
from src.data.coco_annotations import read_coco
from src.data.mindrecord import ensure_mindrecord
from src.data.records import AnnotationReport, ImageRecord, clean_boxes
from src.data.txt_annotations import read_txt
from tests.helpers.data_helpers import (
    ANNO,
    CLASSES,
    coco_dict,
    edit_json,
    make_coco_root,
    make_config,
    picture,
    write_json,
)


def coco(tmp_path, content, classes=CLASSES, **options):
    path = write_json(tmp_path / "anno.json", content)
    return read_coco(path, str(tmp_path), classes, **{"keep_empty": True, **options})


def txt(tmp_path, text):
    path = tmp_path / "anno.txt"
    path.write_text(text)
    return read_txt(str(path), str(tmp_path), CLASSES, keep_empty=True)


def with_boxes(*boxes, **more):
    return coco_dict(
        annotations=[{"image_id": 1, "category_id": 3, "bbox": list(b), **more} for b in boxes]
    )


def record(boxes, stated_size=None):
    count = len(boxes)
    return ImageRecord(
        1,
        "a.jpg",
        "/a.jpg",
        np.array(boxes, np.float64).reshape(-1, 4),
        np.ones(count, np.int32),
        np.zeros(count, bool),
        stated_size,
    )


# ------------------------------------------------------------------ ways of writing boxes


def test_fractions_are_reported_and_nothing_else_is_an_error(tmp_path):
    _, report = coco(tmp_path, with_boxes([0.1, 0.2, 0.3, 0.25], [5, 5, 20, 20]))
    assert report.counts == {"fractions": 1}
    assert "looks like fractions of its size" in "".join(report.lines())
    with pytest.raises(UserError, match="no box is in pixels; 1 box .*multiply x by the image's"):
        coco(tmp_path, with_boxes([0.1, 0.2, 0.3, 0.25], [5, 5, 0, 20]))
    with pytest.raises(UserError, match="look like fractions"):
        txt(tmp_path, "a.jpg 0.5,0.5,0.25,0.25,1\nb.jpg 0.1,0.2,0.3,0.4,1")  # centres and corners
    _, report = coco(tmp_path, with_boxes([0, 0, 1, 1]))  # one pixel
    assert not report.counts


def test_width_and_height_in_place_of_the_other_corner(tmp_path):
    rows = [f"{i}.jpg {x},{y},20,30,1" for i, (x, y) in enumerate([(5, 6), (60, 3), (40, 50)])]
    _, report = txt(tmp_path, "\n".join(rows))
    assert report.counts == {"degenerate": 2, "width_height": 2}
    with pytest.raises(UserError, match=r"look like x,y,width,height: boxes .*\[60, 3"):
        txt(tmp_path, "\n".join(rows[1:]))
    slip = "a.jpg 9,9,1,1,1 " + "1,1,5,5,1 " * 5
    assert txt(tmp_path, slip)[1].counts == {"degenerate": 1}


def test_every_box_degenerate_names_the_cause(tmp_path):
    for options in ({"keep_empty": False}, {"keep_empty": True}):
        with pytest.raises(UserError, match=r"1 box without a positive .*a.jpg \[3, 4, 3, 9"):
            coco(tmp_path, with_boxes([3, 4, 0, 5]), **options)


def test_corners_in_place_of_width_and_height():
    for boxes, expected in (
        ([[10, 10, 90, 70], [50, 40, 80, 60], [30, 5, 99, 20]], {"corners": 2}),
        ([[10, 10, 90, 70], [50, 40, 20, 10], [30, 5, 99, 20]], {}),  # 20 is no xmax
    ):
        report = AnnotationReport()
        clues = FrameClues(report, corners=False)
        read_as = [[x, y, x + w, y + h] for x, y, w, h in boxes]
        clues.look(clean_boxes(record(read_as), report), 80, 100)
        clues.tell()
        assert report.counts == expected


def test_boxes_in_the_frame_before_the_rotation(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    stream = io.BytesIO()
    Image.fromarray(picture(40, 60)).save(stream, "JPEG", exif=exif.tobytes())
    (tmp_path / "train2017").mkdir()
    (tmp_path / "train2017" / "p.jpg").write_bytes(stream.getvalue())
    image = {"id": 1, "file_name": "p.jpg", "width": 60, "height": 40}
    write_json(tmp_path / ANNO, {**with_boxes([2, 5, 20, 20], [35, 5, 20, 30]), "images": [image]})
    lines = "".join(ensure_mindrecord(make_config(tmp_path), "train").report.lines())
    assert "1 image whose boxes fit the picture as it is stored" in lines and "exiftool" in lines
    assert "p.jpg is shown as 40x60, a box ends at 55,35" in lines
    write_json(tmp_path / ANNO, {**with_boxes([45, 5, 10, 30]), "images": [image]})
    with pytest.raises(UserError, match="no usable image is left.*EXIF rotation"):
        ensure_mindrecord(make_config(tmp_path), "train")


number = st.floats(allow_nan=True, allow_infinity=True)


@given(
    boxes=st.lists(st.tuples(number, number, number, number), max_size=5),
    corners=st.booleans(),
    size=st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
)
def test_any_boxes_may_be_looked_at(boxes, corners, size):
    report = AnnotationReport()
    with np.errstate(all="raise", over="ignore", under="ignore"):
        written = record(boxes, size)
        kept = clean_boxes(written, report)
        writing, frame = (kind(report, corners=corners) for kind in (WritingClues, FrameClues))
        writing.look(written, kept)
        frame.look(kept, *size)
        writing.tell()
        frame.tell()
    assert all("\n" not in line for line in report.lines())


# ------------------------------------------------------------------ ids, names, flags


def test_one_picture_under_two_ids(tmp_path):
    images = [{"id": i, "file_name": name} for i, name in enumerate(("a.jpg", "b.jpg", "./a.jpg"))]
    _, report = coco(tmp_path, {**with_boxes(), "images": images})
    assert report.counts == {"same_picture": 1}
    assert report.examples["same_picture"] == ["./a.jpg (ids 0 and 2)"]


def test_images_outside_the_folder_are_reported(tmp_path):
    images = [{"id": i, "file_name": n} for i, n in enumerate(("/etc/a.jpg", "../b.jpg", "c/../d"))]
    _, report = coco(tmp_path, {**with_boxes(), "images": images})
    assert report.examples["outside_folder"] == ["/etc/a.jpg", "../b.jpg"]


def test_ids_of_two_kinds(tmp_path):
    content = with_boxes([1, 1, 5, 5])
    content["annotations"].append({**content["annotations"][0], "image_id": "1"})
    _, report = coco(tmp_path, content)
    assert report.counts == {"mixed_ids": 1} and "write both alike" in "".join(report.lines())
    content["annotations"][0]["image_id"] = "1"
    with pytest.raises(UserError, match="one is a text and the other a number"):
        coco(tmp_path, content)
    content = with_boxes([1, 1, 5, 5], category_id="3")
    with pytest.raises(UserError, match="category_id '3'.*the category's id is 3: write both"):
        coco(tmp_path, content)


def test_whole_numbers_are_ids_however_they_are_written(tmp_path):
    content = json.loads(json.dumps(with_boxes([1, 1, 5, 5]).copy()))
    content["images"][0]["id"] = 1.0
    content["annotations"][0].update(image_id=1, category_id=3.0)
    content["categories"][0]["id"] = 3.0
    records, report = coco(tmp_path, content)
    assert records[0].image_id == 1 and isinstance(records[0].image_id, int)
    assert len(records[0].labels) == 1 and not report.counts
    records, _ = txt(tmp_path, "a.jpg 1,1,5,5,2.0,1.0")
    assert records[0].labels.tolist() == [2] and records[0].crowd.tolist() == [True]


def test_ignore_is_said_to_have_no_effect(tmp_path):
    records, report = coco(tmp_path, with_boxes([1, 1, 5, 5], ignore=1))
    assert report.counts == {"ignore": 1} and "set iscrowd to 1" in "".join(report.lines())
    assert not records[0].crowd.any()


# ------------------------------------------------------------------ categories


def test_an_unused_category_of_the_same_name_is_none(tmp_path):
    categories = [{"id": i, "name": name} for i, name in enumerate(("cat", "dog", "x", "cat"))]
    content = {**with_boxes([1, 1, 5, 5], category_id=3), "categories": categories}
    assert coco(tmp_path, content)[0][0].labels.tolist() == [1]
    content["annotations"].append({"image_id": 1, "category_id": 0, "bbox": [1, 1, 2, 2]})
    with pytest.raises(UserError, match=r"the name 'cat' \(ids 0 and 3\); merge them, or delete"):
        coco(tmp_path, content)


def test_class_names_are_compared_in_one_unicode_form(tmp_path):
    categories = [{"id": 3, "name": "cafe\u0301"}, {"id": 7, "name": "\u00fc"}]
    content = {**with_boxes([1, 1, 5, 5]), "categories": categories}
    records, _ = coco(tmp_path, content, classes=("caf\u00e9", "u\u0308"))
    assert records[0].labels.tolist() == [1]


def test_what_a_file_for_evaluation_may_lack(tmp_path):
    content = {**with_boxes([1, 1, 5, 5]), "categories": [{"id": 3, "name": "dog"}]}
    with pytest.raises(UserError, match="class 'cat' of coco_classes.*the file has: dog"):
        coco(tmp_path, content)
    _, report = coco(tmp_path, content, to_learn=False)
    assert report.counts == {"missing_class": 1}
    for names in (("dog", "cats"), ("x", "y")):
        categories = [{"id": i, "name": name} for i, name in enumerate(names, start=3)]
        with pytest.raises(UserError, match="class 'cat'"):
            coco(tmp_path, {**content, "categories": categories}, to_learn=False)
    del content["annotations"]
    records, _ = coco(tmp_path, content, to_learn=False)
    assert len(records) == 1
    with pytest.raises(UserError, match="has no 'annotations'"):
        coco(tmp_path, content)


# ------------------------------------------------------------------ the configuration


def test_the_number_that_keeps_all_boxes_is_named(tmp_path):
    root = make_coco_root(tmp_path)
    boxes = [{"image_id": 5, "category_id": 3, "bbox": [k, 1, 9, 9]} for k in range(19)]
    edit_json(root / ANNO, lambda content: content["annotations"].extend(boxes))
    lines = "".join(ensure_mindrecord(make_config(root), "train").report.lines())
    assert "12 boxes beyond the 8 largest of an image" in lines and "num_gts to 20" in lines
    whole = ensure_mindrecord(make_config(root, num_gts=20), "train")
    assert "too_many" not in whole.report.counts


def test_keys_without_effect_are_named(tmp_path, capsys):
    root = make_coco_root(tmp_path)
    for key, split, expected in (
        ("image_dir", "train", "images are in coco_root"),
        ("anno_path", "train", "is the validation file alone"),
    ):
        ensure_mindrecord(make_config(root, **{key: str(tmp_path / key)}), split)
        (note,) = (x for x in capsys.readouterr().out.splitlines() if x.startswith("note:"))
        assert key in note and expected in note
    with pytest.raises(UserError, match="has no part 'gone'.*image_dir 'x' has no effect"):
        ensure_mindrecord(make_config(root, image_dir="x", train_data_type="gone"), "train")


def test_a_split_may_be_a_path(tmp_path):
    make_coco_root(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "train2017").rename(tmp_path / "images" / "train2017")
    config = make_config(tmp_path, train_data_type="images/train2017")
    assert ensure_mindrecord(config, "train").num_images == 7
