# SPDX-License-Identifier: Apache-2.0
"""Conversion: faithful, repeatable, never half-written, never stale."""

import io
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from src.base.errors import UserError
from src.base.one_at_a_time import beside
from src.data import record_writer
from src.data.mindrecord import ensure_mindrecord
from src.data.record_index import read_index
from src.data.source import data_source
from tests.helpers.data_helpers import (
    ANNO,
    change_annotation,
    coco_dict,
    edit_json,
    leftovers,
    make_coco_root,
    make_config,
    picture,
    rows_of,
    write_json,
)


@pytest.fixture
def root(tmp_path):
    return make_coco_root(tmp_path / "my data")


# ------------------------------------------------------------------ content


def test_every_user_may_read_the_records(root):
    path = Path(ensure_mindrecord(make_config(root), "train").path)
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o644}


def test_annotation_files_of_equal_names_have_records_of_their_own(root):
    sets = []
    for fold in ("fold1", "fold2"):
        (root / fold).mkdir()
        shutil.copy(root / ANNO, root / fold)
        config = make_config(root, instance_set=f"{fold}/{Path(ANNO).name}")
        sets.append(ensure_mindrecord(config, "train").path)
    link = root.with_name("a link")
    link.mkdir()
    for name in ("annotations", "train2017"):
        (link / name).symlink_to(root / name)
    names = [data_source(make_config(at), "train").name() for at in (root, link)]
    assert names[0] == names[1]
    assert len(set(sets)) == 2 and all(Path(path).is_dir() for path in sets)


def test_records_hold_the_bytes_and_boxes(root):
    record_set = ensure_mindrecord(make_config(root), "train")
    content = json.loads((root / ANNO).read_text())
    assert Path(record_set.path).parent == root / "MindRecord_COCO"
    assert record_set.image_ids == tuple(image["id"] for image in content["images"])
    names = [image["file_name"] for image in content["images"]]
    assert [record.file_name for record in record_set.records] == names
    sizes = [[image["height"], image["width"]] for image in content["images"]]
    np.testing.assert_array_equal(read_index(record_set.path)["sizes"], sizes)
    rows = rows_of(record_set)
    assert len(rows) == record_set.num_images == 7
    for i, row in enumerate(rows):
        record = record_set.records[i]
        assert row["image_index"].item() == i
        assert row["image"].tobytes() == Path(record_set.image_paths[i]).read_bytes()
        np.testing.assert_array_equal(row["boxes"], record.boxes)
        np.testing.assert_array_equal(row["labels"], record.labels)
        np.testing.assert_array_equal(row["crowd"].astype(bool), record.crowd)
        expected = [a for a in content["annotations"] if a["image_id"] == record.image_id]
        np.testing.assert_allclose(
            record.boxes, [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in expected)]
        )
    assert not leftovers(root / "MindRecord_COCO")


def test_bytes_that_end_in_zeros_survive(tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    (tmp_path / "train2017").mkdir()
    cv2.imwrite(str(tmp_path / "train2017" / "a.bmp"), image)
    content = coco_dict(images=[{"id": 1, "file_name": "a.bmp"}])
    content["annotations"] = [{"image_id": 1, "category_id": 3, "bbox": [1, 1, 5, 5]}]
    write_json(tmp_path / ANNO, content)
    record_set = ensure_mindrecord(make_config(tmp_path), "train")
    data = (tmp_path / "train2017" / "a.bmp").read_bytes()
    assert data.endswith(b"\0\0\0") and rows_of(record_set)[0]["image"].tobytes() == data


def test_coco_and_txt_make_the_same_records(bccd_root, tmp_path):
    names = ("RBC", "WBC", "Platelets")
    common = {"class_names": names, "mindrecord_dir": str(tmp_path), "num_gts": 128}
    coco = ensure_mindrecord(make_config(bccd_root, **common), "val")
    txt_config = make_config(
        dataset="other", image_dir=str(bccd_root), anno_path=str(bccd_root / "{}.txt"), **common
    )
    txt = ensure_mindrecord(txt_config, "val")
    assert coco.path != txt.path and coco.num_images == txt.num_images == 72
    assert txt.image_ids[0] == "BloodImage_00007"
    columns = ("image", "image_index", "boxes", "labels", "crowd")
    for one, other in zip(rows_of(coco, columns), rows_of(txt, columns), strict=True):
        for column in columns:
            np.testing.assert_array_equal(one[column], other[column])


def test_several_files_and_large_images(root, monkeypatch):
    monkeypatch.setattr(record_writer, "_FILE_BYTES", 2000)
    monkeypatch.setattr(record_writer, "_CHUNK_IMAGES", 2)
    monkeypatch.setattr(record_writer, "_MIN_PAGE", 1 << 21)
    big = np.random.default_rng(0).integers(0, 255, (800, 1000, 3), np.uint8)
    cv2.imwrite(str(root / "train2017" / "img_3.v1.jpg"), big, [cv2.IMWRITE_JPEG_QUALITY, 100])
    assert (root / "train2017" / "img_3.v1.jpg").stat().st_size > 1 << 20
    record_set = ensure_mindrecord(make_config(root), "train")
    assert len(record_set.files) > 2
    rows = rows_of(record_set)
    assert [row["image_index"].item() for row in rows] == list(range(7))
    for row, path in zip(rows, record_set.image_paths, strict=True):
        assert row["image"].tobytes() == Path(path).read_bytes()


def test_an_image_too_large_for_a_record(root, monkeypatch):
    for limit in ("_MIN_PAGE", "_MAX_PAGE"):
        monkeypatch.setattr(record_writer, limit, record_writer._PAGE_RESERVE + 500)
    with pytest.raises(UserError, match=r"img_0.v1.jpg has \d+ bytes; MindRecord holds at most"):
        ensure_mindrecord(make_config(root), "train")


def test_real_size_counts_not_the_stated_one(tmp_path):
    """A phone's portrait picture: stored 60x40, shown 40x60; the file states the stored size."""
    exif = Image.Exif()
    exif[274] = 6
    stream = io.BytesIO()
    Image.fromarray(picture(40, 60)).save(stream, "JPEG", exif=exif.tobytes())
    (tmp_path / "train2017").mkdir()
    (tmp_path / "train2017" / "p.jpg").write_bytes(stream.getvalue())
    boxes = [[5, 30, 20, 25], [30, 50, 20, 20], [45, 5, 10, 10]]
    content = coco_dict(
        [{"id": 1, "file_name": "p.jpg", "width": 60, "height": 40}],
        [{"image_id": 1, "category_id": 3, "bbox": box} for box in boxes],
    )
    write_json(tmp_path / ANNO, content)
    record_set = ensure_mindrecord(make_config(tmp_path), "train")
    assert read_index(record_set.path)["sizes"].tolist() == [[60, 40]]
    assert record_set.records[0].boxes.tolist() == [[5, 30, 25, 55], [30, 50, 40, 60]]
    assert record_set.report.counts == {"size_mismatch": 1, "outside": 1, "clipped": 1}
    assert "p.jpg is 40x60, stated 60x40" in "\n".join(record_set.report.lines())


def test_training_leaves_out_what_evaluation_keeps(root):
    def change(content):
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 15]
        content["annotations"] += [
            {"image_id": 25, "category_id": 3, "bbox": [1, 1, 5 + k, 5]} for k in range(20)
        ]
        content["annotations"].append({"image_id": 35, "category_id": 3, "bbox": [500, 1, 5, 5]})

    edit_json(root / ANNO, change)
    train = ensure_mindrecord(make_config(root), "train")
    assert train.num_images == 6 and 15 not in train.image_ids
    assert len(train.records[1].labels) == 8 and train.report.counts["too_many"] == 15
    assert train.report.counts["empty_image"] == 1
    every = ensure_mindrecord(make_config(root, skip_empty_images=False), "train")
    assert every.num_images == 7 and every.records[1].boxes.shape == (0, 4)
    assert rows_of(every)[1]["labels"].reshape(-1).tolist() == [0]
    val = ensure_mindrecord(make_config(root, val_data_type="train2017"), "val")
    assert val.num_images == 7 and len(val.records[2].labels) == 23


# ------------------------------------------------------------------ reuse


def test_a_second_run_reuses(root, capsys):
    first = ensure_mindrecord(make_config(root), "train")
    assert "converting" in capsys.readouterr().out
    written = os.stat(first.files[0]).st_mtime_ns
    second = ensure_mindrecord(make_config(root), "train")
    assert "converting" not in capsys.readouterr().out
    assert second.path == first.path and second.fingerprint == first.fingerprint
    assert os.stat(second.files[0]).st_mtime_ns == written
    assert second.image_ids == first.image_ids
    assert second.report.lines() == first.report.lines()
    for one, other in zip(first.records, second.records, strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)


def test_other_sets_of_the_file_are_named(root, capsys):
    first = ensure_mindrecord(make_config(root), "train")
    assert "beside it is" not in capsys.readouterr().out
    ensure_mindrecord(make_config(root, skip_empty_images=False), "train")
    assert f"beside it is {os.path.basename(first.path)}, of other" in capsys.readouterr().out


def test_an_error_is_all_that_goes_to_stderr(root, capsys):
    (root / "train2017" / "img_0.v1.jpg").write_bytes(b"broken")
    with pytest.raises(UserError):
        ensure_mindrecord(make_config(root), "train")
    shown = capsys.readouterr()
    assert shown.err == "" and "converting" in shown.out


def test_a_folder_whose_name_is_not_utf8(root):
    config = make_config(root, mindrecord_dir=os.fsdecode(b"/tmp/\xff"))
    with pytest.raises(UserError, match="mindrecord_dir.*UTF-8"):
        ensure_mindrecord(config, "train")


def change_image(root):
    path = root / "train2017" / "img_2.v1.jpg"
    cv2.imwrite(str(path), picture(44, 66, 99))


def damage_records(root):
    (path,) = (root / "MindRecord_COCO").glob("*/*.mindrecord0")
    os.chmod(path, 0o600)
    path.write_bytes(path.read_bytes()[:-100])


def damage_index(root):
    (path,) = (root / "MindRecord_COCO").glob("*/index.npz")
    path.write_bytes(path.read_bytes()[:200])


def damage_compression(root):
    (path,) = (root / "MindRecord_COCO").glob("*/index.npz")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 10] = 77  # a compression that nobody knows
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_annotation, "instances_train2017.json has changed since its records were made"),
        (change_image, "1 image has changed since their records were made (first: img_2.v1.jpg)"),
        (damage_records, "are damaged"),
        (damage_index, "are damaged"),
        (damage_compression, "are damaged"),
    ],
)
def test_a_changed_source_is_converted_again(root, capsys, change, words):
    first = ensure_mindrecord(make_config(root), "train")
    capsys.readouterr()
    change(root)
    second = ensure_mindrecord(make_config(root), "train")
    assert words in capsys.readouterr().out
    assert second.path == first.path
    damaged = "damaged" in words
    assert (second.fingerprint == first.fingerprint) == damaged
    for row, path in zip(rows_of(second), second.image_paths, strict=True):
        assert row["image"].tobytes() == Path(path).read_bytes()
    assert not leftovers(root / "MindRecord_COCO")
    if not damaged:
        with pytest.raises(UserError, match="were replaced or removed while they were in use"):
            first.check_unchanged()
    second.check_unchanged()


def test_a_failed_rebuild_keeps_the_old_records(root):
    first = ensure_mindrecord(make_config(root), "train")
    change_annotation(root)
    (root / "train2017" / "img_0.v1.jpg").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"img_0.v1.jpg cannot be decoded \(6 bytes\)"):
        ensure_mindrecord(make_config(root), "train")
    first.check_unchanged()
    assert leftovers(root / "MindRecord_COCO") == {os.path.basename(beside(first.path, "failed"))}
    cv2.imwrite(str(root / "train2017" / "img_0.v1.jpg"), picture(40, 60))
    ensure_mindrecord(make_config(root), "train")
    assert not leftovers(root / "MindRecord_COCO")


@pytest.mark.parametrize(
    "change",
    [
        {"class_names": ("dog",)},
        {"class_names": ("dog", "cat")},
        {"num_gts": 2},
        {"skip_empty_images": False},
    ],
)
def test_other_settings_make_another_set_beside(root, change):
    first = ensure_mindrecord(make_config(root), "train")
    second = ensure_mindrecord(make_config(root, **change), "train")
    assert second.path != first.path
    first.check_unchanged()


def test_a_moved_data_set_is_reused(root, tmp_path, capsys):
    ensure_mindrecord(make_config(root), "train")
    capsys.readouterr()
    moved = tmp_path / "elsewhere"
    shutil.move(root, moved)
    record_set = ensure_mindrecord(make_config(moved), "train")
    assert "converting" not in capsys.readouterr().out
    assert Path(record_set.image_paths[0]).read_bytes() and len(rows_of(record_set)) == 7


# ------------------------------------------------------------------ bad input


def spoil(root, name="img_3.v1.jpg", content=None):
    path = root / "train2017" / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


BAD_INPUT = {
    "missing image": (lambda r: spoil(r), {}, "1 of the 7 images that .* do not exist, first: .*"),
    "empty image": (lambda r: spoil(r, content=b""), {}, r"img_3.v1.jpg cannot be decoded \(0 b"),
    "not an image": (lambda r: spoil(r, content=b"<html>"), {}, "img_3.v1.jpg cannot be decoded"),
    "no annotations": (lambda r: (r / ANNO).unlink(), {}, "instances_train2017.json does not ex"),
    "broken JSON": (lambda r: (r / ANNO).write_text("{"), {}, "is not valid JSON"),
    "no coco_root": (None, {"coco_root": ""}, "coco_root is empty"),
    "wrong coco_root": (None, {"coco_root": "gone"}, "image folder gone/train2017 does not exist"),
    "wrong split": (
        None,
        {"train_data_type": "x"},
        r"has no part 'x' \(train_data_type\); it has train2017",
    ),
    "wrong class": (None, {"class_names": ("cta",)}, "did you mean 'cat'"),
    "no image_dir": (None, {"dataset": "other"}, "image_dir is empty"),
    "no anno_path": (None, {"dataset": "txt", "image_dir": "."}, "anno_path is empty"),
    "mindrecord_dir is a file": (
        lambda r: (r / "file").write_text(""),
        {"mindrecord_dir": "{root}/file"},
        "cannot make the folder .*file: .*; set mindrecord_dir to another one",
    ),
    "every image is bad": (
        lambda r: [spoil(r, f"img_{i}.v1.jpg", b"x") for i in range(7)],
        {"skip_bad_images": True},
        "no usable image is left; 7 missing or undecodable images, skipped",
    ),
    "every image is missing": (
        lambda r: [spoil(r, f"img_{i}.v1.jpg") for i in range(7)],
        {"skip_bad_images": True},
        "no usable image is left",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_clear_line(root, case):
    change, settings, expected = BAD_INPUT[case]
    if change:
        change(root)
    settings = {
        k: v.replace("{root}", str(root)) if isinstance(v, str) else v for k, v in settings.items()
    }
    config = make_config(**{"coco_root": str(root), **settings})
    with pytest.raises(UserError, match=expected) as caught:
        ensure_mindrecord(config, "train")
    assert "\n" not in str(caught.value)
    assert not list(root.glob("MindRecord_COCO/*/index.npz"))


def test_odd_pictures_are_reported(root):
    """12 bits in 16, and uncompressed samples that end in zeros."""
    deep = (np.arange(46 * 69).reshape(46, 69) % 4096).astype(np.uint16)
    spoil(root, "img_1.v1.jpg", cv2.imencode(".tiff", deep)[1].tobytes())
    black_end = picture(46, 69)
    black_end[:30] = 0  # the end of a BMP is the picture's top
    spoil(root, "img_2.v1.jpg", cv2.imencode(".bmp", black_end)[1].tobytes())
    lines = ensure_mindrecord(make_config(root), "train").report.lines()
    (narrow,) = [line for line in lines if "1 image of 16 bits that uses far fewer" in line]
    assert "img_1.v1.jpg has values up to 3173 of 65535, like 12 bits: 12 of 255" in narrow
    (zeros,) = [line for line in lines if "1 uncompressed image that ends in zeros" in line]
    assert zeros.strip().startswith("1 ") and "img_2.v1.jpg" in zeros


def test_pictures_beyond_the_limit_are_bad_ones(root):
    config = make_config(root, max_image_pixels=46 * 69 - 1)
    with pytest.raises(UserError, match="69x46 pixels, more than max_image_pixels 3173"):
        ensure_mindrecord(config, "train")
    skipping = make_config(root, max_image_pixels=46 * 69 - 1, skip_bad_images=True)
    few = ensure_mindrecord(skipping, "train")
    assert few.report.counts["bad_image"] >= 1
    more = ensure_mindrecord(make_config(root, skip_bad_images=True), "train")
    assert more.num_images > few.num_images


def test_bad_images_can_be_skipped_and_return_when_mended(root):
    spoil(root)
    spoil(root, "img_5.v1.jpg", b"nothing")
    config = make_config(root, skip_bad_images=True)
    record_set = ensure_mindrecord(config, "train")
    assert record_set.num_images == 5 and record_set.report.counts["bad_image"] == 2
    assert "2 missing or undecodable images, skipped: img_3.v1.jpg; img_5.v1.jpg" in "".join(
        record_set.report.lines()
    )
    assert [row["image_index"].item() for row in rows_of(record_set)] == list(range(5))
    cv2.imwrite(str(root / "train2017" / "img_3.v1.jpg"), picture(46, 69))
    assert ensure_mindrecord(config, "train").num_images == 6


def test_a_failed_write_is_one_line(root, monkeypatch):
    def full(*_):
        raise RuntimeError("Syntax error.\n\n----\n[ERROR] No space left on device\n more")

    monkeypatch.setattr(record_writer.FileWriter, "write_raw_data", full)
    with pytest.raises(UserError, match="cannot write MindRecord .*No space left on device; free"):
        ensure_mindrecord(make_config(root), "train")


def test_validation_file_can_be_given(root):
    other = root / "other.json"
    shutil.copy(root / ANNO, other)
    config = make_config(root, val_data_type="train2017", anno_path=str(other))
    assert data_source(config, "val").anno_path == str(other)
    assert data_source(config, "train").anno_path == str(root / ANNO)


@pytest.mark.parametrize("strange", ["precious.txt", "train.mindrecord0.txt", "folder"])
def test_what_is_no_record_set_is_not_replaced(tmp_path, strange):
    config = make_config(make_coco_root(tmp_path / "data"))
    found = Path(ensure_mindrecord(config, "train").path)
    (found / "index.npz").unlink()
    if strange == "folder":
        (found / strange).mkdir()
    else:
        (found / strange).write_text("mine")
    before = sorted(found.iterdir())
    with pytest.raises(UserError, match=f"converted data belongs there, but it holds {strange}"):
        ensure_mindrecord(config, "train")
    assert sorted(found.iterdir()) == before
