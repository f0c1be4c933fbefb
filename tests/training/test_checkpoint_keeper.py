# SPDX-License-Identifier: Apache-2.0
"""Which checkpoints stay, and a list of them that somebody else has written."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.base.errors import UserError
from src.training.checkpoint_keeper import CheckpointKeeper
from src.training.saving import RETRY_SECONDS, CheckpointSaver


def _add(keeper, name):
    keeper.path(name).write_text(name)
    keeper.added(name)


def test_keeper_keeps_the_newest_of_this_run_only(tmp_path):
    (tmp_path / "faster_rcnn-99_1.ckpt").write_text("another run")
    (tmp_path / "best.ckpt").write_text("best")
    keeper = CheckpointKeeper(tmp_path, 2)
    keeper.write_index()
    assert CheckpointKeeper.read_index(tmp_path) == []
    for epoch in (1, 2, 3):
        _add(keeper, f"faster_rcnn-{epoch}_5.ckpt")
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == [
        "best.ckpt",
        "faster_rcnn-2_5.ckpt",
        "faster_rcnn-3_5.ckpt",
        "faster_rcnn-99_1.ckpt",
    ]
    assert CheckpointKeeper.read_index(tmp_path) == keeper.names


def test_keeper_goes_on_where_a_run_stopped(tmp_path):
    keeper = CheckpointKeeper(tmp_path, 2)
    for name in ("faster_rcnn-1_5.ckpt", "faster_rcnn-2_3.ckpt"):
        _add(keeper, name)
    keeper = CheckpointKeeper(tmp_path, 2, resume=True)
    _add(keeper, "faster_rcnn-2_5.ckpt")
    assert keeper.names == ["faster_rcnn-2_3.ckpt", "faster_rcnn-2_5.ckpt"]
    assert not (tmp_path / "faster_rcnn-1_5.ckpt").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"checkpoints": 5}', '{"checkpoints": [3]}'])
def test_a_damaged_list_is_no_list(tmp_path, content):
    (tmp_path / CheckpointKeeper.INDEX).write_text(content)
    assert CheckpointKeeper.read_index(tmp_path) is None


def test_listed_files_that_are_gone_do_not_count(tmp_path):
    keeper = CheckpointKeeper(tmp_path, 3)
    for name in ("faster_rcnn-1_5.ckpt", "faster_rcnn-2_5.ckpt"):
        _add(keeper, name)
    keeper.path("faster_rcnn-2_5.ckpt").unlink()
    assert CheckpointKeeper.read_index(tmp_path) == ["faster_rcnn-1_5.ckpt"]


def test_a_checkpoint_within_an_epoch_stays_until_the_next_one_and_displaces_none(tmp_path):
    keeper = CheckpointKeeper(tmp_path, 2)

    def add(name, within):
        keeper.path(name).write_text(name)
        keeper.added(name, within_epoch=within)
        assert CheckpointKeeper.read_index(tmp_path) == keeper.names
        assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == sorted(keeper.names)
        return [old.removeprefix("faster_rcnn-").removesuffix(".ckpt") for old in keeper.names]

    add("faster_rcnn-1_9.ckpt", False)
    add("faster_rcnn-2_9.ckpt", False)
    assert add("faster_rcnn-3_4.ckpt", True) == ["1_9", "2_9", "3_4"]
    assert add("faster_rcnn-3_8.ckpt", True) == ["1_9", "2_9", "3_8"]
    keeper = CheckpointKeeper(tmp_path, 2, resume=True)
    assert add("faster_rcnn-3_9.ckpt", False) == ["2_9", "3_9"]
    assert add("faster_rcnn-4_4.ckpt", True) == ["2_9", "3_9", "4_4"]


NAME = "faster_rcnn-1_5.ckpt"


@pytest.mark.parametrize(
    "entry",
    [
        "/etc/passwd",
        "../mine.txt",
        "../faster_rcnn-1_4.ckpt",
        "sub/faster_rcnn-1_4.ckpt",
        "",
        "best.ckpt",
        "faster_rcnn-1_4.ckpt\n",
        "faster_rcnn-\u0661_4.ckpt",
        "a\0b",
        7,
        None,
        [NAME],
        {"a": 1},
        "faster_rcnn-" + "9" * 5000 + "_1.ckpt",
        1e308,
    ],
)
def test_entries_that_are_no_names_of_checkpoints_are_passed_over(tmp_path, entry):
    folder = tmp_path / "ckpt_0"
    (folder / "sub").mkdir(parents=True)
    others = [
        tmp_path / "mine.txt",
        tmp_path / "faster_rcnn-1_4.ckpt",
        folder / "best.ckpt",
        folder / "sub" / "faster_rcnn-1_4.ckpt",
    ]
    for path in [*others, folder / NAME]:
        path.write_text("mine")
    content = {"checkpoints": [entry, NAME], "within_epoch": [entry]}
    (folder / CheckpointKeeper.INDEX).write_text(json.dumps(content))
    said = []
    keeper = CheckpointKeeper(folder, 1, resume=True, say=said.append)
    assert keeper.names == [NAME]
    assert len(said) == 1 and "1 of its 2 entries" in said[0]
    _add(keeper, "faster_rcnn-2_5.ckpt")
    assert not (folder / NAME).exists() and all(path.exists() for path in others)


def test_links_that_lead_out_of_the_folder_are_none_of_ours(tmp_path):
    folder = tmp_path / "ckpt_0"
    folder.mkdir()
    (tmp_path / "mine.ckpt").write_text("mine")
    (folder / NAME).symlink_to("../mine.ckpt")
    os.mkfifo(folder / "faster_rcnn-2_5.ckpt")
    content = {"checkpoints": [NAME, "faster_rcnn-2_5.ckpt"]}
    (folder / CheckpointKeeper.INDEX).write_text(json.dumps(content))
    assert CheckpointKeeper.read_index(folder) == []


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.text(max_size=9)
    | st.sampled_from([NAME, "../x", "checkpoints", "within_epoch"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["checkpoints", "within_epoch", "x"]), inner, max_size=3)
    ),
)


@given(_JSON)
def test_whatever_json_there_is(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "any json"
    folder.mkdir(exist_ok=True)
    (folder / CheckpointKeeper.INDEX).write_text(json.dumps(content))
    assert CheckpointKeeper.read_index(folder) in (None, [])
    assert CheckpointKeeper(folder, 1, resume=True).names == []


@pytest.mark.parametrize("kind", ["nested", "huge", "pipe", "folder", "digits"])
def test_a_list_that_is_no_such_file(tmp_path, kind):
    path = tmp_path / CheckpointKeeper.INDEX
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        with open(path, "wb") as file:
            file.truncate(1 << 40)
    else:
        path.write_text("[" * 100_000 if kind == "nested" else "9" * 100_000)
    assert CheckpointKeeper.read_index(tmp_path) is None


# ------------------------------------------------------------------ saving


class _Disk:
    """Takes files, or is full; and a clock."""

    def __init__(self, folder, **settings):
        self.full, self.now = False, 0.0
        self.keeper = CheckpointKeeper(folder, 2)
        self.saver = CheckpointSaver(self.keeper, self.write, clock=lambda: self.now, **settings)

    def write(self, path, training, meta):
        if self.full:
            raise UserError(f"{path}: full")
        path.write_text(f"{training} {meta}")


def test_when_checkpoints_are_due(tmp_path):
    assert not any(_Disk(tmp_path).saver.due(step) for step in range(100))
    by_steps = _Disk(tmp_path, steps=4)
    assert [step for step in range(1, 13) if by_steps.saver.due(step)] == [4, 8, 12]
    by_time = _Disk(tmp_path, minutes=0.5)
    by_time.now = 29.0
    assert not by_time.saver.due(1)
    by_time.now = 30.0
    assert by_time.saver.due(2) and by_time.saver.save(NAME, {}, within_epoch=True)
    assert not by_time.saver.due(3)


def test_a_save_that_fails_is_said_and_made_up_for(tmp_path, capsys):
    disk = _Disk(tmp_path)
    assert disk.saver.save(NAME, {})
    disk.full = True
    assert not disk.saver.save("faster_rcnn-2_5.ckpt", {})
    error = capsys.readouterr().err
    assert error.startswith("WARNING: ") and error.count("\n") == 1
    assert "goes on" in error and f"newest checkpoint is {NAME}" in error
    assert CheckpointKeeper.read_index(tmp_path) == [NAME]
    assert not disk.saver.due(11)
    disk.now = RETRY_SECONDS
    assert disk.saver.due(12)
    disk.full = False
    assert disk.saver.save("faster_rcnn-3_2.ckpt", {}, within_epoch=True)
    disk.now = 1e6
    assert not disk.saver.due(13)
    disk.saver.finish()


def test_only_the_last_save_has_to_succeed(tmp_path, monkeypatch):
    disk = _Disk(tmp_path)
    disk.full = True
    disk.saver.save_weights("best.ckpt", {})
    disk.saver.trained()  # those weights are gone
    disk.saver.finish()
    disk.saver.save(NAME, {})
    disk.saver.save_weights("best.ckpt", {})
    with pytest.raises(UserError, match="full"):
        disk.saver.finish()
    monkeypatch.setattr("src.training.saving.is_terminal", lambda stream: True)

    def wait(seconds):
        disk.now += seconds
        disk.full = disk.now < 60

    monkeypatch.setattr("time.sleep", wait)
    disk.saver.finish()
    assert CheckpointKeeper.read_index(tmp_path) == [NAME] and (tmp_path / "best.ckpt").is_file()
    disk.full, disk.now = True, 0.0
    disk.saver.save(NAME, {})
    monkeypatch.setattr("time.sleep", lambda seconds: setattr(disk, "now", disk.now + seconds))
    with pytest.raises(UserError, match="full"):
        disk.saver.finish()


def test_a_list_that_cannot_be_written_deletes_nothing(tmp_path, monkeypatch):
    disk = _Disk(tmp_path)
    for name in (NAME, "faster_rcnn-2_5.ckpt"):
        disk.saver.save(name, {})

    def refuse(path, text):
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr("src.training.checkpoint_keeper.write_text_atomic", refuse)
        assert not disk.saver.save("faster_rcnn-3_5.ckpt", {})
    assert (tmp_path / NAME).exists() and CheckpointKeeper.read_index(tmp_path)[
        -1
    ] == disk.keeper.names[-2]
    assert disk.saver.save("faster_rcnn-4_5.ckpt", {})
    names = ["faster_rcnn-3_5.ckpt", "faster_rcnn-4_5.ckpt"]
    assert (
        CheckpointKeeper.read_index(tmp_path)
        == names
        == sorted(p.name for p in tmp_path.glob("*.ckpt"))
    )


def test_a_folder_that_was_removed_is_made_again(tmp_path):
    disk = _Disk(tmp_path / "ckpt_0")
    disk.saver.save(NAME, {})
    (tmp_path / "ckpt_0" / NAME).unlink()
    disk.saver.save("faster_rcnn-2_5.ckpt", {})
    assert CheckpointKeeper.read_index(tmp_path / "ckpt_0") == ["faster_rcnn-2_5.ckpt"]
