# SPDX-License-Identifier: Apache-2.0
"""How run_quickstart.sh and run_tests.sh prepare Python, with a stand-in that plays every case."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Plays an interpreter, its pip and its venv module. What it is asked goes to calls.jsonl; what it
# answers is in $PLAY. A copy in .venv/ plays the environment's interpreter.
# (The second line is a command to sh and a string to Python: a #! line cannot hold a space.)
STAND_IN = f"""#!/bin/sh
"exec" "{sys.executable}" "$0" "$@"
import json, os, shutil, sys
here, play = os.path.abspath(sys.argv[0]), json.loads(os.environ["PLAY"])
calls, given = os.environ["CALLS"], sys.argv[1:]
inside = ".venv" in here
with open(calls, "a") as file:
    file.write(json.dumps([".venv" if inside else "base", *given]) + "\\n")
installed = calls + ".installed"
if given[0] == "-c":
    code = given[1]
    if "version_info" in code:
        print(play.get("version", "3 11"))
    elif "base_prefix" in code:
        sys.exit(0 if inside or play.get("is_venv") else 1)
    elif "ensurepip" in code:
        sys.exit(play.get("no_venv_module", 0))
elif given[:2] == ["-m", "venv"]:
    os.makedirs(given[-1] + "/bin")
    shutil.copy(here, given[-1] + "/bin/python")
elif given[:3] == ["-m", "pip", "install"]:
    if play.get("pip_fails"):
        sys.exit(1)
    open(installed, "w").close()
elif given[0].endswith("missing_requirements.py") and not os.path.exists(installed):
    print("a-package>=1")
"""


class Bench:
    """A copy of scripts/ in a folder with a space; the stand-in is the only `python3` in PATH."""

    def __init__(self, root: Path, repo: Path) -> None:
        self.copy = root / "a clone"
        shutil.copytree(repo / "scripts", self.copy / "scripts")
        (self.copy / "requirements.txt").write_text("a-package>=1\n")
        self.binaries = root / "bin"
        self.binaries.mkdir()
        (self.binaries / "python3").write_text(STAND_IN)
        (self.binaries / "python3").chmod(0o755)
        for tool in ("bash", "dirname", "env"):
            (self.binaries / tool).symlink_to(shutil.which(tool))
        self.calls_file = root / "calls.jsonl"

    def ensure(self, play=(), **environment):
        """Run ensure_environment in a fresh shell; its last line is the PYTHON that it chose."""
        self.calls_file.write_text("")
        script = (
            'set -euo pipefail; source "$1/scripts/common.sh"; source "$1/scripts/environment.sh"; '
            'ensure_environment "$1/requirements.txt"; printf "%s\\n" "$PYTHON"'
        )
        return subprocess.run(
            ["bash", "-c", script, "test", str(self.copy)],
            env={
                "PATH": str(self.binaries),
                "PLAY": json.dumps(dict(play)),
                "CALLS": str(self.calls_file),
                **environment,
            },
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
        )

    @property
    def calls(self):
        return [json.loads(line) for line in self.calls_file.read_text().splitlines()]

    def pip_calls(self):
        return [(who, *rest[1:]) for who, *rest in self.calls if rest[:2] == ["-m", "pip"]]


@pytest.fixture
def bench(tmp_path, repo_root):
    return Bench(tmp_path, repo_root)


def test_makes_a_venv_and_installs_once(bench):
    first = bench.ensure()
    assert first.returncode == 0, first.stderr
    venv_python = str(bench.copy / ".venv/bin/python")
    assert first.stdout.splitlines()[-1] == venv_python
    assert "a-package>=1" in first.stdout
    installs = [c for c in bench.pip_calls() if c[2] == "install"]
    assert [(c[0], c[-1]) for c in installs] == [(".venv", f"{bench.copy}/requirements.txt")]
    second = bench.ensure()
    assert second.stdout == venv_python + "\n"
    assert not any("install" in call for call in bench.pip_calls())
    assert not any(call[1:3] == ["-m", "venv"] for call in bench.calls)


def test_a_failed_install_is_tried_again(bench):
    failed = bench.ensure({"pip_fails": True})
    assert failed.returncode == 1 and "pip could not install" in failed.stderr
    again = bench.ensure()
    assert again.returncode == 0 and any("install" in call for call in bench.pip_calls())


def test_half_a_venv_is_made_anew(bench):
    (bench.copy / ".venv/bin").mkdir(parents=True)
    (bench.copy / ".venv/bin/python").write_text("#!/bin/sh\nexit 1\n")
    (bench.copy / ".venv/bin/python").chmod(0o755)
    bench.ensure()
    made = [call for call in bench.calls if call[1:3] == ["-m", "venv"]]
    assert [call[3:] for call in made] == [["--clear", str(bench.copy / ".venv")]]


@pytest.mark.parametrize("how", ["CONDA_PREFIX", "prefix", "PYTHON"])
def test_an_active_environment_is_used_as_it_is(bench, how):
    environment = {
        "CONDA_PREFIX": {"CONDA_PREFIX": "/conda/envs/x", "CONDA_DEFAULT_ENV": "x"},
        "prefix": {},
        "PYTHON": {"PYTHON": str(bench.binaries / "python3")},
    }[how]
    done = bench.ensure({"is_venv": how in ("prefix", "PYTHON")}, **environment)
    assert done.stdout.splitlines()[-1] == str(bench.binaries / "python3")
    assert not (bench.copy / ".venv").exists()
    assert {call[0] for call in bench.calls} == {"base"}


def test_condas_base_is_no_environment(bench):
    bench.ensure(CONDA_PREFIX="/conda", CONDA_DEFAULT_ENV="base")
    assert (bench.copy / ".venv").exists()


@pytest.mark.parametrize("version", ["2 7", "3 8", "3 9", "3 13", "4 0"])
def test_a_wrong_python_is_refused(bench, version):
    done = bench.ensure({"version": version})
    assert done.returncode == 2
    assert "3.10 to 3.12" in done.stderr and version.replace(" ", ".") in done.stderr
    assert not (bench.copy / ".venv").exists()


def test_a_python_without_the_venv_module_is_refused(bench):
    done = bench.ensure({"no_venv_module": 1})
    assert done.returncode == 2 and "python3-venv" in done.stderr


def test_no_python_at_all(bench):
    (bench.binaries / "python3").unlink()
    assert bench.ensure().returncode == 2
    done = bench.ensure(PYTHON="python9.9")
    assert done.returncode == 2 and "python9.9" in done.stderr


def missing(repo_root, tmp_path, text):
    (tmp_path / "r.txt").write_text(text)
    script = repo_root / "scripts/missing_requirements.py"
    command = [sys.executable, str(script), str(tmp_path / "r.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    return done.stdout.splitlines()


def test_missing_requirements(repo_root, tmp_path):
    (tmp_path / "more.txt").write_text("pytest>=1\nno-such-package-at-all\n")
    text = "# a comment\nnumpy>=1.20  # why\nnumpy<1\n\n-r more.txt\npyyaml>=5\n"
    assert missing(repo_root, tmp_path, text) == ["numpy<1", "no-such-package-at-all"]


def test_the_projects_own_requirements_are_fulfilled_here(repo_root):
    """The tests run in an environment that the requirement files describe."""
    script = repo_root / "scripts/missing_requirements.py"
    command = [sys.executable, str(script), str(repo_root / "requirements-dev.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""
