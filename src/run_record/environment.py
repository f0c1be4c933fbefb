# SPDX-License-Identifier: Apache-2.0
"""environment.json of a run: what it was started with and on, so that it can be made again."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..base.console import warn
from ..base.errors import UserError
from ..base.files import write_json
from ..base.memory import total_memory
from ..base.program import version
from ..model_utils.config import Config
from ..model_utils.device_adapter import device_name, processor_name
from .reading import read_environment
from .schema import CALLBACKS, ENVIRONMENT, STOPPED_EARLY

# What a run's numbers and speed depend on.
_PACKAGES = (
    "mindspore",
    "numpy",
    "opencv-python-headless",
    "pycocotools",
    "faster-coco-eval",
    "pillow",
    "PyYAML",
    "psutil",
    "safetensors",
    "onnxruntime",
    "tensorboardX",
)
# By name: an environment also holds keys and passwords.
_VARIABLES = (
    "ASCEND_RT_VISIBLE_DEVICES",
    "CUDA_VISIBLE_DEVICES",
    "CXX",
    "DEVICE_ID",
    "GLOG_v",
    "MS_COMPILER_CACHE_ENABLE",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "RANK_ID",
    "RANK_SIZE",
)
_MOST_STARTS = 100
_GIT_SECONDS = 5.0


def write_environment(
    folder: Path, config: Config, *, world_size: int, step: int, epoch: int, resumed: bool
) -> dict[str, Any]:
    """Write `environment.json` and return its content; one that cannot be written is said.

    Args:
        folder: of the run.
        config: the effective configuration.
        world_size: processes that train together.
        step, epoch: where the run stands.
        resumed: keep what the file says of earlier starts.
    """
    content = {
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "step": step,
        "epoch": epoch,
        "command": list(sys.argv),
        **environment(config, world_size),
        CALLBACKS: list(config.callbacks),
        "earlier": _earlier(folder) if resumed else [],
    }
    _write(folder, content)
    return content


def note_early_end(folder: Path, reason: str) -> None:
    """Write into `environment.json` that the run has ended before its last epoch.

    Args:
        folder: of the run.
        reason: why.
    """
    try:
        _write(folder, {**read_environment(folder), STOPPED_EARLY: reason})
    except UserError as error:
        warn(f"note: {error}")


def environment(config: Config, world_size: int = 1) -> dict[str, Any]:
    """Return what this process computes with, in plain JSON values.

    Args:
        config: uses device_target.
        world_size: processes that compute together.
    """
    memory = total_memory()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _packages(),
        "version": version(),
        "commit": _commit(),
        "device_target": config.device_target,
        "device": device_name(config.device_target),
        "processes": world_size,
        "processors": len(os.sched_getaffinity(0)),
        "processor": processor_name(),
        "memory_mb": None if memory is None else round(memory / 1e6, 1),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def _write(folder: Path, content: dict[str, Any]) -> None:
    try:
        write_json(folder / ENVIRONMENT, content)
    except OSError as error:
        warn(f"WARNING: {folder / ENVIRONMENT}: cannot be written ({error.strerror or error})")


def _earlier(folder: Path) -> list[dict[str, Any]]:
    """The starts before this one, as far as the file can be read."""
    try:
        before = read_environment(folder)
    except UserError as error:
        warn(f"note: {error}")
        return []
    earlier = before.pop("earlier", [])
    starts = [*earlier, before] if isinstance(earlier, list) else [before]
    return [start for start in starts if isinstance(start, dict) and start][-_MOST_STARTS:]


def _packages() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _commit() -> str | None:
    """The commit of the checkout that this program runs from; None where there is none."""
    root = Path(__file__).resolve().parents[2]
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():  # not of a repository around an installation
        return None
    commit = _git(git, root, "rev-parse", "HEAD")
    changes = _git(git, root, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}+changes" if commit and changes else commit


def _git(program: str, root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            [program, "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()
