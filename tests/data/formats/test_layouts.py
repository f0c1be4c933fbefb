# SPDX-License-Identifier: Apache-2.0
"""Every layout that a tool exports becomes the same records, with the folder as the only key."""

import json

import numpy as np
import pytest

from src.base.errors import UserError
from src.data.file_classes import with_file_classes
from src.data.formats import folder
from src.data.formats.folder import files_in
from src.data.formats.recognise import find_parts, require_parts
from src.data.source import data_source
from src.model_utils.config import load_config
from tests.helpers import format_samples as samples
from tests.helpers.format_samples import CLASSES, SAMPLES, TRAIN, VAL, add_picture, coco_text, write


def config_of(root, *arguments):
    return load_config(["--coco_root", str(root), "--device_target", "CPU", *arguments])


def assert_records_are(records, truths, names):
    """The pictures in the order of their names, each with its boxes."""
    by_name = {
        record.image_path.rpartition("/")[2].removesuffix(".jpg"): record for record in records
    }
    assert len(by_name) == len(records) and sorted(by_name) == [truth.name for truth in truths]
    for truth in truths:
        record = by_name[truth.name]
        boxes = np.array([box[1:] for box in truth.boxes], np.float32)
        np.testing.assert_allclose(record.boxes, boxes, atol=1e-4)
        assert [names[label - 1] for label in record.labels] == [CLASSES[b[0]] for b in truth.boxes]
        assert not record.crowd.any()


@pytest.mark.parametrize("name", SAMPLES)
def test_a_folder_is_all_that_is_needed(name, tmp_path):
    sample = SAMPLES[name]
    sample.make(tmp_path)
    config, lines = with_file_classes(config_of(tmp_path))
    assert set(config.class_names) == set(CLASSES) and lines
    expected = {"train": TRAIN, "val": VAL if sample.has_val else TRAIN}
    if name == "yolo_cvat":  # whose only part is called train
        expected.pop("val")
        with pytest.raises(UserError, match=r"no validation part \(only train\); `.*split "):
            data_source(config, "val")
    for split, truths in expected.items():
        source = data_source(config, split)
        assert source.kind == sample.kind
        records, report = source.read(max_boxes=0)
        assert_records_are(records, truths, config.class_names)
        assert not report.counts
        if name != "coco_own":  # where the keys say it
            assert source.notes[0].startswith(f"data: {tmp_path} is {sample.layout} (parts: ")


@pytest.mark.parametrize("name", SAMPLES)
def test_only_the_kind_that_is_named_is_looked_for(name, tmp_path):
    sample = SAMPLES[name]
    sample.make(tmp_path)
    assert [p.layout for p in find_parts(str(tmp_path), sample.kind)][:1] == [sample.layout]
    others = {"coco", "voc", "yolo", "labelme"} - {sample.kind}
    assert not any(find_parts(str(tmp_path), kind) for kind in others)


@pytest.mark.parametrize("name", SAMPLES)
def test_content_decides_on_the_digest(name, tmp_path):
    SAMPLES[name].make(tmp_path)
    source = data_source(config_of(tmp_path), "train")
    before = source.digest()
    assert data_source(config_of(tmp_path), "train").digest() == before
    changed = next(
        path
        for path in sorted(tmp_path.rglob("*"))
        if path.suffix in (".json", ".xml", ".txt")
        and path.parent.name not in ("Main", "valid")
        and (b"a_1" in path.read_bytes() or path.stem == "a_1")
    )
    changed.write_text(changed.read_text().replace("0", "1", 1))
    assert data_source(config_of(tmp_path), "train").digest() != before


def test_a_data_yaml_may_be_named_itself(tmp_path):
    samples.yolo_ultralytics(tmp_path)
    source = data_source(config_of(tmp_path / "things.yaml"), "val")
    assert (source.kind, source.anno_path) == ("yolo", str(tmp_path / "images/val"))


def test_a_part_is_chosen_by_name(tmp_path):
    samples.voc_own(tmp_path)
    config, _ = with_file_classes(config_of(tmp_path, "--train_data_type", "trainval"))
    source = data_source(config, "train")
    records, _ = source.read(max_boxes=0)
    assert len(records) == len(TRAIN + VAL)
    with pytest.raises(
        UserError, match=r"has no part 'half' \(val_data_type\); it has train, trainval, val"
    ):
        data_source(config_of(tmp_path, "--val_data_type", "half"), "val")


def test_keys_of_other_kinds_are_named(tmp_path):
    samples.yolo_roboflow(tmp_path)
    config = config_of(tmp_path, "--dataset", "yolo", "--image_dir", "x", "--anno_path", "y")
    notes = data_source(config, "train").notes
    assert any("image_dir 'x' has no effect with dataset yolo" in note for note in notes)
    assert any("anno_path 'y' has no effect" in note for note in notes)


def test_a_file_that_is_named_is_taken_with_the_pictures_beside_it(tmp_path):
    samples.coco_roboflow(tmp_path)
    path = tmp_path / "train/_annotations.coco.json"
    source = data_source(config_of(tmp_path, "--anno_path", str(path)), "val")
    assert (source.anno_path, source.image_dir) == (str(path), str(path.parent))


def test_a_file_that_is_named_is_not_looked_for_elsewhere(tmp_path):
    samples.coco_own(tmp_path)
    source = data_source(config_of(tmp_path, "--anno_path", str(tmp_path / "no.json")), "val")
    with pytest.raises(UserError, match="no.json does not exist"):
        source.digest()


@pytest.mark.parametrize("kind", ["voc", "yolo", "labelme"])
def test_a_folder_of_another_kind(kind, tmp_path):
    samples.coco_own(tmp_path)
    with pytest.raises(UserError, match=f"no data set of kind {kind} was recognised in it"):
        data_source(config_of(tmp_path, "--dataset", kind), "train")


def test_nothing_is_recognised(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    looked_for = r"no data set was recognised in it; looked for COCO \(.*YOLO.*VOC.*LabelMe"
    with pytest.raises(UserError, match=f"{looked_for}.* It has the files notes.txt;"):
        require_parts(str(tmp_path))
    with pytest.raises(UserError, match="no such folder"):
        require_parts(str(tmp_path / "absent"))
    (tmp_path / "notes.txt").unlink()
    with pytest.raises(UserError, match=f"{looked_for}.* It has no picture and no annotations"):
        data_source(config_of(tmp_path), "train")


def test_several_sets_of_voc_are_named(tmp_path):
    for year in ("2007", "2012"):
        samples.voc_label_studio(tmp_path / f"VOC{year}")
    with pytest.raises(UserError, match=r"several data sets \(VOC2007, VOC2012\)"):
        find_parts(str(tmp_path))


def test_links_in_a_circle_end(tmp_path):
    samples.yolo_label_studio(tmp_path)
    (tmp_path / "images/again").symlink_to(tmp_path / "images")
    records, _ = data_source(with_file_classes(config_of(tmp_path))[0], "train").read(max_boxes=0)
    assert len(records) == len(TRAIN)


def test_links_out_of_the_folder_are_passed_over_and_said(tmp_path, capsys):
    root = tmp_path / "data"
    samples.yolo_label_studio(root)
    add_picture(tmp_path / "elsewhere", "x")
    (root / "images/out").symlink_to(tmp_path / "elsewhere")
    (root / "images/in").symlink_to(root / "labels")
    linked = tmp_path / "link"
    linked.symlink_to(root)  # the folder itself may be one
    for place in (root, linked):
        found = files_in(str(place), [".jpg"])
        assert [name.rpartition("/")[2] for name in found] == [f"{t.name}.jpg" for t in TRAIN]
    assert "images/out leads to " in capsys.readouterr().err


@pytest.mark.parametrize("limit", ["_MOST_FILES", "_MOST_FOLDERS"])
def test_a_whole_disk_is_not_looked_through(tmp_path, monkeypatch, limit):
    for name in ("a", "b", "c"):
        write(tmp_path / name / "x.txt", "")
    monkeypatch.setattr(folder, limit, 2)
    with pytest.raises(UserError, match="give a smaller folder"):
        folder.files_in(str(tmp_path), [".jpg"])


@pytest.mark.parametrize("part", ["..", ".", ".hidden"])
def test_a_part_is_not_looked_for_outside(part, tmp_path):
    add_picture(tmp_path, "a_1")
    write(tmp_path / f"data/annotations/instances_{part}.json", coco_text(TRAIN))
    with pytest.raises(UserError, match="names no part; rename the file"):
        require_parts(str(tmp_path / "data"))


def test_pictures_are_found_though_the_first_one_is_missing(tmp_path):
    from src.data.formats.coco import picture_folder

    names = [f"JPEGImages/{number}.jpg" for number in range(3)]
    folder = tmp_path / "annotations"
    folder.mkdir()
    path = folder / "instances_val.json"
    path.write_text(json.dumps({"images": [{"file_name": name} for name in names]}))
    (tmp_path / "val").mkdir()
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / names[2]).write_bytes(b"")
    assert picture_folder(str(tmp_path), "val", str(path)) == str(tmp_path)
