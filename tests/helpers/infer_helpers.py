# SPDX-License-Identifier: Apache-2.0
"""Libraries and builds of the C++ application for the tests, and calls of it."""

import functools
import os
import shutil
import subprocess
import sys

import pytest

from tests.helpers.paths import REPO

CACHE = REPO / ".infer_cache"
_ENVIRONMENT = {**os.environ, "PYTHON": sys.executable, "LITE_HOME": "", "ORT_HOME": ""}


@functools.cache
def _fetch(name):
    """Fetch a library into the cache; returns why it cannot be had, or None."""
    command = ["bash", REPO / "scripts/get_infer_dependencies.sh", name]
    done = subprocess.run(command, capture_output=True, text=True, env=_ENVIRONMENT, timeout=1200)
    lines = done.stderr.strip().splitlines() or ["no message"]
    return None if done.returncode == 0 else f"{name} cannot be fetched: {lines[-1]}"


def require_library(name):
    """The folder of a fetched library, or a skip with the reason."""
    problem = _fetch(name)
    if problem:
        pytest.skip(problem)
    return CACHE / name


@functools.cache
def _build(backend, sanitize):
    """Build the application; returns its path or why that failed."""
    folder = CACHE / "build" / (f"{backend}_sanitized" if sanitize else backend)
    command = ["bash", REPO / "ascend310_infer/build.sh", backend, "--build_dir", folder]
    command += ["--sanitize", "yes"] if sanitize else []
    # Optimised, as users get it, with one backend: all else is the same sources.
    kind = "Release" if backend == "onnxruntime" else "None"
    environment = {**_ENVIRONMENT, "CMAKE_BUILD_TYPE": kind}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1200)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return folder / "main"


def require_main(backend, sanitize=False):
    """The application with one backend, or a skip with the reason."""
    for program in ("cmake", "c++"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed: the C++ application cannot be built")
    for name in ("opencv", backend):
        require_library(name)
    return _build(backend, sanitize)


def run_main(main, model, images, output, *options, prefix=()):
    """Run the application; returns the finished process."""
    command = [
        *prefix,
        main,
        f"--mindir_path={model}",
        f"--dataset_path={images}",
        f"--output_path={output}",
        "--threads=2",
        *options,
    ]
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=300
    )
