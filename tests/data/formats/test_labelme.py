# SPDX-License-Identifier: Apache-2.0
"""LabelMe's files: boxes of its shapes, and what is refused."""

import json
import time

import numpy as np
import pytest

from src.base.errors import UserError
from src.data.formats import labelme
from src.data.formats.labelme import labelme_parts, read_labelme
from tests.helpers.format_samples import TRAIN, add_picture, labelme_text, write


def shape(kind, points, label="cat"):
    return {"label": label, "points": points, "shape_type": kind}


def make(root, *shapes, name="a_1.json", **changes):
    add_picture(root, "a_1")
    return write(root / name, labelme_text(TRAIN[0], **{"shapes": list(shapes), **changes}))


def read(root):
    (part,) = labelme_parts(str(root))
    return part.records(["cat"], keep_empty=True, max_boxes=0, to_learn=True)


@pytest.mark.parametrize(
    "kind, points, box",
    [
        ("rectangle", [[10, 20], [4, 8]], [4, 8, 10, 20]),
        ("rectangle", [[4, 8], [10, 8], [10, 20], [4, 20]], [4, 8, 10, 20]),
        ("polygon", [[4, 10], [9, 8], [10, 20]], [4, 8, 10, 20]),
        (None, [[4, 10], [9, 8], [10, 20]], [4, 8, 10, 20]),
        ("mask", [[4, 8], [10, 20]], [4, 8, 10, 20]),
        ("circle", [[20, 20], [23, 24]], [15, 15, 25, 25]),
    ],
)
def test_shapes_with_an_extent(tmp_path, kind, points, box):
    make(tmp_path, shape(kind, points))
    records, report = read(tmp_path)
    np.testing.assert_array_equal(records[0].boxes, [box])
    assert not report.counts


def test_points_and_lines_are_left_out(tmp_path):
    lines = [shape("line", [[1, 1], [2, 2]]), shape("point", [[1, 1]])]
    make(tmp_path, shape("rectangle", [[1, 1], [5, 5]]), *lines)
    records, report = read(tmp_path)
    assert len(records[0].boxes) == 1 and report.counts == {"other_shape": 2}


def test_pictures_without_a_file_are_left_out(tmp_path):
    make(tmp_path, shape("rectangle", [[1, 1], [5, 5]]))
    add_picture(tmp_path, "b_1")
    records, report = read(tmp_path)
    assert len(records) == 1 and report.examples["unlabelled"] == ["b_1.jpg"]


def test_files_in_a_folder_of_their_own(tmp_path):
    box = shape("rectangle", [[1, 1], [5, 5]])
    make(tmp_path, box, name="labels/a_1.json", imagePath="..\\a_1.jpg")
    records, report = read(tmp_path)
    assert records[0].image_path == str(tmp_path / "a_1.jpg") and not report.counts


def test_parts_in_folders(tmp_path):
    for part in ("train", "val"):
        make(tmp_path / part, shape("rectangle", [[1, 1], [5, 5]]))
    assert [part.name for part in labelme_parts(str(tmp_path))] == ["train", "val"]


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"imagePath": "../../secret.jpg"},
            "imagePath: .*secret.jpg' leads out of the data's folder",
        ),
        ({"imagePath": "/etc/passwd"}, "leads out"),
        ({"shapes": {}}, "is not LabelMe's: it has no list shapes, or no imagePath"),
        ({"imagePath": None}, "is not LabelMe's"),
        ({"shapes": [3]}, r"shapes\[0\] is 3, not an object"),
        ({"shapes": [shape("rectangle", [[1, 1], [5, 5]], "")]}, r"shapes\[0\] has label ''"),
        ({"shapes": [shape("rectangle", [[1, 1]])]}, r"shapes\[0\] has points"),
        ({"shapes": [shape("rectangle", [[1, "a"], [2, 3]])]}, "a list of .x, y."),
        ({"shapes": [shape("rectangle", [[1, 10**400], [2, 3]])]}, "beyond all pictures"),
    ],
)
def test_files_that_are_refused(tmp_path, changes, message):
    make(tmp_path, name="0.json")
    (part,) = labelme_parts(str(tmp_path))
    path = make(tmp_path, name="a_1.json", **changes)
    (tmp_path / "0.json").unlink()
    with pytest.raises(UserError, match=message) as caught:
        part.read()
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["{", '"x": NaN}', "[" * 100_000])
def test_files_that_are_no_json(tmp_path, text):
    make(tmp_path)
    (part,) = labelme_parts(str(tmp_path))
    write(tmp_path / "b_1.json", '{"shapes": [], "imagePath": "b_1.jpg", ' + text)
    with pytest.raises(UserError, match="b_1.json is not valid JSON"):
        part.read()


def test_two_files_of_one_picture(tmp_path):
    make(tmp_path)
    make(tmp_path, name="copy.json")
    with pytest.raises(UserError, match="two files are of the picture 'a_1.jpg'"):
        labelme_parts(str(tmp_path))[0].read()


def test_other_json_files_are_no_labelme(tmp_path):
    write(tmp_path / "a.json", json.dumps({"shapes": []}))
    assert labelme_parts(str(tmp_path)) == []


def test_other_json_files_beside_do_not_count(tmp_path):
    """Our own records have some, which appear after the data was looked at."""
    make(tmp_path, shape("rectangle", [[1, 1], [5, 5]]))
    (part,) = labelme_parts(str(tmp_path))
    before = part.digest()
    write(tmp_path / "records/fingerprint.json", "{}")
    write(tmp_path / "notes.json", "[")
    assert part.digest() == before and len(part.read().images) == 1


def test_large_files_are_read_one_at_a_time(tmp_path, monkeypatch):
    """Eight threads read; each file that is being read counts itself."""
    for number in range(16):
        add_picture(tmp_path, f"p_{number}")
        text = labelme_text(TRAIN[0], imagePath=f"p_{number}.jpg")
        write(tmp_path / f"p_{number}.json", text)
    inside, most = [], []
    real = labelme.parse_json

    def counted(*arguments):
        inside.append(1)
        time.sleep(0.002)
        most.append(len(inside))
        inside.pop()
        return real(*arguments)

    monkeypatch.setattr(labelme, "parse_json", counted)
    monkeypatch.setattr(labelme, "_LARGE_FILE", 10)
    assert len(labelme_parts(str(tmp_path))[0].read().images) == 16
    assert len(most) == 16 and max(most) == 1
    monkeypatch.setattr(labelme, "_LARGEST_FILE", 10)
    with pytest.raises(UserError, match=r"of at most 0\.0 MB"):
        labelme_parts(str(tmp_path))


def test_a_picture_in_the_file_is_not_parsed(tmp_path, monkeypatch):
    """JSON of others takes a lot of memory; their Base64 is skipped."""
    monkeypatch.setattr(labelme, "_LARGEST_TEXT", 2000)
    quoted = 'a "imageData": "AAAA" b'
    make(tmp_path, shape("rectangle", [[1, 2], [3, 4]], quoted), imageData="QUJD" * 9000)
    file = labelme.read_labelme(str(tmp_path), "a_1.json")
    assert [name for name, *_ in file.boxes] == [quoted]
    make(tmp_path, *[shape("rectangle", [[1, 2], [3, 4]])] * 50)
    with pytest.raises(UserError, match="besides its picture, of at most 0.0 MB; split it"):
        labelme.read_labelme(str(tmp_path), "a_1.json")


def test_a_picture_beside_its_file_is_found_whatever_folder_the_file_names(tmp_path):
    for name in ("x.jpg", "p/x.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    text = labelme_text(TRAIN[0], imagePath="..\\pictures\\x.jpg")
    write(tmp_path / "x.json", text)
    write(tmp_path / "p/x.json", text)
    assert read_labelme(str(tmp_path), "x.json").picture == "x.jpg"
    assert read_labelme(str(tmp_path), "p/x.json").picture == "p/x.jpg"
    for outside in ("../pictures/none.jpg", "../..", "/etc/passwd"):
        write(tmp_path / "x.json", labelme_text(TRAIN[0], imagePath=outside))
        with pytest.raises(UserError, match="leads out of the data's folder"):
            read_labelme(str(tmp_path), "x.json")
