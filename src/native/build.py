# SPDX-License-Identifier: Apache-2.0
"""Compiles the C++ operators once a machine and loads them; without a compiler there are none."""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from src.user_cache import user_cache

_SOURCES = Path(__file__).resolve().parent / "kernels"
_COMPILERS = ("g++", "clang++", "c++")
_FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-pthread")
_LONGEST = 120  # seconds of compilation; it takes about two
_NAME = "kernels.so"


class Library(NamedTuple):
    """The compiled operators.

    Attributes:
        path: of the shared library.
        channels: the operators take multiples of this many.
    """

    path: Path
    channels: int


class NotBuilt(Exception):
    """Why there are no operators, in a few words."""


@functools.cache
def library() -> "Library | NotBuilt":
    """Return the operators, compiled when this machine has not done so before; or why not.

    They go to a folder of the user's cache whose name depends on the sources, the compiler and the
    processor. Threads: as many as this process has processors, at most $OMP_NUM_THREADS.
    """
    try:
        path = _compiled()
        loaded = _load(path)
    except (NotBuilt, OSError) as error:
        return NotBuilt(str(error).splitlines()[0])
    loaded.use_threads(_threads())
    return Library(path, loaded.channels())


def _compiled() -> Path:
    compiler = _compiler()
    flags = (*_FLAGS, "-mcpu=native" if platform.machine() == "aarch64" else "-march=native")
    sources = sorted(_SOURCES.iterdir())
    folder = user_cache() / f"kernels-{_digest(compiler, flags, sources)}"
    path = folder / _NAME
    if path.is_file():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # In a folder of its own, then renamed: another process may be doing the same.
        with tempfile.TemporaryDirectory(dir=folder) as room:
            made = Path(room) / _NAME
            units = [str(source) for source in sources if source.suffix == ".cc"]
            _run([compiler, *flags, *units, "-o", str(made)])
            os.replace(made, path)
    except OSError as error:
        raise NotBuilt(f"{error.strerror} ({error.filename})") from None
    return path


def _load(path: Path) -> ctypes.CDLL:
    """Load the library; a damaged file is compiled anew."""
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        path.unlink(missing_ok=True)
        return ctypes.CDLL(str(_compiled()))


def _compiler() -> str:
    """Return $CXX or the first compiler on PATH."""
    wanted = os.environ.get("CXX", "")
    for name in (wanted,) if wanted else _COMPILERS:
        found = shutil.which(name)
        if found:
            return found
    raise NotBuilt(f"no C++ compiler ({wanted or ', '.join(_COMPILERS)})")


def _digest(compiler: str, flags: tuple[str, ...], sources: list[Path]) -> str:
    digest = hashlib.sha256()
    for text in (compiler, _run([compiler, "--version"]), *flags, platform.machine(), _processor()):
        digest.update(text.encode() + b"\0")
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:20]


def _processor() -> str:
    """Return what of the processor decides about machine code: its model and instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    keys = ("model name", "flags", "CPU part", "Features")
    return "\n".join(sorted({line for line in lines if line.split("\t")[0] in keys}))


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST,
                              errors="replace", check=False)  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NotBuilt(f"{command[0]} took longer than {_LONGEST} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise NotBuilt(f"{command[0]}: {lines[0]}")
    return done.stdout


def _threads() -> int:
    processors = len(os.sched_getaffinity(0))
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(processors, int(limit)) if limit.isdecimal() and int(limit) else processors
