# SPDX-License-Identifier: Apache-2.0
"""The package as users install it: a wheel of a clean clone, in a fresh environment elsewhere."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.helpers.paths import REPO

# A network that is compiled in half a minute.
TINY = [
    *("--img_width", "96", "--img_height", "64", "--batch_size", "2", "--test_batch_size", "1"),
    *("--rpn_proposal_max_num", "50", "--rpn_max_num", "20", "--num_expected_pos_stage2", "4"),
    *("--num_expected_neg_stage2", "16", "--num_parallel_workers", "1"),
]


def run(*command: object, cwd: Path, timeout: float = 300, **environment: str) -> str:
    """Run a command to a good end; return what it printed."""
    keep = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env={**keep, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """What git would give to others: tracked files as they are now, and nothing else."""
    if not (REPO / ".git").exists():
        pytest.skip("not a git checkout")
    folder = tmp_path_factory.mktemp("clone") / "a clone"
    run("git", "clone", "--quiet", "--no-hardlinks", REPO, folder, cwd=REPO)
    changes = subprocess.run(
        ["git", "diff", "HEAD", "--binary"], cwd=REPO, capture_output=True, check=True
    ).stdout
    if changes:
        subprocess.run(["git", "apply", "-"], cwd=folder, input=changes, check=True)
    return folder


def pip(*arguments: object, cwd: Path) -> None:
    """Run this environment's pip."""
    run(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def wheel(clone, tmp_path_factory) -> Path:
    """The wheel of the clone."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder)
    pip("wheel", *options, clone, cwd=folder)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def bin_folder(wheel, tmp_path_factory) -> Path:
    """The programs of a fresh environment that has the wheel, and this one's packages."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    paths = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    packages = Path(sysconfig.get_path("purelib", vars=paths))
    (packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    pip("--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    return python.parent


@pytest.mark.slow
def test_what_is_in_the_wheel(wheel, clone):
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        f"faster_rcnn/{path.relative_to(clone / 'src')}"
        for path in (clone / "src").rglob("*")
        if path.is_file()
    }
    configurations = [*clone.glob("default_config*.yaml"), *clone.glob("configs/*.yaml")]
    expected |= {f"faster_rcnn/{path.relative_to(clone)}" for path in configurations}
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert len(configurations) >= 5 and wheel.name.startswith("faster_rcnn_mindspore-")


@pytest.mark.slow
def test_a_source_distribution_gives_the_same_wheel(wheel, clone, tmp_path):
    """Without git, and from what setuptools packs up."""
    code = "from setuptools import build_meta as b; print(b.build_sdist(r'" + str(tmp_path) + "'))"
    name = run(sys.executable, "-c", code, cwd=clone).splitlines()[-1]
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", tmp_path)
    pip("wheel", *options, tmp_path / name, cwd=tmp_path)
    (again,) = tmp_path.glob("*.whl")
    assert set(zipfile.ZipFile(again).namelist()) == set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.slow
def test_the_installed_launcher_starts_the_installed_program(bin_folder, tmp_path):
    """Up to the complaint about the missing data, which each process makes by itself."""
    where = ["--coco_root", "nowhere", "--device_target", "CPU", "--pre_trained", ""]
    command = [bin_folder / "faster-rcnn", "launch", "msrun", "run", "--", "train", *where]
    keep = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [*map(str, command)], cwd=tmp_path, env=keep, capture_output=True, text=True, timeout=300
    )
    log = (tmp_path / "run" / "train_parallel0" / "log.txt").read_text()
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"error: image folder {tmp_path}/nowhere/" in log, log


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_installed_package_trains_predicts_and_exports(bin_folder, tmp_path):
    faster_rcnn = bin_folder / "faster-rcnn"
    where = run(
        bin_folder / "python", "-c", "import faster_rcnn as f; print(f.__file__)", cwd=tmp_path
    )
    assert where.startswith(str(bin_folder.parent))
    for program in ([faster_rcnn], [bin_folder / "python", "-m", "faster_rcnn"]):
        printed = run(*program, "--help", cwd=tmp_path)
        assert printed.startswith("usage: faster-rcnn COMMAND") and "  train  " in printed

    count = ("--train", "4", "--val", "2")
    run(faster_rcnn, "synthetic", "--output", "data", *count, cwd=tmp_path)
    settings = ["--config_path", "configs/quickstart.yaml", "--coco_root", "data", *TINY]
    limits = ["--steps_per_epoch_limit", "2", "--epoch_size", "1", "--output_dir", "run"]
    printed = run(faster_rcnn, "train", *settings, *limits, cwd=tmp_path, timeout=600)
    assert "total_loss" in (tmp_path / "run" / "loss_0.log").read_text(), printed
    checkpoint = tmp_path / "run" / "ckpt_0" / "faster_rcnn-1_2.ckpt"
    assert checkpoint.is_file()

    target = ("--device_target", "CPU")
    wanted = ("--input", "data/val2017", "--checkpoint_path", checkpoint, *target)
    run(faster_rcnn, "predict", *wanted, "--min_score", "0", cwd=tmp_path, timeout=600)
    predictions = json.loads((tmp_path / "predictions" / "predictions.json").read_text())
    assert len(list((tmp_path / "predictions").glob("*.png"))) == 2 and predictions

    wanted = ("--ckpt_file", checkpoint, "--file_format", "MINDIR", "--file_name", "model", *target)
    run(faster_rcnn, "export", *wanted, cwd=tmp_path, timeout=600)
    assert (tmp_path / "model.mindir").stat().st_size > 1e6
    assert json.loads((tmp_path / "model.mindir.json").read_text())["class_names"] == [
        *("circle", "square", "triangle", "star")
    ]

    picture = next((tmp_path / "data" / "val2017").iterdir())
    code = (
        "from faster_rcnn import Detector\n"
        "detector = Detector('model.mindir', device_target='CPU')\n"
        f"print(type(detector.detect({str(picture)!r})).__name__)\n"
    )
    printed = run(bin_folder / "python", "-c", code, cwd=tmp_path, timeout=600)
    assert printed.splitlines()[-1] == "Found"
