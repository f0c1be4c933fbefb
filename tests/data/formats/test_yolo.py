# SPDX-License-Identifier: Apache-2.0
"""YOLO's rows, names and lists, and what of them is refused."""

import contextlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.base.errors import UserError
from src.data.formats.yolo import in_pixels, parse_row
from src.data.formats.yolo_layout import yolo_parts
from tests.helpers import format_samples as samples
from tests.helpers.format_samples import CLASSES, HEIGHT, WIDTH, add_picture, write


def make(root, rows="0 0.5 0.5 0.5 0.5", yaml="train: images\nnames: [cat, dog]\n"):
    add_picture(root / "images", "a_1")
    write(root / "labels/a_1.txt", rows)
    write(root / "data.yaml", yaml)
    return root


def read(root, names=("cat", "dog")):
    (part,) = yolo_parts(str(root))
    return part.records(names, keep_empty=True, max_boxes=0, to_learn=True)


@pytest.mark.parametrize(
    "row, corners",
    [
        ("1 0.5 0.5 0.5 0.25", (0.25, 0.375, 0.75, 0.625)),
        ("1.0 .5 .5 .5 .25\r", (0.25, 0.375, 0.75, 0.625)),
        ("0 0.1 0.2 0.5 0.3 0.4 0.9", (0.1, 0.2, 0.5, 0.9)),  # a polygon
        ("0 0.1 0.2 0.5 0.2 0.5 0.4 0.1 0.4", (0.1, 0.2, 0.5, 0.4)),  # a turned box
    ],
)
def test_rows(row, corners):
    assert parse_row(row, "x").corners == pytest.approx(corners)


def test_rows_with_key_points():
    row = "0 0.5 0.5 0.5 0.25 0.1 0.1 2 0.9 0.9 1"
    assert parse_row(row, "x", keypoints=True).corners == (0.25, 0.375, 0.75, 0.625)


@pytest.mark.parametrize(
    "row, message",
    [
        ("0 0.5 0.5 0.5", "a_1.txt, line 2: 4 numbers; write class x_center"),
        ("0 0.5 0.5 0.5 0.5 0.9", "line 2: 6 numbers"),
        ("cat 0.5 0.5 0.5 0.5", "has a word that is no number"),
        ("-1 0.5 0.5 0.5 0.5", "class '-1'; give the class's number, from 0"),
        ("0.5 0.5 0.5 0.5 0.5", "class '0.5'"),
        ("inf 0.5 0.5 0.5 0.5", "class 'inf'"),
        ("0 320 240 100 100", "is not in fractions of the picture's width and height"),
        ("2 0.5 0.5 0.5 0.5", "class 2 is none of the 2 of .*data.yaml, numbered from 0"),
    ],
)
def test_rows_that_are_refused(tmp_path, row, message):
    if "class 2" in message:
        message = message.replace("class 2", r"a_1.txt: class 2")
    make(tmp_path, f"0 0.5 0.5 0.5 0.5\n{row}\n")
    with pytest.raises(UserError, match=message):
        read(tmp_path)


@given(st.text() | st.lists(st.floats(), min_size=1).map(lambda row: " ".join(map(str, row))))
def test_any_row_is_read_or_refused_in_one_line(row):
    with contextlib.suppress(UserError):
        box = parse_row(row if row.strip() else "0", "x")
        assert box.number >= 0 and len(box.corners) == 4


def test_numbers_that_are_none_are_dropped_like_cocos(tmp_path):
    make(tmp_path, "0 0.5 0.5 0.5 0.5\n0 nan 0.5 0.5 0.5\n1 0.5 0.5 0 0.5\n")
    records, report = read(tmp_path)
    assert len(records[0].boxes) == 1
    assert report.counts == {"non_finite": 1, "degenerate": 1}


@given(
    width=st.integers(1, 9000),
    ends=st.lists(st.floats(0, 1), min_size=2, max_size=2, unique=True).map(sorted),
)
def test_six_digits_are_within_a_hundredth_of_a_pixel_and_inside(width, ends):
    left, right = ends
    text = f"0 {(left + right) / 2:.6f} 0.5 {right - left:.6f} 1"
    x1, y1, x2, y2 = in_pixels(parse_row(text, "x").corners, (7, width))
    assert x1 >= 0 and x2 <= width and (y1, y2) == (0, 7)
    assert abs(x1 - left * width) < 0.01 and abs(x2 - right * width) < 0.01


def test_sizes_are_those_that_a_viewer_shows(tmp_path):
    """A picture that EXIF turns: fractions are of what is seen."""
    from PIL import Image

    make(tmp_path)
    picture = Image.new("RGB", (WIDTH, HEIGHT))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "images/a_1.jpg", exif=exif)
    records, _ = read(tmp_path)
    assert records[0].stated_size == (WIDTH, HEIGHT)
    expected = [HEIGHT / 4, WIDTH / 4, HEIGHT * 3 / 4, WIDTH * 3 / 4]
    np.testing.assert_allclose(records[0].boxes, [expected])


def test_pictures_without_labels_are_without_objects(tmp_path):
    make(tmp_path)
    add_picture(tmp_path / "images", "b_1")
    add_picture(tmp_path / "images", "c_1")
    write(tmp_path / "labels/c_1.txt", "")
    records, report = read(tmp_path)
    assert [len(record.boxes) for record in records] == [1, 0, 0]
    assert report.counts == {"no_labels": 1} and report.examples["no_labels"] == ["images/b_1.jpg"]


def test_missing_pictures_keep_their_boxes_until_they_are_needed(tmp_path):
    make(tmp_path, yaml="train: train.txt\nnames: [cat, dog]\n")
    write(tmp_path / "train.txt", "./images/a_1.jpg\nimages/b_1.jpg\n")
    write(tmp_path / "labels/b_1.txt", "1 0.5 0.5 0.5 0.5")
    records, report = read(tmp_path)
    assert [record.labels.tolist() for record in records] == [[1], [2]] and not report.counts
    assert records[1].image_path == str(tmp_path / "images/b_1.jpg")
    write(tmp_path / "train.txt", "data/images/a_1.jpg\n/home/me/images/b_1.jpg\n")
    records, report = read(tmp_path)
    assert [record.labels.tolist() for record in records] == [[1], [2]] and not report.counts


@pytest.mark.parametrize(
    "row",
    ["./images/a_1.jpg", "images\\a_1.jpg", "/home/me/set/images/a_1.jpg", "data/images/a_1.jpg"],
)
def test_lists_written_elsewhere(tmp_path, row):
    make(tmp_path, yaml="train: ../set/train.txt\nnames: [cat, dog]\n")
    write(tmp_path / "train.txt", f"{row}\n\n")
    assert [record.file_name for record in read(tmp_path)[0]] == ["images/a_1.jpg"]


@pytest.mark.parametrize("row", ["../../outside.jpg", "/etc/passwd", "C:\\photo.jpg"])
def test_lists_that_lead_out_are_refused(tmp_path, row):
    make(tmp_path / "set", yaml="train: train.txt\nnames: [cat, dog]\n")
    add_picture(tmp_path, "outside")
    write(tmp_path / "set/train.txt", row)
    with pytest.raises(UserError, match="line 1: .* leads out of"):
        read(tmp_path / "set")


@pytest.mark.parametrize(
    "yaml, message",
    [
        ("train: /etc\nnames: [cat]\n", "train '/etc' leads out of"),
        ("train: ../other/images2\nnames: [cat]\n", "leads out of"),
        ("train: pictures\nnames: [cat]\n", "'pictures' does not exist in"),
        ("train: 3\nnames: [cat]\n", "train is 3; give a folder"),
        ("path: 3\ntrain: images\nnames: [cat]\n", "path is 3"),
        ("train: images\n", "names is None; list the classes"),
        ("train: images\nnames: [no, yes]\n", r"names\[0\] is False, not a text; put it into"),
        (
            "train: images\nnames: {1: cat, 2: dog}\n",
            r"names has the numbers \[1, 2\]; count from 0",
        ),
        ("train: images\nnames: [cat, cat]\n", "classes 0 and 1 are both called 'cat'"),
        ("train: images\nnames: [cat", "correct the YAML"),
        ("train: !!python/object/apply:os.system ['true']\nnames: [cat]\n", "constructor"),
    ],
)
def test_descriptions_that_are_refused(tmp_path, yaml, message):
    root = make(tmp_path / "set", yaml=yaml)
    with pytest.raises(UserError, match=message) as caught:
        yolo_parts(str(root))
    assert "data.yaml" in str(caught.value)


def test_several_folders_and_numbers_as_names(tmp_path):
    make(tmp_path, yaml="train: [images, more/images]\nnames: {1: 7, 0: cat}\n")
    add_picture(tmp_path / "more/images", "b_1")
    write(tmp_path / "more/labels/b_1.txt", "1 0.5 0.5 0.5 0.5")
    (part,) = yolo_parts(str(tmp_path))
    assert part.names == ("cat", "7")
    assert part.pictures() == ["images/a_1.jpg", "more/images/b_1.jpg"]


def test_without_names_the_wanted_classes_are_numbered(tmp_path):
    samples.yolo_label_studio(tmp_path)
    (tmp_path / "classes.txt").unlink()
    (part,) = yolo_parts(str(tmp_path))
    with pytest.raises(UserError, match="no file names the classes .* list them as coco_classes"):
        part.classes()
    records, _ = read(tmp_path, CLASSES)
    assert [record.labels.tolist() for record in records] == [[1, 2], [2], [1], [1, 1]]
    with pytest.raises(UserError, match="class 1 is none of the 1 of coco_classes"):
        read(tmp_path, CLASSES[:1])


def test_wanted_classes_are_found_by_name(tmp_path):
    make(tmp_path, "1 0.5 0.5 0.5 0.5\n0 0.5 0.5 0.25 0.25")
    records, report = read(tmp_path, ["dog"])
    assert records[0].labels.tolist() == [1] and report.counts == {"other_class": 1}


def test_pictures_of_all_kinds(tmp_path):
    make(tmp_path)
    for ending in ("png", "bmp", "webp", "tiff"):
        cv2.imwrite(str(tmp_path / f"images/x.{ending}"), np.zeros((10, 20, 3), np.uint8))
    records, _ = read(tmp_path)
    assert [r.stated_size for r in records] == [(HEIGHT, WIDTH)] + [(10, 20)] * 4
    ids = [record.image_id for record in records]
    assert len(set(ids)) == 5 and ids[1] == "images/x.bmp"  # x alone would not tell them apart


def test_names_that_no_file_can_have_are_refused(tmp_path):
    make(tmp_path, yaml="train: train.txt\nnames: [cat, dog]\n")
    write(tmp_path / "train.txt", "a/" * 200_000 + "b.jpg")
    with pytest.raises(UserError, match="a list names .*, of more than 4096 bytes"):
        read(tmp_path)
