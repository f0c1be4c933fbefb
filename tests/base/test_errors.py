# SPDX-License-Identifier: Apache-2.0
"""The one line and the exit codes of the entry scripts."""

import subprocess
import sys

import pytest

from src.base.errors import UserError, run_entry


def _run(body, repo_root):
    code = (
        "from src.base.errors import UserError, run_entry\n"
        f"def main(argv):\n    {body}\n"
        "run_entry(main)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, "first", "second"],
        cwd=repo_root,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_message_is_one_line():
    assert str(UserError("a.json: bad\n  line 3\r\n\nend \n")) == "a.json: bad line 3 end"


def test_spaces_in_a_message_stay():
    assert str(UserError("/data/my  folder/a.json: bad")) == "/data/my  folder/a.json: bad"


def test_user_error_is_one_line_and_exit_code_2(repo_root):
    done = _run("print('started'); raise UserError('a.yaml: key: 3 is\\nwrong')", repo_root)
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "started\n",
        "error: a.yaml: key: 3 is wrong\n",
    )


def test_a_file_name_that_is_no_text_can_be_printed(repo_root, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")  # as in an en_US.UTF-8 session
    done = _run(r"print('caf\udce9.jpg'); raise UserError('caf\udce9.jpg: bad')", repo_root)
    assert (done.returncode, done.stdout) == (2, "caf\\udce9.jpg\n")
    assert done.stderr == "error: caf\\udce9.jpg: bad\n"


def test_interrupt_is_exit_code_130_without_traceback(repo_root):
    done = _run("raise KeyboardInterrupt", repo_root)
    assert done.returncode == 130
    assert done.stderr == "interrupted\n"


def test_a_defect_keeps_its_traceback(repo_root):
    done = _run("raise RuntimeError('boom')", repo_root)
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "boom" in done.stderr


@pytest.mark.parametrize(("returned", "code"), [("None", 0), ("0", 0), ("3", 3)])
def test_the_returned_code_is_the_exit_code(returned, code, repo_root):
    assert _run(f"return {returned}", repo_root).returncode == code


def test_main_gets_the_arguments_without_the_script(repo_root, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--seed", "3"])
    seen = []
    with pytest.raises(SystemExit) as stop:
        run_entry(lambda argv: seen.extend(argv))
    assert seen == ["--seed", "3"]
    assert stop.value.code == 0


def test_a_missing_package_is_one_line_that_says_how_to_install_it(repo_root):
    done = _run("import no_such_package.part", repo_root)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "package no_such_package is not installed" in done.stderr
    assert "requirements.txt" in done.stderr
    own = _run("import src.no_such_module", repo_root)
    assert own.returncode == 1 and "Traceback" in own.stderr, "a defect of the program"
