# SPDX-License-Identifier: Apache-2.0
"""Locks on folders: who holds one is said, and it is free when its holder is dead."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys

import pytest

from src.base.errors import UserError
from src.base.folder_lock import Busy, holder_of, take
from src.base.one_at_a_time import exclusive
from src.processes.run_lock import hold_run_folder, rank_at_work, released_at_the_end
from tests.helpers.paths import importing

HOLD = """
import sys, time
from src.base.folder_lock import take
lock = take(sys.argv[1])
exec(sys.argv[2] if len(sys.argv) > 2 else "")
print("held", flush=True)
time.sleep(60)
"""


class OneRank:
    """A process of a run that meets no other."""

    def __init__(self, rank=0, told="", others=()):
        self.rank, self.told, self.others, self.folder = rank, told, list(others), None

    def barrier(self):
        pass

    def broadcast(self, content):
        return self.told if self.rank else content

    def all_gather(self, content):
        return [content, *self.others]


@pytest.fixture
def holder(repo_root):
    """Start a process that holds a lock; `more` is what else it does."""
    started = []

    def hold(path, more=""):
        command = [sys.executable, "-c", HOLD, str(path), more]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=importing())
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def test_the_holder_is_named_until_it_is_killed(tmp_path, holder):
    path = tmp_path / "a.lock"
    process = holder(path)
    with pytest.raises(Busy, match=rf"pid {process.pid} on \S+, since \d{{4}}-\d\d-\d\d "):
        take(path)
    assert holder_of(path).startswith(f"pid {process.pid} on ")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert holder_of(path) == ""
    take(path).release()


FORKS = """
import os, threading
def fork():
    child = os.fork()
    if not child:
        time.sleep(60)
    with open({!r}, "a") as file:
        file.write(str(child) + " ")
fork()
thread = threading.Thread(target=fork)
thread.start()
thread.join()
"""


def test_a_child_that_outlives_its_parent_does_not_keep_the_lock(tmp_path, holder):
    path, pids = tmp_path / "a.lock", tmp_path / "pids"
    process = holder(path, FORKS.format(str(pids)))
    children = [int(pid) for pid in pids.read_text().split()]
    process.kill()
    process.wait()
    try:
        assert len(children) == 2 and holder_of(path) == ""
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"pid": 1e999, "host": 3, "since": 1e30}', "[" * 9000]
)
def test_a_name_that_cannot_be_read(tmp_path, holder, content):
    path = tmp_path / "a.lock"
    holder(path)
    path.write_text(content)
    assert holder_of(path) == "a process that has not left its name"


def test_a_name_is_one_line_without_terminal_codes(tmp_path, holder):
    path = tmp_path / "a.lock"
    holder(path)
    path.write_text(json.dumps({"pid": 7, "host": "a\n\x1b[2Jb", "since": 0}))
    assert holder_of(path).startswith("pid 7 on a[2Jb, since 19")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(tmp_path, capsys, monkeypatch, number):
    def no_locks(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with released_at_the_end():
        hold_run_folder(tmp_path / "run", OneRank())
    note = capsys.readouterr().err
    assert note.startswith(f"note: {tmp_path / 'run'}") and "no locks" in note
    assert note.count("\n") == 1
    data = str(tmp_path / "data")
    with (
        exclusive(data, 0, 0),
        pytest.raises(UserError, match="waited 0 s for another process"),
        exclusive(data, 0, 0),
    ):
        pass
    with exclusive(data, 0, 0):
        pass


def test_a_run_in_a_folder_that_another_one_uses(tmp_path, holder):
    process = holder(tmp_path / ".train_0.lock")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match="another run is at work") as caught, released_at_the_end():
        hold_run_folder(tmp_path, OneRank())
    assert str(tmp_path) in str(caught.value) and f"pid {process.pid} on" in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_rank_that_outlives_its_run_keeps_the_folder(tmp_path, holder):
    process = holder(tmp_path / ".train_3.lock")
    assert f"pid {process.pid} on" in rank_at_work(tmp_path)
    with pytest.raises(UserError, match=rf"pid {process.pid} on"), released_at_the_end():
        hold_run_folder(tmp_path, OneRank())
    process.kill()
    process.wait()
    assert rank_at_work(tmp_path) == ""
    with released_at_the_end():
        hold_run_folder(tmp_path, OneRank())


def test_every_rank_holds_its_own_and_hears_of_the_others(tmp_path):
    ranks = OneRank(rank=2)
    with released_at_the_end():
        hold_run_folder(tmp_path, ranks)
        assert holder_of(tmp_path / ".train_2.lock") and ranks.folder == tmp_path
    assert holder_of(tmp_path / ".train_2.lock") == ""
    for told, others in (("no", ()), ("", ["no"])):
        with pytest.raises(UserError, match="no"), released_at_the_end():
            hold_run_folder(tmp_path, OneRank(rank=1, told=told, others=others))
        assert rank_at_work(tmp_path) == ""


def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path):
    with pytest.raises(UserError), released_at_the_end():
        hold_run_folder(tmp_path / "new/run", OneRank())
        raise UserError("no data")
    assert not (tmp_path / "new/run").exists()


def test_twice_in_one_process(tmp_path):
    with released_at_the_end():
        hold_run_folder(tmp_path, OneRank())
        hold_run_folder(tmp_path, OneRank())


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be used .*choose another output_dir"):
        hold_run_folder(tmp_path / "file/run", OneRank())


def test_the_lock_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        take(tmp_path / "a.lock").release()
    finally:
        os.umask(before)
    assert (tmp_path / "a.lock").stat().st_mode & 0o777 == 0o640
