# SPDX-License-Identifier: Apache-2.0
"""Archives that are what they should be, and those that are not."""

import os
import stat
import zipfile

import pytest

from src.errors import UserError
from src.safe_zip import unzip


def make(path, *entries, compression=zipfile.ZIP_DEFLATED):
    """Write a zip of (name or ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_files_and_folders(tmp_path, folder):
    archive = make(
        tmp_path / "a.zip", ("coco/", ""), ("coco/a b.txt", "one"), ("coco/deep/ü.bin", b"\0" * 9),
        ("__MACOSX/x", "rubbish"), ("./top.txt", "two"),
    )  # fmt: skip
    assert unzip(archive, folder) == 3
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert found == {"coco/a b.txt": b"one", "coco/deep/ü.bin": b"\0" * 9, "top.txt": b"two"}
    assert unzip(archive, folder) == 3  # again, over what is there


def link(name, kind=stat.S_IFLNK):
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o777) << 16
    return info


@pytest.mark.parametrize(
    "name, problem",
    [
        ("../evil.txt", "leads outside the folder"),
        ("a/../../evil.txt", "leads outside the folder"),
        ("..\\evil.txt", "leads outside the folder"),
        ("/tmp/evil.txt", "leads outside the folder"),
        ("C:/evil.txt", "leads outside the folder"),
        (".", "leads outside the folder"),
        (link("evil"), "is a link or a device"),
        (link("evil", stat.S_IFIFO), "is a link or a device"),
    ],
)
def test_nothing_is_written_outside_or_at_all(tmp_path, folder, name, problem):
    archive = make(tmp_path / "a.zip", ("good.txt", "good"), (name, "../data"))
    with pytest.raises(UserError, match=problem) as raised:
        unzip(archive, folder)
    assert str(raised.value).startswith(f"{archive}: ")
    assert list(folder.iterdir()) == [] and not (tmp_path / "evil.txt").exists()


def test_a_link_that_is_there_already_is_not_followed(tmp_path, folder):
    (tmp_path / "elsewhere").mkdir()
    (folder / "coco").symlink_to(tmp_path / "elsewhere")
    (folder / "name").symlink_to(tmp_path / "elsewhere" / "target")
    for name in ("coco/a.txt", "coco/deep/a.txt", "coco/", "coco/deep/", "name"):
        with pytest.raises(UserError, match="a link leads out of"):
            unzip(make(tmp_path / "a.zip", ("first.txt", "x"), (name, "x")), folder)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert {path.name for path in folder.iterdir()} == {"coco", "name"}


def test_a_folder_that_is_a_link_itself(tmp_path, folder):
    (tmp_path / "link").symlink_to(folder)
    archive = make(tmp_path / "a.zip", ("./", ""), ("coco/", ""), ("coco/a.txt", "x"))
    assert unzip(archive, tmp_path / "link") == 1
    assert (folder / "coco/a.txt").read_text() == "x"


def test_a_bomb(tmp_path, folder, monkeypatch):
    monkeypatch.setattr("src.safe_zip.SMALL", 1000)
    archive = make(tmp_path / "a.zip", ("zeros", b"\0" * 10_000_000))
    with pytest.raises(UserError, match="looks like a zip bomb"):
        unzip(archive, folder)
    assert unzip(make(tmp_path / "b.zip", ("a", b"x" * 900)), folder) == 1


def test_more_than_fits(tmp_path, folder, monkeypatch):
    usage = type("Usage", (), {"free": 99})
    monkeypatch.setattr("src.safe_zip.shutil.disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="needs 100 bytes in .* which has 99"):
        unzip(make(tmp_path / "a.zip", ("a", b"x" * 100)), folder)


def test_damaged_files(tmp_path, folder):
    good = make(tmp_path / "a.zip", ("a.txt", "some text" * 50), compression=zipfile.ZIP_STORED)
    content = good.read_bytes()
    damaged = tmp_path / "b.zip"
    for bad in (b"", b"no zip", content[: len(content) // 2], content.replace(b"text", b"tixt", 1)):
        damaged.write_bytes(bad)
        with pytest.raises(UserError, match="is no whole zip file"):
            unzip(damaged, folder)
        assert list(folder.iterdir()) == []


def test_damaged_lzma(tmp_path, folder):
    good = make(tmp_path / "a.zip", ("a.txt", os.urandom(3000)), compression=zipfile.ZIP_LZMA)
    content = bytearray(good.read_bytes())
    content[60:1000] = b"\xff" * 940
    good.write_bytes(content)
    with pytest.raises(UserError, match="is no whole zip file"):
        unzip(good, folder)
    assert list(folder.iterdir()) == []
