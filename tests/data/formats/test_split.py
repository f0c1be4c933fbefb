# SPDX-License-Identifier: Apache-2.0
"""Splitting: shares, classes and groups; what is written trains without another key."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.base.errors import UserError
from src.commands.split import main
from src.data.formats.split import assign, group_names
from src.data.groups import together
from src.data.source import data_source
from src.model_utils.config import load_config
from tests.helpers import format_samples as samples
from tests.helpers.data_helpers import edit_json
from tests.helpers.format_samples import CLASSES, SAMPLES, TRAIN, Truth


def test_every_class_gets_its_share():
    """Of a class on a hundredth of the pictures too, where chance would leave a part without it."""
    rng = np.random.default_rng(0)
    has_class = rng.random((2000, 4)) < [0.7, 0.2, 0.05, 0.01]
    parts = assign([str(i) for i in range(2000)], has_class, [0.7, 0.2, 0.1], seed=3)
    totals = has_class.sum(axis=0)
    for number, share in enumerate((0.7, 0.2, 0.1)):
        assert abs((parts == number).mean() - share) < 0.01
        assert (np.abs(has_class[parts == number].sum(axis=0) - share * totals) <= 2).all()


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 7)), min_size=1, max_size=60),
    st.floats(0.05, 0.95),
    st.integers(0, 5),
)
def test_groups_stay_together(pictures, share, seed):
    groups = [str(group) for group, _ in pictures]
    has_class = np.array([[bits >> i & 1 for i in range(3)] for _, bits in pictures], bool)
    parts = assign(groups, has_class, [1 - share, share], seed)
    assert set(parts) <= {0, 1}
    assert len({(g, p) for g, p in zip(groups, parts, strict=True)}) == len(set(groups))
    np.testing.assert_array_equal(parts, assign(groups, has_class, [1 - share, share], seed))


def test_a_seed_is_another_split():
    has_class = np.ones((100, 1), bool)
    names = [str(i) for i in range(100)]
    first, second = (assign(names, has_class, [0.5, 0.5], seed) for seed in (1, 2))
    assert (first != second).any()


def test_group_names():
    names = ["x/cam1_001.jpg", "cam1_002.jpg", "cam2_001.jpg", "other.jpg"]
    assert group_names(names, "_") == ["cam1", "cam1", "cam2", "other.jpg"]
    assert group_names(names, "") == names


def read_both(root, *arguments):
    keys = ["--train_data_type", "train", "--val_data_type", "val", "--device_target", "CPU"]
    config = load_config(["--coco_root", str(root), "--coco_classes", ",".join(CLASSES), *keys])
    return [data_source(config, split).read(max_boxes=0) for split in ("train", "val")]


@pytest.mark.parametrize("name", SAMPLES)
def test_every_layout_is_split_in_its_place(name, tmp_path, capsys):
    SAMPLES[name].make(tmp_path)
    before = {path for path in tmp_path.rglob("*") if path.suffix == ".jpg"}
    has_train = SAMPLES[name].has_val
    given_name = {"coco_own": "train2017", "coco_cvat": "Train"}.get(name, "train")
    part = ["--part", given_name] if has_train else []
    main([str(tmp_path), "--val", "0.5", *part])
    root = tmp_path / "VOC2007" if name == "voc_own" else tmp_path
    told = capsys.readouterr().out
    # Named where a part of the data would be taken in its stead.
    chosen = {
        "coco_own": " --train_data_type train --val_data_type val",
        "coco_cvat": " --train_data_type train",
    }.get(name, "")
    assert told.endswith(f"next: python check_data.py {root}{chosen}\n")
    with pytest.raises(UserError, match="is already split: .*--overwrite makes the parts again"):
        main([str(tmp_path), "--val", "0.5", *part])
    (train, report), (val, _) = read_both(root)
    assert len(train) == len(val) == 2 and not report.counts
    paths = [record.image_path for record in (*train, *val)]
    stems = sorted(path.rpartition("/")[2].removesuffix(".jpg") for path in paths)
    assert stems == [truth.name for truth in TRAIN]
    assert {path for path in tmp_path.rglob("*") if path.suffix == ".jpg"} == before
    assert set(paths) <= {str(path) for path in before}
    for records in (train, val):  # both classes are in both
        assert len({label for record in records for label in record.labels}) == 2


def test_groups_of_the_command(tmp_path):
    samples.coco_label_studio(tmp_path)
    main([str(tmp_path), "--val", "0.5", "--group_by", "_"])
    for records, _ in read_both(tmp_path):
        assert len({record.file_name.rpartition("/")[2][0] for record in records}) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--val", "0"], "leave nothing to train on, or are no shares"),
        (["--val", "0.7", "--test", "0.3"], "leave nothing"),
        (["--val", "nan"], "leave nothing"),
        (["--val", "0.5", "--test", "0.4", "--group_by", "_"], "would get none of the 4 pictures"),
        (["--seed", "-1"], "argument --seed: -1 is not 0 to"),
        (["--seed", "4294967296"], "is not 0 to 4294967295"),
        (["--part", "all", "--part", "x"], "has no part x"),
    ],
)
def test_splits_that_are_refused(arguments, message, tmp_path):
    samples.voc_label_studio(tmp_path)
    with pytest.raises(UserError, match=message):
        main([str(tmp_path), *arguments])
    assert not (tmp_path / "annotations").exists()


@pytest.mark.parametrize("entry", [{}, {"image_id": [1], "category_id": 1}, {"image_id": 0}])
def test_annotations_without_ids_are_named(entry, tmp_path):
    samples.coco_label_studio(tmp_path)
    edit_json(tmp_path / "result.json", lambda content: content["annotations"].append(entry))
    with pytest.raises(UserError, match=r"result.json: annotations\[6\] has"):
        main([str(tmp_path)])


def test_one_part_has_to_be_named(tmp_path):
    samples.yolo_roboflow(tmp_path)
    with pytest.raises(UserError, match="has the parts train, val; name the one to split"):
        main([str(tmp_path)])


def test_an_earlier_split_stays(tmp_path):
    samples.coco_label_studio(tmp_path)
    main([str(tmp_path), "--val", "0.5"])
    path = tmp_path / "annotations/instances_val.json"
    before = path.read_text()
    with pytest.raises(UserError, match="is already split"):
        main([str(tmp_path), "--part", "train", "--val", "0.5"])
    assert path.read_text() == before


def test_other_keys_of_a_coco_file_stay(tmp_path):
    samples.coco_label_studio(tmp_path)
    main([str(tmp_path), "--val", "0.5"])
    content = json.loads((tmp_path / "annotations/instances_train.json").read_text())
    assert all("segmentation" in annotation for annotation in content["annotations"])


def test_another_split_is_made_of_the_original(tmp_path):
    samples.voc_label_studio(tmp_path)
    main([str(tmp_path), "--val", "0.5"])
    xml = tmp_path / "Annotations/a_1.xml"
    xml.write_text(xml.read_text().replace("<name>cat</name>", "<name>dog</name>"))
    main([str(tmp_path), "--val", "0.5", "--overwrite"])
    content = json.loads((tmp_path / "annotations/instances_train.json").read_text())
    assert "dog" in [category["name"] for category in content["categories"]]


def test_a_part_of_an_earlier_split_is_not_left(tmp_path):
    samples.coco_label_studio(tmp_path)
    main([str(tmp_path), "--val", "0.25", "--test", "0.25"])
    with pytest.raises(UserError, match="instances_test.json is of an earlier split"):
        main([str(tmp_path), "--val", "0.5", "--overwrite"])
    main([str(tmp_path), "--val", "0.5", "--test", "0.25", "--overwrite"])
    files = sorted((tmp_path / "annotations").iterdir())
    images = [image["file_name"] for f in files for image in json.loads(f.read_text())["images"]]
    assert len(files) == 3 and len(set(images)) == len(images) == len(TRAIN)


@pytest.mark.parametrize("present", ["train", "val"])
def test_what_no_split_has_written_is_not_replaced(present, tmp_path):
    samples.add_pictures(tmp_path / "images", TRAIN)
    path = tmp_path / f"annotations/instances_{present}.json"
    samples.write(path, samples.coco_text(TRAIN))
    before = path.read_text()
    with pytest.raises(UserError, match=f"instances_{present}.json was not written by an earlier"):
        main([str(tmp_path), "--part", present, "--val", "0.5", "--overwrite"])
    assert path.read_text() == before
    assert len(list((tmp_path / "annotations").iterdir())) == 1


def test_pictures_that_are_alike_stay_together(tmp_path, capsys):
    """Eight pictures, each twice: as it is, and saved anew."""
    names = [f"{kind}_{number}" for kind in ("own", "copy") for number in range(8)]
    truths = [Truth(name, TRAIN[int(name[-1]) % 4].boxes) for name in names]
    samples.write(tmp_path / "result.json", samples.coco_text(truths, folder="images/"))
    rng = np.random.default_rng(0)
    for number in range(8):
        pixels = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (320, 240))
        for kind, quality in (("own", 95), ("copy", 85)):
            path = tmp_path / "images" / f"{kind}_{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    main([str(tmp_path), "--val", "0.5", "--group_alike"])
    told = capsys.readouterr().out
    assert "alike: 16 pictures in 8 groups, of 16 pictures that can be read" in told
    parts = [
        {image["file_name"].rpartition("_")[2] for image in json.loads(path.read_text())["images"]}
        for path in (tmp_path / "annotations").iterdir()
    ]
    assert parts[0].isdisjoint(parts[1]) and len(parts[0]) == len(parts[1]) == 4


def test_names_and_likeness_together():
    assert together(["a", "a", "b", "c", "d"], [(1, 2), (3,)]) == ["a", "a", "a", "c", "d"]


def test_what_is_odd_in_the_annotations_is_said(tmp_path, capsys):
    samples.coco_label_studio(tmp_path)

    def spoil(content):
        content["annotations"][0]["bbox"] = [1, 1, 0, 5]
        content["annotations"][1]["image_id"] = 99

    edit_json(tmp_path / "result.json", spoil)
    main([str(tmp_path), "--val", "0.5"])
    out = capsys.readouterr().out
    assert "  1 box without a positive width and height" in out
    assert "  1 annotation of an image that the file does not list" in out
    edit_json(tmp_path / "result.json", lambda c: c["annotations"][2].update(bbox=None))
    main([str(tmp_path), "--part", "all", "--val", "0.5", "--overwrite"])
    assert "note: a training on all of its classes would end: " in capsys.readouterr().out
