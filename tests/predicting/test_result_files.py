# SPDX-License-Identifier: Apache-2.0
"""The formats of results."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO as CocoSet

from src.base.errors import UserError
from src.predicting.names import class_folders
from src.predicting.result_files import CropWriter, crop_part, result_writers

CLASSES = ("cat", "hot, dog")
ENTRIES = [
    {
        "file": "in/a, b.jpg",
        "width": 200,
        "height": 100,
        "detections": [
            {"class": "hot, dog", "score": 0.9, "box": [10.0, 20.0, 60.0, 70.5]},
            {"class": "cat", "score": 0.25, "box": [-3.0, 0.0, 200.5, 100.0]},
        ],
    },
    {"file": "none.png", "width": 50, "height": 40, "detections": []},
    {
        "file": "v.mp4",
        "width": 64,
        "height": 48,
        "frame": 12,
        "seconds": 0.5,
        "detections": [{"class": "cat", "score": 0.5, "box": [0.0, 0.0, 32.0, 24.0]}],
    },
]
NAMES = ["a, b", "none", "v/000012"]


def write(output, *formats, **options):
    with result_writers(formats, output, CLASSES, **options) as writers:
        for entry, name in zip(ENTRIES, NAMES, strict=True):
            for writer in writers:
                writer.add(entry, name)


def test_json_is_of_pictures(tmp_path):
    write(tmp_path, "json")
    assert json.loads((tmp_path / "predictions.json").read_text()) == ENTRIES[:2]
    write(tmp_path / "videos", "json", with_pictures=False)
    assert not (tmp_path / "videos").exists()


def test_coco_is_a_data_set_and_its_annotations_are_results(tmp_path, capsys):
    write(tmp_path, "coco")
    path = tmp_path / "predictions_coco.json"
    content = json.loads(path.read_text())
    assert [image["file_name"] for image in content["images"]] == [e["file"] for e in ENTRIES]
    assert content["images"][2]["frame_id"] == 12 and "frame_id" not in content["images"][0]
    first = content["annotations"][0]
    assert first["bbox"] == [10.0, 20.0, 50.0, 50.5] and first["area"] == 2525.0
    assert (first["image_id"], first["category_id"], first["score"]) == (1, 2, 0.9)
    coco = CocoSet(str(path))
    assert len(coco.loadRes(content["annotations"]).anns) == 3
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(CLASSES)


def test_csv_has_a_row_a_detection(tmp_path):
    write(tmp_path, "csv")
    with open(tmp_path / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["frame"], row["class"]) for row in rows] == [
        ("in/a, b.jpg", "", "hot, dog"),
        ("in/a, b.jpg", "", "cat"),
        ("v.mp4", "12", "cat"),
    ]
    assert [float(rows[0][key]) for key in ("x1", "y1", "x2", "y2")] == [10.0, 20.0, 60.0, 70.5]


def test_yolo_numbers_are_shares_of_the_picture(tmp_path):
    write(tmp_path, "yolo")
    lines = (tmp_path / "labels" / "a, b.txt").read_text().splitlines()
    assert lines[0] == "1 0.175000 0.452500 0.250000 0.505000 0.90000"
    assert lines[1] == "0 0.500000 0.500000 1.000000 1.000000 0.25000"  # cut at the picture
    assert (tmp_path / "labels" / "none.txt").read_text() == ""
    assert (tmp_path / "labels" / "v" / "000012.txt").read_text().startswith("0 0.25")
    assert (tmp_path / "classes.txt").read_text().splitlines() == list(CLASSES)


def test_files_are_whole_or_not_there(tmp_path):
    with (
        pytest.raises(RuntimeError),
        result_writers(("json", "coco", "csv"), tmp_path, CLASSES) as writers,
    ):
        for writer in writers:
            writer.add(ENTRIES[0], NAMES[0])
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "predictions.csv").mkdir()
    with pytest.raises(UserError, match="predictions.csv cannot be written"):
        write(tmp_path, "csv")


def test_crops(tmp_path):
    rgb = np.arange(100 * 200 * 3, dtype=np.uint32).astype(np.uint8).reshape(100, 200, 3)
    CropWriter(tmp_path, CLASSES).add(ENTRIES[0], "a, b", rgb)
    crop = np.asarray(Image.open(tmp_path / "crops" / "hot_ dog" / "a, b_1.png"))
    assert np.array_equal(crop, rgb[20:71, 10:60])
    assert Image.open(tmp_path / "crops" / "cat" / "a, b_2.png").size == (200, 100)


@pytest.mark.parametrize("box", [[5, 5, 5, 5], [300, 300, 400, 400], [-9, -9, -1, -1]])
def test_a_crop_has_a_pixel_at_least(box):
    rows, columns = crop_part(box, (40, 60, 3))
    assert 0 <= rows.start < rows.stop <= 40 and 0 <= columns.start < columns.stop <= 60


def test_class_names_of_others_are_no_paths():
    names = ("../../etc", "a/b", "a_b", "..", "", "/", "x" * 500, "猫", "a\0b", ".hidden")
    folders = class_folders(names)
    assert folders.keys() == set(names) and len(set(folders.values())) == len(names)
    for folder in folders.values():
        assert folder and "/" not in folder and "\0" not in folder and not folder.startswith(".")
        assert len(folder.encode()) < 255
    assert folders["猫"] == "猫"
