# SPDX-License-Identifier: Apache-2.0
"""Output that cannot be written: it is lost, said once, and changes nothing else."""

import io
import subprocess
import sys

import pytest

from src.base.progress import Display, Part

_PROGRAM = """
import sys
from src.base.errors import UserError, run_entry
def main(argv):
    for number in range(3000):
        print("line", number, "of a log", flush=number % 7 == 0)
    open(argv[0], "w").write("results")
    print("no flush at the end")
    if argv[1:] == ["error"]:
        raise UserError("wrong")
    return 5
run_entry(main)
"""


def _run(tmp_path, repo_root, redirection, *arguments, options=""):
    done = subprocess.run(
        [
            "bash",
            "-c",
            f'"$0" {options} - "$@" {redirection}',
            sys.executable,
            tmp_path / "results.txt",
            *arguments,
        ],
        input=_PROGRAM,
        cwd=repo_root,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (tmp_path / "results.txt").read_text() == "results"
    return done


@pytest.mark.parametrize("options", ["", "-u"])
@pytest.mark.parametrize(
    "redirection, said",
    [
        (">/dev/full", "cannot be written (No space left on device)"),
        (">&-", "the standard output is closed"),
        ("1</dev/null", "cannot be written (Bad file descriptor)"),
        ("> >(exec 1>&- <&-; sleep 0.1)", "cannot be written (Broken pipe)"),
        (">/dev/full 2>/dev/full", ""),
        (">&- 2>&-", ""),
    ],
)
def test_the_exit_code_is_the_program_s(tmp_path, repo_root, redirection, said, options):
    done = _run(tmp_path, repo_root, redirection, options=options)
    assert done.returncode == 5
    assert said in done.stderr and done.stderr.count("\n") == bool(said)
    assert _run(tmp_path, repo_root, redirection, "error", options=options).returncode == 2


def test_what_can_be_written_is_written(tmp_path, repo_root):
    done = _run(tmp_path, repo_root, "")
    assert done.stdout.splitlines()[2999:] == ["line 2999 of a log", "no flush at the end"]
    assert done.stderr == ""


class _Full(io.StringIO):
    def flush(self):
        raise OSError(28, "No space left on device")


def test_a_display_outlives_its_stream(capsys):
    closed = io.StringIO()
    closed.close()
    for stream in (_Full(), closed):
        display = Display(stream)
        for _ in range(3):
            display.say("a line")
            display.show([Part("progress")], 1, 2, keep=True)
        assert capsys.readouterr().err.count("what cannot be printed is lost") == 1
