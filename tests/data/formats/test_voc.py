# SPDX-License-Identifier: Apache-2.0
"""VOC's files: what corners are, what is difficult, and XML that is refused."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.base.errors import UserError
from src.data.formats.part import ReadOptions
from src.data.formats.voc import voc_parts
from src.data.formats.voc_xml import parse_xml, read_voc_file
from tests.helpers import format_samples as samples
from tests.helpers.format_samples import TRAIN, Truth, add_picture, voc_text, write

BOX = Truth("a_1", ((0, 4, 8, 36, 40),))


def read(root, **options):
    (part,) = voc_parts(str(root), ReadOptions(**options))
    return part.records(["cat"], keep_empty=True, max_boxes=0, to_learn=True)


def make(root, text):
    add_picture(root / "JPEGImages", "a_1")
    return write(root / "Annotations/a_1.xml", text)


@pytest.mark.parametrize(
    "database, corners, box",
    [
        ("The VOC2007 Database", "auto", [3, 7, 36, 40]),
        ("Unknown", "auto", [4, 8, 36, 40]),
        ("Unknown", "pixels", [3, 7, 36, 40]),
        ("The VOC2007 Database", "edges", [4, 8, 36, 40]),
    ],
)
def test_what_corners_are(tmp_path, database, corners, box):
    make(tmp_path, voc_text(BOX, database=database))
    records, _ = read(tmp_path, voc_corners=corners)
    np.testing.assert_array_equal(records[0].boxes, [box])
    assert records[0].stated_size == (samples.HEIGHT, samples.WIDTH)


@pytest.mark.parametrize("choice, crowd", [("ignore", True), ("keep", False)])
def test_difficult_objects(tmp_path, choice, crowd):
    make(tmp_path, voc_text(BOX, difficult=1))
    records, _ = read(tmp_path, voc_difficult=choice)
    assert records[0].crowd.tolist() == [crowd]


BOMB = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]>
<annotation><filename>&y;</filename></annotation>"""


@pytest.mark.parametrize(
    "text, message",
    [
        (BOMB, "has a document type .* take it out"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "has a document type"),
        ("<annotation><object>", "is not XML: no element found|is not XML"),
        ("", "is not XML"),
        ("<a>" * 100 + "</a>" * 100, "nested too deeply"),
        (
            '<?xml version="1.0" encoding="klingon"?><annotation/>',
            "is not XML: unknown encoding|XML",
        ),
        (voc_text(BOX).replace("<name>cat</name>", ""), "object 1 has no <name>"),
        (voc_text(BOX).replace("bndbox", "box"), r"object 1 \('cat'\) has no <bndbox>"),
        (voc_text(BOX).replace(">36<", ">wide<"), "object 1 has <xmax> 'wide'"),
    ],
)
def test_files_that_are_refused(tmp_path, text, message):
    path = make(tmp_path, text)
    with pytest.raises(UserError, match=message) as caught:
        read_voc_file(str(path))
    assert str(path) in str(caught.value)


def test_undeclared_entities_are_no_text():
    with pytest.raises(UserError, match="undefined entity"):
        parse_xml(b"<a>&lol;</a>", "x.xml")


@given(st.integers(0, 400), st.integers(0, 60), st.binary(max_size=20))
def test_any_file_is_read_or_refused_in_one_line(tmp_path_factory, start, length, instead):
    text = voc_text(BOX).encode()
    path = tmp_path_factory.getbasetemp() / "any.xml"
    path.write_bytes(text[:start] + instead + text[start + length :])
    with contextlib.suppress(UserError):
        file = read_voc_file(str(path))
        assert all(len(item.corners) == 4 and item.name for item in file.objects)


def test_a_file_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr("src.data.formats.voc_xml._LARGEST_FILE", 100)
    with pytest.raises(UserError, match="of at most"):
        read_voc_file(str(make(tmp_path, voc_text(BOX))))


@pytest.mark.parametrize(
    "row, message",
    [
        ("../../secret", r"train.txt, line 1: '../../secret' leads out of the data's folder"),
        ("/etc/passwd", "leads out"),
        ("C:\\data\\a_1", "leads out"),
        ("a_1\na_1", "'a_1' is listed twice"),
        ("", "no picture is listed"),
    ],
)
def test_lists_that_are_refused(tmp_path, row, message):
    make(tmp_path, voc_text(BOX))
    write(tmp_path / "ImageSets/Main/train.txt", row)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


@pytest.mark.parametrize("row", ["a_1", '"a_1"', "a_1.jpg", "a_1  1", "./a_1"])
def test_rows_of_lists(tmp_path, row):
    make(tmp_path, voc_text(BOX))
    write(tmp_path / "ImageSets/Main/train.txt", f"{row}\n")
    records, _ = read(tmp_path)
    assert [record.file_name for record in records] == ["a_1.jpg"]


def test_the_picture_that_a_file_means(tmp_path):
    """The one that is called like it; otherwise the one that it names, whatever folder it says."""
    named = voc_text(BOX).replace("a_1.jpg", "C:\\Users\\me\\photo.jpg")
    make(tmp_path, named)
    add_picture(tmp_path / "JPEGImages", "photo")
    assert read(tmp_path)[0][0].file_name == "a_1.jpg"
    (tmp_path / "JPEGImages/a_1.jpg").unlink()
    assert read(tmp_path)[0][0].file_name == "photo.jpg"
    write(tmp_path / "Annotations/a_1.xml", named.replace("photo", "../../gone"))
    assert read(tmp_path)[0][0].file_name == "a_1.jpg"  # which is missing, and said when needed


def test_pictures_without_annotations(tmp_path):
    """Those of a list are empty; without a list nobody says that they are."""
    make(tmp_path, voc_text(BOX))
    add_picture(tmp_path / "JPEGImages", "b_1")
    records, report = read(tmp_path)
    assert len(records) == 1 and report.examples["unlabelled"] == ["b_1.jpg"]
    write(tmp_path / "ImageSets/Main/train.txt", "a_1\nb_1\n")
    records, report = read(tmp_path)
    assert [len(record.boxes) for record in records] == [1, 0]
    assert report.examples["no_labels"] == ["b_1.jpg"]


def test_a_class_without_objects(tmp_path):
    """Is known where CVAT lists it; else it is said, unless it may be a slip."""
    samples.voc_label_studio(tmp_path)
    (part,) = voc_parts(str(tmp_path), ReadOptions())

    def report(*names):
        return part.records(names, keep_empty=True, max_boxes=0, to_learn=True)[1]

    assert report("cat", "traffic light", "zebra").examples["missing_class"] == ["zebra"]
    with pytest.raises(UserError, match="did you mean 'traffic light'"):
        report("cat", "trafic light")
    write(tmp_path / "labelmap.txt", "cat:::\nzebra:::\ntraffic light:::\n")
    assert [c["name"] for c in part.classes().categories] == ["cat", "zebra", "traffic light"]
    assert not report("cat", "traffic light", "zebra").counts


def test_boxes_written_as_width_and_height_are_noticed(tmp_path):
    text = voc_text(BOX).replace("<xmax>36", "<xmax>2").replace("<ymax>40", "<ymax>2")
    make(tmp_path, text)
    with pytest.raises(UserError, match="looks like x,y,width,height"):
        read(tmp_path)


def test_folders_in_the_folders(tmp_path):
    """As CVAT exports pictures with folders in their names."""
    for truth in TRAIN:
        add_picture(tmp_path / "JPEGImages/day", truth.name)
        write(tmp_path / f"Annotations/day/{truth.name}.xml", voc_text(truth))
    write(tmp_path / "ImageSets/Main/default.txt", "".join(f"day/{t.name}\n" for t in TRAIN))
    records, _ = read(tmp_path)
    assert [record.file_name for record in records] == [f"day/{t.name}.jpg" for t in TRAIN]
