# SPDX-License-Identifier: Apache-2.0
"""Which files the inputs of predict.py stand for, and what is said of the others."""

import os
import socket

import pytest

from src.base.errors import UserError
from src.images.listing import find_images, find_inputs


def names(paths):
    return [path.name for path in paths]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "in"
    (folder / "sub" / "deeper").mkdir(parents=True)
    for name in (
        "b.PNG",
        "a.jpg",
        "c.jfif",
        "d.jpe",
        "e.jp2",
        "f.TIF",
        "notes.txt",
        "g.gif",
        "._a.JPG",
        ".hidden.png",
        "sub/z.webp",
        "sub/deeper/y.bmp",
    ):
        (folder / name).write_text("")
    return folder


def test_a_folder_stands_for_every_kind_that_can_be_decoded(folder):
    found, (note,) = find_images([str(folder / "notes.txt"), str(folder)])
    expected = ["notes.txt", "a.jpg", "b.PNG", "c.jfif", "d.jpe", "e.jp2", "f.TIF"]
    assert names(found) == expected
    assert "2 hidden: ._a.JPG, .hidden.png" in note
    assert "2 of other kinds: g.gif, notes.txt" in note
    assert "1 folder (--recursive takes what is in it): sub" in note


def test_folders_of_folders_in_order_and_once(folder):
    (folder / "sub" / "loop").symlink_to(folder)
    (folder / "again").symlink_to(folder / "sub")
    (folder / "predictions").mkdir()
    (folder / "predictions" / "a.png").write_text("")
    results = str(folder / "predictions")
    found, (note,) = find_images([str(folder)], recursive=True, results=results)
    assert names(found)[-2:] == ["z.webp", "y.bmp"] and names(found).count("z.webp") == 1
    assert len(found) == 8 and "1 folder of results: predictions" in note


def test_what_is_no_regular_file_never_blocks(folder):
    os.mkfifo(folder / "fifo.jpg")
    (folder / "null.png").symlink_to("/dev/null")
    (folder / "nowhere.jpg").symlink_to(folder / "gone")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s.jpg"))
    found, (note,) = find_images([str(folder)])
    assert "3 no regular files: fifo.jpg, null.png, s.jpg" in note
    assert "nowhere.jpg" in names(found)  # said when it is read: somebody meant it as a picture
    for name in ("fifo.jpg", "null.png", "s.jpg"):
        with pytest.raises(UserError, match="it is no regular file"):
            find_images([str(folder / name)])


def test_separators_of_windows_and_names_that_are_no_text(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert names(find_images(["sub\\z.webp"])[0]) == ["z.webp"]
    (folder / "back\\slash.jpg").write_text("")
    assert names(find_images(["back\\slash.jpg"])[0]) == ["back\\slash.jpg"]
    odd = os.fsdecode(b"sub/\xff\xfe.jpg")
    (folder / odd).write_text("")
    (folder / os.fsdecode(b"sub/\xff.txt")).write_text("")
    found, (note,) = find_images(["sub"])
    assert (folder / odd).name in names(found)
    note.encode("utf-8")


@pytest.mark.parametrize(
    "given, complaint",
    [
        ("empty", "no images in it"),
        ("texts", r"no images in it .*; left out: 1 of other kinds: a.txt"),
        ("gone.jpg", "no such file or folder"),
        ("x" * 5000, "too long"),
        ("a\0b", "null byte"),
        ("loop", "Too many levels of symbolic links"),
    ],
)
def test_inputs_without_an_image(tmp_path, monkeypatch, given, complaint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match=complaint):
        find_images([given])


def test_patterns_stand_for_files_of_the_known_kinds(folder, monkeypatch):
    monkeypatch.chdir(folder)
    found, (note,) = find_images(["*"])
    assert names(found) == ["a.jpg", "b.PNG", "c.jfif", "d.jpe", "e.jp2", "f.TIF"]
    assert "2 of other kinds: g.gif, notes.txt; 1 folder " in note
    assert names(find_images(["**/*.[bw]*"])[0]) == ["y.bmp", "z.webp"]
    (folder / "[1].jpg").write_text("")
    assert names(find_images(["[1].jpg"])[0]) == ["[1].jpg"]  # a file of that name goes first
    with pytest.raises(UserError, match=r"--input \*.none: no images in it"):
        find_images(["*.none"])
    (folder / "predictions").mkdir()
    (folder / "predictions" / "a.png").write_text("")
    found, _ = find_images(["**/*.[bp]*"], results="predictions")
    assert names(found) == ["y.bmp"]


def test_videos_cameras_and_streams(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for name in ("clip.MP4", "sub/b.webm"):
        (folder / name).write_text("")
    given = [".", "0", "/dev/video12", "rtsp://me:secret@cam.example:554/one?key=secret"]
    found = find_inputs(given, recursive=True)
    assert [video.stem for video in found.videos] == [
        *("clip", "b", "camera_0", "camera_12", "stream_cam_example")
    ]
    assert [video.is_live for video in found.videos] == [False, False, True, True, True]
    assert [video.source for video in found.videos[2:4]] == [0, 12]
    assert len(found.pictures) == 8
    assert "secret" not in found.videos[4].name and "secret" in found.videos[4].source
    (folder / "0").write_text("")
    assert names(find_inputs(["0"]).pictures) == ["0"]
    assert names(find_images(["."])[0]) == ["a.jpg", "b.PNG", "c.jfif", "d.jpe", "e.jp2", "f.TIF"]
