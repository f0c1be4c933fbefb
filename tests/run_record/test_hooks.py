# SPDX-License-Identifier: Apache-2.0
"""Hooks: found by their names, called in their order, left out when they fail."""

import sys

import pytest

from src.base.errors import UserError
from src.run_record.callback import Callback
from src.run_record.hooks import METHODS, Hooks, load_callback

MODULE = """
class Plain:
    def on_train_row(self, row):
        self.row = row

class Empty:
    pass

class Unmade:
    def __init__(self):
        raise RuntimeError("no network")
    def on_end(self, exit_code):
        pass

number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "hooks_of_a_test.py").write_text(MODULE)
    (tmp_path / "broken_hooks.py").write_text("import not_installed_at_all\n")
    (tmp_path / "failing_hooks.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "hooks_of_a_test"
    sys.modules.pop("hooks_of_a_test", None)


def test_a_hook_needs_no_base_class(module):
    hook = load_callback(f"{module}.Plain")
    Hooks([hook]).call("on_train_row", {"step": 1})
    Hooks([hook]).call("on_end", 0)
    assert hook.row == {"step": 1}


@pytest.mark.parametrize(
    "name, problem",
    [
        ("Plain", "is no name of a class; write module.Class"),
        ("a.b; import os", "is no name of a class"),
        ("os.path.", "is no name of a class"),
        ("no_such_module_here.Hook", "there is no module no_such_module_here; set PYTHONPATH"),
        ("broken_hooks.Hook", "there is no module not_installed_at_all"),
        ("failing_hooks.Hook", "cannot be imported .ZeroDivisionError: .*failing_hooks.py line 1"),
        ("hooks_of_a_test.Missing", "has no class Missing"),
        ("hooks_of_a_test.number", "has no class number"),
        ("hooks_of_a_test.Empty", "has none of the methods of a hook: on_start, on_step"),
        ("hooks_of_a_test.Unmade", "cannot be made .RuntimeError: no network; .* line 11"),
    ],
)
def test_a_hook_that_cannot_be_is_one_line(module, name, problem):
    with pytest.raises(UserError, match=problem):
        load_callback(name)


def test_the_current_folder_is_not_searched(tmp_path, monkeypatch):
    (tmp_path / "lying_around.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", ".")])
    with pytest.raises(UserError, match="there is no module lying_around"):
        load_callback("lying_around.Hook")


class _Telling(Callback):
    def __init__(self, told, name):
        self.told, self.name = told, name

    def on_step(self, step):
        self.told.append((self.name, step))
        if self.name == "failing" and step == 2:
            raise ConnectionError("gone")


def test_a_hook_that_fails_is_left_out(capsys):
    told = []
    hooks = Hooks([_Telling(told, "failing"), _Telling(told, "sound")])
    for step in (1, 2, 3):
        hooks.step(step)
    assert told == [("failing", 1), ("sound", 1), ("failing", 2), ("sound", 2), ("sound", 3)]
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "on_step fails (ConnectionError: gone)" in error


def test_what_fails_before_the_first_step_ends_the_run():
    class Wrong(Callback):
        def on_start(self, run):
            raise KeyError("api key")

    with pytest.raises(UserError, match="Wrong: on_start fails .KeyError: 'api key'"):
        Hooks([Wrong()]).start(None)


def test_hooks_without_a_method_of_every_step_are_not_asked_for_it():
    assert Hooks([Callback(), object()])._of_step == []
    assert set(METHODS) == {name for name in dir(Callback) if name.startswith("on_")}
