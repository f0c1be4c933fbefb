# SPDX-License-Identifier: Apache-2.0
"""Exported files take the place of earlier ones together, wherever the export is stopped."""

import json
import os
import subprocess
import sys

import pytest

from src.base.errors import UserError
from src.export.model_card import ModelFile, make_card, read_card
from src.export.publishing import publish
from tests.helpers.paths import REPO
from tests.helpers.stand_ins import stand_in_config

EARLIER, LATER = ("64x96", "96x64", "96x96"), ("64x96", "96x64")


def _prepared(root, text, canvases):
    """What `publish` takes, for files that hold `text`; all have equal sizes."""
    folder = root / f"written {text}"
    (folder / "aside").mkdir(parents=True)
    config = stand_in_config(64, 96, canvases=canvases)
    written, files = {}, []
    for canvas in canvases:
        path = root / f"m_{canvas}.onnx"
        written[path] = folder / canvas
        written[path].write_text(text)
        size = tuple(map(int, canvas.split("x")))
        files.append(ModelFile(path.name, size, len(text), inputs={}, outputs={}))
    card = make_card(config, target="CPU", files=files, checkpoint={"file": text})
    return written, card, root / "m.onnx", folder / "aside"


def _publish(root, text, canvases):
    return publish(*_prepared(root, text, canvases))


def _state(root):
    """Which export a reader finds: the text of all its files, or None where it finds none."""
    try:
        card = read_card(root / "m.onnx.json")
    except UserError:
        return None
    texts = {(root / file.name).read_text() for file in card.files}
    assert texts == {card.content["checkpoint"]["file"]}
    return texts.pop()


def test_a_later_export_takes_the_place_of_an_earlier_one(tmp_path):
    assert _publish(tmp_path, "old", EARLIER) == []
    assert _publish(tmp_path, "new", LATER) == ["m_96x96.onnx"]
    assert _state(tmp_path) == "new"
    names = sorted(path.name for path in tmp_path.glob("m*"))
    assert names == ["m.onnx.json", "m_64x96.onnx", "m_96x64.onnx"]


class Stop(BaseException):
    """Comes at one of the moves."""


def _stop_at(monkeypatch, number, error):
    """Let the `number`th renaming fail, but no later one."""
    real, counter = os.replace, iter(range(100))

    def replace(source, target):
        if next(counter) == number:
            raise error
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.parametrize("error, seen", [(Stop(), Stop), (OSError(28, "No space"), UserError)])
def test_an_error_at_any_move_leaves_everything_as_it_was(tmp_path, monkeypatch, error, seen):
    finished = 0
    for number in range(12):
        root = tmp_path / str(number)
        root.mkdir()
        _publish(root, "old", EARLIER)
        before = {path.name: path.read_text() for path in root.glob("*m*")}
        with monkeypatch.context() as patch:
            _stop_at(patch, number, error)
            try:
                _publish(root, "new", LATER)
            except seen:
                assert {path.name: path.read_text() for path in root.glob("*m*")} == before
            else:
                finished += 1
                assert _state(root) == "new"
    assert finished == 3  # after nine moves: four away, four of new files, one of the description


_KILLED = """
import json, os, sys
from pathlib import Path
from src.export.publishing import publish
real, (left, written, card, model, aside) = os.replace, json.loads(sys.argv[1])
def replace(source, target):
    global left
    if not left:
        os._exit(9)
    left -= 1
    real(source, target)
os.replace = replace
publish({Path(k): Path(v) for k, v in written.items()}, card, Path(model), Path(aside))
"""


def test_a_kill_at_any_move_leaves_one_export_or_none(tmp_path):
    states = []
    for number in (0, 1, 4, 8, 30):
        root = tmp_path / str(number)
        root.mkdir()
        _publish(root, "old", EARLIER)
        written, card, model, aside = _prepared(root, "new", LATER)
        paths = {str(path): str(source) for path, source in written.items()}
        arguments = json.dumps([number, paths, card, str(model), str(aside)])
        command = [sys.executable, "-c", _KILLED, arguments]
        done = subprocess.run(command, cwd=REPO, timeout=120)
        states.append((done.returncode, _state(root)))
    assert states == [(9, "old"), (9, None), (9, None), (9, None), (0, "new")]


def test_only_names_of_ours_go(tmp_path):
    """A description that somebody else has made takes no file of his choice away."""
    _publish(tmp_path, "old", EARLIER)
    path, mine = tmp_path / "m.onnx.json", tmp_path / "mine.txt"
    card = json.loads(path.read_text())
    card["files"][2]["name"] = mine.name
    path.write_text(json.dumps(card))
    mine.write_text("mine")
    assert _publish(tmp_path, "new", LATER) == [] and mine.read_text() == "mine"
