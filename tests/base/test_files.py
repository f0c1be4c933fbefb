# SPDX-License-Identifier: Apache-2.0
"""Files that are there whole or not at all, and what is swept of dead processes."""

import hashlib
import os
import socket
import time

import pytest

from src.base.digests import file_digest, json_digest, parts_digest, texts_digest
from src.base.files import (
    remove_leftovers,
    replacing,
    replacing_folder,
    temporary_folder,
    temporary_name,
    write_json,
    write_text_atomic,
)


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_whole_and_readable_as_the_umask_says(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_text_atomic(tmp_path / "new" / "a.txt", "one")
        with replacing(tmp_path / "b.ckpt") as temporary:
            temporary.unlink()  # as MindSpore does
            temporary.write_bytes(b"two")
            temporary.chmod(0o400)
    finally:
        os.umask(before)
    assert (tmp_path / "new/a.txt").read_text() == "one"
    for name in ("new/a.txt", "b.ckpt"):
        assert (tmp_path / name).stat().st_mode & 0o777 == mode


def test_a_failed_write_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "a.ckpt"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), replacing(path) as temporary:
        temporary.with_suffix(".tmp").write_text("MindSpore's own temporary file")
        raise OSError("full")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]


def test_file_and_folder_are_flushed_around_the_renaming(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace

    def noted(descriptor):
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("renamed"), replace(a, b)))
    write_text_atomic(tmp_path / "a.txt", "x")
    assert done == ["file", "renamed", "folder"]


@pytest.mark.parametrize("name", ["ä" * 127, "n" * 250, "a.ckpt"])
def test_temporary_names_fit_where_the_name_does(tmp_path, name):
    assert len(os.fsencode(temporary_name(name))) < 255
    write_text_atomic(tmp_path / name, "x")
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_names_that_are_cut_stay_apart():
    first, second = (temporary_name(f"{letter}{'n' * 200}.jpg") for letter in "ab")
    assert first != second and first == temporary_name(f"a{'n' * 200}.jpg")
    assert temporary_name("short.jpg").endswith("@short.jpg")


def test_a_secret_is_never_open_to_others(tmp_path):
    modes = []
    with replacing(tmp_path / "key", mode=0o600) as temporary:
        modes.append(temporary.stat().st_mode & 0o777)
    assert [*modes, (tmp_path / "key").stat().st_mode & 0o777] == [0o600, 0o600]


def test_the_first_may_win(tmp_path):
    for text in ("first", "second"):
        with replacing(tmp_path / "key", overwrite=False) as temporary:
            temporary.write_text(text)
    assert (tmp_path / "key").read_text() == "first" and len(list(tmp_path.iterdir())) == 1


def test_a_small_file_of_many_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("waits for the disk"))
    with replacing(tmp_path / "a", sync=False) as temporary:
        temporary.write_text("x")
    assert (tmp_path / "a").read_text() == "x"


def test_json_and_its_digest(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1]})
    write_json(tmp_path / "b.json", {"b": [1]}, indent=None)
    assert (tmp_path / "a.json").read_text() == '{\n "b": [\n  1\n ]\n}'
    assert (tmp_path / "b.json").read_text() == '{"b": [1]}'
    whole = hashlib.sha256(b'{"b": [1]}').hexdigest()
    assert whole == file_digest(tmp_path / "b.json") == json_digest({"b": [1]})
    assert whole == parts_digest(tmp_path / "b.json", [(0, 4), (4, 99)])
    assert texts_digest(["a", b"b"]) == hashlib.sha256(b"a\0b\0").hexdigest()


# --------------------------------------------------------------------------- folders


@pytest.mark.parametrize("temporary", [None, "mine"])
def test_a_folder_takes_the_place_of_another(tmp_path, temporary):
    path = tmp_path / "set"
    path.mkdir()
    (path / "old").write_text("")
    given = tmp_path / temporary if temporary else None
    with replacing_folder(path, temporary=given) as new:
        assert new == (given or tmp_path / temporary_name("set"))
        (new / "inner").mkdir()
        (new / "inner" / "file").write_text("x")
        (new / "inner" / "file").chmod(0o600)  # as a library may
        assert (path / "old").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    assert [p.name for p in path.iterdir()] == ["inner"]
    assert (path / "inner/file").stat().st_mode & 0o777 == 0o666 & (tmp_path / "set").stat().st_mode


def test_a_folder_that_fails_leaves_the_other(tmp_path, monkeypatch):
    path = tmp_path / "set"
    path.mkdir()
    (path / "old").write_text("")
    with pytest.raises(KeyError), replacing_folder(path) as new:
        (new / "file").write_text("")
        raise KeyError
    rename = os.rename
    monkeypatch.setattr(
        os, "rename", lambda a, b: rename(a, b) if a != new or b != path else os.stat("/none")
    )
    with pytest.raises(FileNotFoundError), replacing_folder(path):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["set"] and (path / "old").exists()


def test_a_temporary_folder_goes(tmp_path):
    with pytest.raises(KeyError), temporary_folder(tmp_path / "new" / "model") as folder:
        (folder / "part").write_text("")
        raise KeyError
    assert not list((tmp_path / "new").iterdir())


# --------------------------------------------------------------------------- leftovers


def test_what_dead_processes_left_is_removed(tmp_path, dead_process):
    host = socket.gethostname()
    gone = [
        f".saving-{dead_process}@{host}@faster_rcnn-1_5.ckpt",
        f".saving-{dead_process}@{host}@faster_rcnn-1_5.tmp",
        f".saving-{dead_process}-best.ckpt",
        f".checkpoints.json.{dead_process}.tmp",
        f".loss_3.log.{dead_process}.tmp",
        f".config-{dead_process}.yaml",
        ".config-a1b2_3dx.yaml",
    ]
    kept = [
        f".saving-{os.getpid()}@{host}@a.ckpt",
        f".saving-{os.getppid()}-a.ckpt",
        f".saving-{dead_process}@another host@a.ckpt",
        f".config-{os.getpid()}.yaml",
        ".config-mine.yml",
        f".notes.{dead_process}.tmp",
        ".saving-money.txt",
        ".train_0.lock",
        "faster_rcnn-1_5.ckpt",
    ]
    for name in gone + kept:
        (tmp_path / name).write_text("")
    (tmp_path / f".saving-{dead_process}@{host}@model").mkdir()
    (tmp_path / f".saving-{dead_process}@{host}@model" / "inside").write_text("")
    (tmp_path / f".saving-{dead_process}@{host}@link").symlink_to(tmp_path / "faster_rcnn-1_5.ckpt")
    assert remove_leftovers(tmp_path) == len(gone) + 2
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(kept)


def test_a_number_that_was_given_again_and_a_host_that_is_silent_for_a_day(tmp_path):
    for name in (f".saving-{os.getpid()}@{socket.gethostname()}@a", ".saving-1@elsewhere@a"):
        (tmp_path / name).write_text("")
        past = time.time() - 2 * 24 * 3600
        os.utime(tmp_path / name, (past, past))
    assert remove_leftovers(tmp_path) == 2
    assert remove_leftovers(tmp_path / "nowhere") == 0
