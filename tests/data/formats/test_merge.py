# SPDX-License-Identifier: Apache-2.0
"""Merging: parts by their names, classes by theirs, every picture under a name of its own."""

import json

import pytest

from src.base.errors import UserError
from src.commands.merge import main
from src.data.source import data_source
from src.model_utils.config import load_config
from tests.helpers import format_samples as samples
from tests.helpers.format_samples import TRAIN, VAL, Truth, add_picture, voc_text, write


def merged(root, *folders):
    main([*map(str, folders), "--output", str(root)])
    config = load_config(
        ["--coco_root", str(root), "--train_data_type", "train", "--val_data_type", "val"]
        + ["--coco_classes", "cat,traffic light", "--device_target", "CPU"]
    )
    return {split: data_source(config, split).read(max_boxes=0) for split in ("train", "val")}


def test_sets_of_three_formats(tmp_path, capsys):
    samples.coco_roboflow(tmp_path / "one/data")
    samples.yolo_roboflow(tmp_path / "two/data")  # of the same name, with the same pictures
    samples.voc_label_studio(tmp_path / "three")
    folders = [tmp_path / "one/data", tmp_path / "two/data", tmp_path / "three"]
    result = merged(tmp_path / "all", *folders)
    (train, report), (val, _) = result["train"], result["val"]
    assert not report.counts
    assert len(train) == 3 * len(TRAIN) and len(val) == 2 * len(VAL)
    assert len({record.image_path for record in (*train, *val)}) == len(train) + len(val)
    for record in train:
        truth = next(t for t in TRAIN if record.file_name.endswith(f"/{t.name}.jpg"))
        assert [label - 1 for label in record.labels] == [box[0] for box in truth.boxes]
    folders = {record.file_name.partition("/")[0] for record in train}
    assert folders == {"data", "data_2", "three"}
    assert "train: 12 images, 18 boxes of 2 classes" in capsys.readouterr().out


def test_classes_are_one_by_their_name(tmp_path):
    samples.voc_cvat(tmp_path / "one")
    extra = Truth("z_1", ((0, 1, 1, 9, 9),))
    add_picture(tmp_path / "two/images", "z_1")
    text = voc_text(extra).replace("cat", "dog")
    write(tmp_path / "two/Annotations/z_1.xml", text)
    main([str(tmp_path / "one"), str(tmp_path / "two"), "--output", str(tmp_path / "all")])
    content = json.loads((tmp_path / "all/annotations/instances_train.json").read_text())
    assert [c["name"] for c in content["categories"]] == ["cat", "traffic light", "dog"]
    assert content["annotations"][-1]["category_id"] == 3
    ids = [image["id"] for image in content["images"]]
    assert ids == list(range(1, len(TRAIN) + 2))


def test_what_is_there_stays(tmp_path):
    samples.voc_cvat(tmp_path / "one")
    write(tmp_path / "all/mine.txt", "mine")
    with pytest.raises(UserError, match="exists already; set --output to a new folder"):
        main([str(tmp_path / "one"), str(tmp_path / "one"), "--output", str(tmp_path / "all")])
    assert [path.name for path in (tmp_path / "all").iterdir()] == ["mine.txt"]


def test_one_set_is_not_several(tmp_path):
    with pytest.raises(UserError, match="two data sets or more"):
        main([str(tmp_path), "--output", str(tmp_path / "all")])
