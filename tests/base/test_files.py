# SPDX-License-Identifier: Apache-2.0
"""Files that are there whole or not at all, and what is swept of dead processes."""

import os
import socket
import subprocess
import sys
import time

import pytest

from src.base.files import (
    is_regular_file,
    remove_leftovers,
    replacing,
    temporary_name,
    write_text_atomic,
)


@pytest.fixture(scope="module")
def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


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


def test_what_dead_processes_left_is_removed(tmp_path, dead):
    host = socket.gethostname()
    gone = [
        f".saving-{dead}@{host}@faster_rcnn-1_5.ckpt",
        f".saving-{dead}@{host}@faster_rcnn-1_5.tmp",
        f".saving-{dead}-best.ckpt",
        f".checkpoints.json.{dead}.tmp",
        f".loss_3.log.{dead}.tmp",
        f".config-{dead}.yaml",
        ".config-a1b2_3dx.yaml",
    ]
    kept = [
        f".saving-{os.getpid()}@{host}@a.ckpt",
        f".saving-{os.getppid()}-a.ckpt",
        f".saving-{dead}@another host@a.ckpt",
        f".config-{os.getpid()}.yaml",
        ".config-mine.yml",
        f".notes.{dead}.tmp",
        ".saving-money.txt",
        ".train_0.lock",
        "faster_rcnn-1_5.ckpt",
    ]
    for name in gone + kept:
        (tmp_path / name).write_text("")
    (tmp_path / f".saving-{dead}@{host}@model").mkdir()
    (tmp_path / f".saving-{dead}@{host}@model" / "inside").write_text("")
    (tmp_path / f".saving-{dead}@{host}@link").symlink_to(tmp_path / "faster_rcnn-1_5.ckpt")
    assert remove_leftovers(tmp_path) == len(gone) + 2
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(kept)


def test_a_number_that_was_given_again_and_a_host_that_is_silent_for_a_day(tmp_path):
    for name in (f".saving-{os.getpid()}@{socket.gethostname()}@a", ".saving-1@elsewhere@a"):
        (tmp_path / name).write_text("")
        past = time.time() - 2 * 24 * 3600
        os.utime(tmp_path / name, (past, past))
    assert remove_leftovers(tmp_path) == 2
    assert remove_leftovers(tmp_path / "nowhere") == 0


def test_regular_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("file")
    found = {name: is_regular_file(tmp_path / name) for name in ("pipe", "file", "link", "", "x")}
    assert found == {"pipe": False, "file": True, "link": True, "": False, "x": False}
