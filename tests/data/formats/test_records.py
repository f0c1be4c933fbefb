# SPDX-License-Identifier: Apache-2.0
"""Records of every format: made once beside the data, and judged like COCO's."""

import numpy as np
import pytest

from src.data.file_classes import with_file_classes
from src.data.mindrecord import ensure_mindrecord
from src.evaluation.run import read_ground_truth
from src.model_utils.config import load_config
from tests.helpers.data_helpers import rows_of
from tests.helpers.format_samples import CLASSES, SAMPLES, TRAIN


def objects(truth):
    """Picture -> the classes and boxes that detections are judged by, in their order."""
    names = {c["id"]: c["name"] for c in truth["categories"]}
    pictures = {i["id"]: i["file_name"].rpartition("/")[2] for i in truth["images"]}
    result = {name: [] for name in pictures.values()}
    for a in truth["annotations"]:
        row = [names[a["category_id"]], *np.round(a["bbox"], 3).tolist(), round(a["area"], 2)]
        result[pictures[a["image_id"]]].append([*row, a["iscrowd"]])
    return result


def ground_truth(root):
    config = load_config(["--coco_root", str(root), "--device_target", "CPU"])
    config, _ = with_file_classes(config)
    return objects(read_ground_truth(config, ensure_mindrecord(config, "val")).data)


@pytest.mark.parametrize("name", ["voc_roboflow", "voc_own", "yolo_roboflow", "labelme"])
def test_records_are_made_once_and_judged_like_cocos(name, tmp_path, capsys):
    SAMPLES["coco_own" if SAMPLES[name].has_val else "coco_cvat_task"].make(tmp_path / "coco")
    SAMPLES[name].make(tmp_path / "data")
    assert ground_truth(tmp_path / "data") == ground_truth(tmp_path / "coco")
    assert "converting" in capsys.readouterr().out
    ground_truth(tmp_path / "data")  # the records are in the data's folder by now
    assert "converting" not in capsys.readouterr().out


def test_rows_of_records(tmp_path):
    SAMPLES["yolo_cvat"].make(tmp_path)
    config, _ = with_file_classes(load_config(["--coco_root", str(tmp_path)]))
    records = ensure_mindrecord(config, "train")
    assert records.class_names == CLASSES and records.image_ids == tuple(t.name for t in TRAIN)
    for row, truth in zip(rows_of(records), TRAIN, strict=True):
        assert row["labels"].tolist() == [box[0] + 1 for box in truth.boxes]
        np.testing.assert_allclose(row["boxes"], [box[1:] for box in truth.boxes], atol=1e-4)
    again = config.replace(skip_bad_images=True)
    (tmp_path / "obj_train_data/b_1.jpg").unlink()
    found = ensure_mindrecord(again, "train")
    assert found.num_images == 3 and found.report.counts == {"bad_image": 1}


def test_choices_of_voc_are_records_of_their_own(tmp_path):
    SAMPLES["voc_label_studio"].make(tmp_path)
    config, _ = with_file_classes(load_config(["--coco_root", str(tmp_path)]))
    paths = {
        ensure_mindrecord(config.replace(**{key: value}), "train").path
        for key, value in (("voc_difficult", "ignore"), ("voc_difficult", "keep"))
    }
    assert len(paths) == 2
