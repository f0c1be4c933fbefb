# SPDX-License-Identifier: Apache-2.0
"""run_quickstart.sh and run_tests.sh, with stand-ins for Python and the linters: what they call."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# Plays an environment's interpreter; its calls go to calls.jsonl. FAIL names what fails.
STAND_IN = f"""#!/bin/sh
"exec" "{sys.executable}" "$0" "$@"
import json, os, sys
given = sys.argv[1:]
if given[0] == "-c":
    print("3 11")
elif not given[0].endswith("missing_requirements.py"):
    with open(os.environ["CALLS"], "a") as file:
        file.write(json.dumps(given) + "\\n")
    folder = given[given.index("--output_dir") + 1] if "--output_dir" in given else ""
    if given[0].endswith("train.py"):
        os.mkdir(folder + "/ckpt_0")
        for epoch in (9, 10):
            open(folder + f"/ckpt_0/faster_rcnn-{{epoch}}_5.ckpt", "w").close()
    if given[0].endswith("eval.py"):
        print(" Average Precision (AP) = 0.5")
    sys.exit(7 if os.environ.get("FAIL", "nothing") in " ".join(given) else 0)
"""


# Plays a linter, which $FAIL may name.
LINTER = """#!/bin/sh
[ "${0##*/}" != "${FAIL-}" ] || exit 9
echo "${0##*/} $*" >> "$CALLS.linters"
"""


class Bench:
    """Starts the repository's scripts in `work folder`."""

    def __init__(self, root, repo):
        self.repo, self.work, self.file = repo, root / "work folder", root / "calls.jsonl"
        self.work.mkdir()
        binaries = root / "bin"
        binaries.mkdir()
        for name in ("python", "shellcheck", "clang-format"):
            (binaries / name).write_text(STAND_IN if name == "python" else LINTER)
            (binaries / name).chmod(0o755)
        self.environment = {
            "PATH": f"{binaries}:/usr/bin:/bin",
            "PYTHON": str(binaries / "python"),
            "CALLS": str(self.file),
        }

    def run(self, script, *arguments, cwd=None, **environment):
        command = ["bash", str(self.repo / "scripts" / script), *map(str, arguments)]
        return subprocess.run(
            command,
            cwd=cwd or self.work,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    @property
    def calls(self):
        lines = self.file.read_text().splitlines() if self.file.exists() else ()
        return [json.loads(line) for line in lines]


@pytest.fixture
def bench(tmp_path, repo_root):
    return Bench(tmp_path, repo_root)


def value(call, key):
    return call[call.index(key) + 1]


@pytest.mark.parametrize("place", ["relative", "root"])
def test_the_quickstarts_steps(bench, place):
    folder = bench.work / "my quickstart"
    first = "my quickstart" if place == "relative" else os.path.relpath(folder, "/")
    cwd = None if place == "relative" else "/"
    done = bench.run("run_quickstart.sh", first, "--epoch_size", "2", cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    synthetic, train, evaluate, pictures, report = bench.calls
    assert synthetic == ["-m", "src.synthetic", "--output", str(folder / "data")]
    assert train[0] == str(bench.repo / "train.py")
    assert evaluate[0] == str(bench.repo / "eval.py")
    for call in (train, evaluate):
        assert value(call, "--coco_root") == str(folder / "data")
        assert value(call, "--epoch_size") == "2" and value(call, "--device_target") == "CPU"
    newest = str(folder / "train/ckpt_0/faster_rcnn-10_5.ckpt")
    assert value(train, "--output_dir") == str(folder / "train")
    assert value(evaluate, "--checkpoint_path") == newest
    assert value(pictures, "--results") == str(folder / "train/eval/results.json")
    assert value(evaluate, "--report") == "True"
    assert report == ["-m", "src", "report", str(folder / "train")]
    assert "== average precision\n Average Precision (AP) = 0.5\n" in done.stdout
    assert list(bench.work.iterdir()) == [folder]


@pytest.mark.parametrize("step, calls", [("synthetic", 1), ("train.py", 2), ("eval.py", 3)])
def test_a_step_of_the_quickstart_that_fails_is_the_last(bench, step, calls):
    done = bench.run("run_quickstart.sh", "q", FAIL=step)
    assert done.returncode == 7 and len(bench.calls) == calls
    assert "== done" not in done.stdout


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["a", "b"], "2 arguments given, 0 to 1 expected"),
        (["-x"], "'-x' is no argument"),
        (["q", "--epoch_size"], "--epoch_size has no value"),
        (["file"], "cannot make the folder"),
    ],
)
def test_wrong_arguments_of_the_quickstart(bench, arguments, complaint):
    (bench.work / "file").write_text("")
    done = bench.run("run_quickstart.sh", *arguments)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith("error: ") and complaint in line
    assert bench.calls == [] and [path.name for path in bench.work.iterdir()] == ["file"]


def test_the_tests_script(bench):
    done = bench.run("run_tests.sh", "-m", "not slow", "-x", cwd="/")
    assert done.returncode == 0, done.stderr
    ruff, form, types, pytest = bench.calls
    assert ruff == ["-m", "ruff", "check", "."]
    assert form == ["-m", "ruff", "format", "--check", "."]
    assert types == ["-m", "mypy"]
    shell, clang = Path(f"{bench.file}.linters").read_text().splitlines()
    assert shell.startswith("shellcheck ") and "scripts/run_tests.sh" in shell
    assert clang.startswith("clang-format --dry-run --Werror ")
    assert {"src/native/kernels/winograd.cc", "ascend310_infer/src/main.cc"} <= {*clang.split()}
    assert pytest[:2] == ["-m", "pytest"] and pytest[-3:] == ["-m", "not slow", "-x"]
    assert pytest[pytest.index("--dist") + 1] == "loadfile"  # module-wide fixtures are costly
    assert bench.run("run_tests.sh", FAIL="pytest").returncode == 7
    bench.file.unlink()
    assert bench.run("run_tests.sh", FAIL="ruff").returncode == 7
    assert len(bench.calls) == 1  # and no tests
    for linter in ("shellcheck", "clang-format"):
        assert bench.run("run_tests.sh", FAIL=linter).returncode == 9
    assert not any("pytest" in call for call in bench.calls)


def test_continuous_integration_runs_the_tests_script(bench):
    for folder in (".ci", "scripts"):
        (bench.work / folder).mkdir()
    (bench.work / ".ci/run").write_text((bench.repo / ".ci/run").read_text())
    (bench.work / "scripts/run_tests.sh").write_text('printf "%s\\n" "$@"')
    done = subprocess.run(
        ["bash", ".ci/run", "-m", "not slow"],
        cwd=bench.work,
        capture_output=True,
        text=True,
        env={**bench.environment, "CDPATH": str(bench.work)},
    )
    assert (done.returncode, done.stdout) == (0, "-m\nnot slow\n"), done.stderr
