# SPDX-License-Identifier: Apache-2.0
"""Record sets that were damaged, or that somebody else made: healed, or one line that says why."""

import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from src.base.errors import UserError
from src.base.one_at_a_time import beside
from src.data import mindrecord, record_check, record_set
from src.data.mindrecord import ensure_mindrecord
from src.data.record_frame import frame_parts
from src.dataset import create_eval_dataset, create_train_dataset, iterate
from tests.helpers.data_helpers import make_coco_root, make_config

FILES = ("fingerprint.json", "index.npz", "train.mindrecord0", "train.mindrecord0.db")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = make_coco_root(tmp_path_factory.mktemp("original"), 4)
    ensure_mindrecord(make_config(root), "train")
    return root


@pytest.fixture
def root(original, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(original, copy, copy_function=shutil.copy2)
    return copy


def folder_of(root):
    (found,) = (path for path in (root / "MindRecord_COCO").iterdir() if path.name[0] != ".")
    return found


def images_of(records):
    batches = create_train_dataset(make_config(), records, epoch=0)
    return sum(len(b[0]) for b in iterate(batches, output_numpy=True, records=records))


def flip(path, place, bit=4):
    content = bytearray(path.read_bytes())
    content[place] ^= bit
    path.write_bytes(content)


def edit(change):
    """Change what is described in the index; its own checksums are right again."""

    def apply(folder):
        arrays = dict(np.load(folder / "index.npz"))
        described = json.loads(arrays["described"].tobytes())
        change(described, arrays)
        arrays["described"] = np.frombuffer(json.dumps(described).encode(), np.uint8)
        np.savez(folder / "index.npz", **arrays)

    return apply


def bomb(folder):
    with zipfile.ZipFile(folder / "index.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("described.npy", bytes(10_000_000))


def huge_array(folder):
    header = io.BytesIO()
    shape = {"shape": (10**12,), "fortran_order": False, "descr": "<f4"}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(folder / "index.npz", "w") as archive:
        archive.writestr("described.npy", header.getvalue())


def replaced(name, make):
    def apply(folder):
        (folder / name).unlink()
        make(folder / name)

    return apply


def the_set_is(make):
    def apply(folder):
        shutil.rmtree(folder)
        make(folder)

    return apply


DAMAGE = {
    **{f"{n} gone": replaced(n, lambda path: None) for n in FILES},
    **{f"{n} empty": replaced(n, Path.touch) for n in FILES},
    **{f"{n} a folder": replaced(n, Path.mkdir) for n in FILES},
    **{f"{n} a pipe": replaced(n, os.mkfifo) for n in FILES},
    **{f"{n} a link to itself": replaced(n, lambda p: p.symlink_to(p)) for n in FILES},
    **{f"{n} cut": lambda f, n=n: os.truncate(f / n, (f / n).stat().st_size // 2) for n in FILES},
    **{f"{n} longer": lambda f, n=n: (f / n).open("ab").write(b"x") for n in FILES if n[0] != "i"},
    "fingerprint of another set": lambda f: flip(f / "fingerprint.json", 25),
    "fingerprint a list": replaced("fingerprint.json", lambda p: p.write_text("[1]")),
    "fingerprint nested": replaced("fingerprint.json", lambda p: p.write_text("[" * 100_000)),
    "header": lambda f: flip(f / "train.mindrecord0", 20),
    "header's length": lambda f: flip(f / "train.mindrecord0", 6),
    "scalars": lambda f: flip(f / "train.mindrecord0", -3),
    "database": lambda f: flip(f / "train.mindrecord0.db", 30),
    "index": lambda f: flip(f / "index.npz", 600),
    "index packed": bomb,
    "index huge": huge_array,
    "earlier version": edit(lambda d, a: d["settings"].update(format_version=1)),
    "later version": edit(lambda d, a: d["settings"].update(format_version=99)),
    "files elsewhere": edit(lambda d, a: d.update(files={"../x": d["files"].popitem()[1]})),
    "parts without end": edit(
        lambda d, a: [known.update(parts=[[0, 10**18]]) for known in d["files"].values()]
    ),
    "ids of no kind": edit(lambda d, a: d.update(image_ids=[None] * 4)),
    "report": edit(lambda d, a: d["report"]["counts"].update(unheard_of=1)),
    "fewer names": edit(lambda d, a: d["file_names"].pop()),
    "labels": edit(lambda d, a: a.update(labels=a["labels"] + 90)),
    "offsets": edit(lambda d, a: a.update(offsets=a["offsets"] * 9)),
    "boxes": edit(lambda d, a: a.update(boxes=a["boxes"] * np.nan)),
    "no array": edit(lambda d, a: a.update(crowd=np.array(True))),
    "a file": the_set_is(Path.touch),
    "an empty folder": the_set_is(Path.mkdir),
    "a link to nothing": the_set_is(lambda p: p.symlink_to("nothing")),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_set_is_converted_anew(root, capsys, case):
    DAMAGE[case](folder_of(root))
    records = ensure_mindrecord(make_config(root), "train")
    assert " are damaged (" in capsys.readouterr().out
    assert images_of(records) == 4
    ensure_mindrecord(make_config(root), "train")
    assert "converting" not in capsys.readouterr().out


@pytest.mark.parametrize("case", ["fingerprint.json empty", "database", "later version"])
def test_damaged_records_without_their_images_are_one_clear_error(root, case):
    DAMAGE[case](folder_of(root))
    shutil.rmtree(root / "train2017")
    for _ in range(2):
        with pytest.raises(UserError, match="are damaged .*, and 4 of the 4 images that they were"):
            ensure_mindrecord(make_config(root), "train")
    assert folder_of(root).is_dir()


@pytest.mark.parametrize("purpose", ["tmp", "old", "failed", "damaged"])
@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda p: p.symlink_to("nothing")])
def test_leftovers_of_any_kind(root, purpose, make):
    folder = folder_of(root)
    make(Path(beside(str(folder), purpose)))
    (folder / "index.npz").unlink()
    assert images_of(ensure_mindrecord(make_config(root), "train")) == 4


# ------------------------------------------------------------------ a single record


def damage_image(folder, number=1):
    path = folder / "train.mindrecord0"
    content = path.read_bytes()
    place = -1
    for _ in range(number):
        place = content.index(b"\xff\xd8\xff", place + 1)
    flip(path, place + 200)


@pytest.mark.parametrize("make", [create_train_dataset, create_eval_dataset])
def test_a_damaged_record_is_told_from_a_damaged_picture(root, capsys, make):
    records = ensure_mindrecord(make_config(root), "train")
    damage_image(folder_of(root), 3)
    options = {"epoch": 0} if make is create_train_dataset else {}
    with pytest.raises(UserError, match="record 2, of image 'img_2.v1.jpg', is not what.*anew"):
        list(iterate(make(make_config(root), records, **options), records=records))
    capsys.readouterr()
    records = ensure_mindrecord(make_config(root), "train")
    assert "record 2, of image 'img_2.v1.jpg'" in capsys.readouterr().out
    assert images_of(records) == 4


def test_damaged_boxes_of_a_record_are_noticed(root):
    records = ensure_mindrecord(make_config(root), "train")
    path = folder_of(root) / "train.mindrecord0"
    flip(path, path.read_bytes().index(records.records[1].boxes.tobytes()))
    with pytest.raises(UserError, match="record 1, of image 'img_1.v1.jpg', is not what was"):
        images_of(records)


def test_what_mindspore_cannot_read_is_looked_through(root, monkeypatch):
    records = ensure_mindrecord(make_config(root), "train")

    class Unreadable:
        def create_tuple_iterator(self, **_):
            raise RuntimeError("Unexpected error. Invalid file")

    with pytest.raises(RuntimeError, match="Invalid file"):
        list(iterate(Unreadable(), records=records))
    damage_image(folder_of(root))
    with pytest.raises(UserError, match="are damaged .record 0.*start again"):
        list(iterate(Unreadable(), records=records))


def test_a_mark_that_cannot_be_left_is_no_promise(root, monkeypatch):
    records = ensure_mindrecord(make_config(root), "train")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(record_set, "write_json", refuse)
    assert str(records.damaged("x")).endswith("(x); delete the folder and start again")


def test_the_command_names_what_is_damaged(root, capsys):
    folder = folder_of(root)
    for given in (folder, folder.parent):
        assert record_check.main([str(given)]) == 0
        assert capsys.readouterr().out == f"{folder}: 4 records, sound\n"
    damage_image(folder)
    assert record_check.main([str(folder)]) == 1
    assert "damaged (record 0, of image 'img_0.v1.jpg'" in capsys.readouterr().out
    flip(folder / "train.mindrecord0.db", 30)
    assert record_check.main([str(folder)]) == 1
    assert "train.mindrecord0.db is not what was written" in capsys.readouterr().out
    for wrong in ("gone", "train2017"):
        with pytest.raises(UserError, match="give a folder of records"):
            record_check.main([str(root / wrong)])


# ------------------------------------------------------------------ writing


def test_everything_is_flushed_before_the_set_has_its_name(root, monkeypatch):
    shutil.rmtree(folder_of(root))
    flushed, rename = [], os.rename
    fsync = os.fsync
    monkeypatch.setattr(
        os,
        "fsync",
        lambda handle: (flushed.append(os.readlink(f"/proc/self/fd/{handle}")), fsync(handle)),
    )
    seen = []
    monkeypatch.setattr(os, "rename", lambda a, b: (seen.extend(flushed), rename(a, b)))
    records = ensure_mindrecord(make_config(root), "train")
    temporary = beside(records.path, "tmp")
    assert {os.path.join(temporary, name) for name in FILES} | {temporary} <= set(seen)
    assert os.path.dirname(records.path) in flushed


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_records_have_the_usual_rights(root, mask, mode):
    shutil.rmtree(folder_of(root))
    before = os.umask(mask)
    try:
        ensure_mindrecord(make_config(root), "train")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in folder_of(root).iterdir()} == {mode}


def test_the_frame_of_a_file_is_small(root):
    path = folder_of(root) / "train.mindrecord0"
    parts = frame_parts(str(path), path.stat().st_size)
    assert len(parts) == 2 and sum(length for _, length in parts) < 2000


def test_images_of_all_sizes_are_read_ahead_within_bounds(root, monkeypatch):
    shutil.rmtree(folder_of(root))
    monkeypatch.setattr("src.data.record_writer._BYTES_AHEAD", 1)
    monkeypatch.setattr(mindrecord, "_HEAD_START_SECONDS", 0)
    assert images_of(ensure_mindrecord(make_config(root), "train")) == 4
