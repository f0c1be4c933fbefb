# SPDX-License-Identifier: Apache-2.0
"""Archives that are what they should be, and those that are not."""

import os
import socket
import stat
import tracemalloc
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src.base.errors import UserError
from src.storage.safe_zip import unzip


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
        tmp_path / "a.zip",
        ("coco/", ""),
        ("coco/a b.txt", "one"),
        ("coco/deep/ü.bin", b"\0" * 9),
        ("__MACOSX/x", "rubbish"),
        ("./top.txt", "two"),
    )
    assert unzip(archive, folder) == 3
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert found == {"coco/a b.txt": b"one", "coco/deep/ü.bin": b"\0" * 9, "top.txt": b"two"}
    assert unzip(archive, folder) == 3  # again, over what is there


def test_what_a_killed_process_left_goes(tmp_path, folder, dead_process):
    host = socket.gethostname()
    (folder / "coco").mkdir()
    half = folder / "coco" / f".saving-{dead_process}@{host}@1.jpg"
    alive = folder / "coco" / f".saving-{os.getppid()}@{host}@2.jpg"
    for path in (half, alive):
        path.write_bytes(b"half")
    assert unzip(make(tmp_path / "a.zip", ("coco/1.jpg", "whole")), folder) == 1
    assert sorted(p.name for p in (folder / "coco").iterdir()) == [alive.name, "1.jpg"]


def test_small_files_are_not_waited_for(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("waits for the disk"))
    assert unzip(make(tmp_path / "a.zip", ("1.jpg", "1"), ("2.jpg", "2")), folder) == 2


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
        (".", "has no file name"),
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


@pytest.mark.parametrize(
    "names, problem",
    [
        (["x", ""], "the entry '' has no file name"),
        (["a\x00b"], r"the entry 'a\\x00b' has control characters"),
        (["\x1b[2Ja"], r"the entry '\\x1b\[2Ja' has control characters"),
        (["a\n"], "has control characters"),
        (["x" * 256], "has a name of more than 255 bytes"),
        (["ü" * 128], "has a name of more than 255 bytes"),
        (["a/" * 65 + "b"], "or 64 folders"),
        (["a" * 60000], "has a name of more than 255 bytes"),
        (["a", "a"], "the entry 'a' is in it twice"),
        (["a/b", "a//b"], "is in it twice"),
        (["a", "a/b"], "the entry 'a' is a file, and a folder for others"),
        (["a/b", "a"], "the entry 'a' is a file, and a folder for others"),
        (["a", "a/"], "is in it twice"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_are_none(names, problem, tmp_path, folder):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.txt", "good")
        for name in names:
            info = zipfile.ZipInfo(name.replace("\0", "0"))
            info.filename = info.orig_filename = name
            archive.writestr(info, "x")
    with pytest.raises(UserError, match=problem) as raised:
        unzip(path, folder)
    assert list(folder.iterdir()) == []
    text = str(raised.value).removeprefix(str(path))
    assert text.isprintable() and len(text) < 250


def test_names_of_every_length_and_alphabet(tmp_path, folder):
    names = ["x" * 255, "ü" * 127, "a/.b.part", "a/b", "图像 1.jpg", "👨\u200d👩.jpg", "A", "a."]
    of_macos = ["Icon\r", "d/Icon\r", "__MACOSX/a"]
    archive = make(tmp_path / "a.zip", *((name, name) for name in (*names, *of_macos)))
    assert unzip(archive, folder) == len(names)
    found = {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}
    assert found == {name: name for name in names}


@pytest.mark.parametrize(
    "there, name", [("a", "a/b"), ("a", "a/b/c"), ("a/b/", "a/b"), ("a", "a/")]
)
def test_what_is_in_the_way_is_said_before_anything_is_written(there, name, tmp_path, folder):
    place = folder / there
    place.parent.mkdir(exist_ok=True)
    place.mkdir() if there.endswith("/") else place.write_text("mine")
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError, match="is in the way of what is unpacked"):
        unzip(make(tmp_path / "a.zip", ("first", "x"), (name, "x")), folder)
    assert sorted(folder.rglob("*")) == before


def test_a_list_of_entries_that_is_too_long(tmp_path, folder, monkeypatch):
    archive = make(tmp_path / "a.zip", *((f"{n:040d}", "") for n in range(100)))
    monkeypatch.setattr("src.storage.safe_zip.LARGEST_LIST", 5000)
    with pytest.raises(UserError, match="a list of entries of 8600 bytes"):
        unzip(archive, folder)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_in_small_pieces(method, tmp_path, folder):
    """They give all that a piece of the archive holds at once."""
    archive = make(tmp_path / "a.zip", ("zeros", b"\0" * 30_000_000), compression=method)
    tracemalloc.start()
    assert unzip(archive, folder) == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (folder / "zeros").stat().st_size == 30_000_000 and peak < 120_000_000


def test_a_hole_is_no_content(tmp_path, folder, monkeypatch):
    """The archive's size on paper does not make a bomb smaller."""
    monkeypatch.setattr("src.storage.safe_zip.SMALL", 1000)
    small = make(tmp_path / "a.zip", ("zeros", b"\0" * 10_000_000)).read_bytes()
    path = tmp_path / "b.zip"
    path.touch()
    os.truncate(path, 2**30)
    with open(path, "ab") as file:
        file.write(small)
    with pytest.raises(UserError, match="looks like a zip bomb"):
        unzip(path, folder)


@pytest.mark.parametrize("kind", ["pipe", "folder", "nothing"])
def test_what_is_no_file(kind, tmp_path, folder):
    path = tmp_path / "a.zip"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(UserError, match="is no whole zip file"):
        unzip(path, folder)


@given(data=st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_changed_bytes_end_in_one_line(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("zip")
    (folder / "out").mkdir()
    entries = [("a/b.txt", "text" * 9), ("ü.txt", "more"), ("folder/", "")]
    content = bytearray(make(folder / "a.zip", *entries).read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "a.zip").write_bytes(content)
    try:
        unzip(folder / "a.zip", folder / "out")
    except UserError as error:
        assert "\n" not in str(error)
    assert sorted(path.name for path in folder.iterdir()) == ["a.zip", "out"]


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
    monkeypatch.setattr("src.storage.safe_zip.SMALL", 1000)
    archive = make(tmp_path / "a.zip", ("zeros", b"\0" * 10_000_000))
    with pytest.raises(UserError, match="looks like a zip bomb"):
        unzip(archive, folder)
    assert unzip(make(tmp_path / "b.zip", ("a", b"x" * 900)), folder) == 1


def test_more_than_fits(tmp_path, folder, monkeypatch):
    usage = type("Usage", (), {"free": 99})
    monkeypatch.setattr("src.storage.safe_zip.shutil.disk_usage", lambda path: usage)
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
