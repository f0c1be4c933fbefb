# SPDX-License-Identifier: Apache-2.0
"""Compiles the C++ operators once a machine and loads them; without a compiler there are none."""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..base.digests import DIGEST_BYTES, texts_digest
from ..base.files import remove_leftovers, replacing
from ..base.own_files import own_folder, read_own
from ..base.user_cache import user_cache

_SOURCES = Path(__file__).resolve().parent / "kernels"
_COMPILER = "g++"  # or $CXX, if that is GCC: the sources use its vector extensions
_FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-pthread")
_LONGEST = 120  # seconds of compilation; it takes about three
_FOLDER, _NAME = "kernels-", "kernels.so"
_MAX_DAYS = 30  # that libraries of other sources or processors are kept
_SEAL = DIGEST_BYTES  # at the end of the file, which loaders ignore
_MOST_BYTES = 64 * 2**20  # of the file; it has a tenth of one MB


class Library(NamedTuple):
    """The compiled operators.

    Attributes:
        path: of the shared library.
        channels: the operators take multiples of this many.
        grouped_channels: those of grouped convolutions take multiples of this many in a group.
        has_bfloat16: the processor has instructions for products of bfloat16 (AVX512-BF16).
        bfloat16: what uses the library shall multiply in bfloat16 where it can, and add in float32.
    """

    path: Path
    channels: int
    grouped_channels: int
    has_bfloat16: bool = False
    bfloat16: bool = False


class NotBuilt(Exception):
    """Why there are no operators, in a few words."""


def library() -> Library:
    """Return the operators, compiled when this machine has not done so before.

    They go to a folder of the user's cache whose name depends on the sources, the compiler and the
    processor; a cache that other users can write to is not used. Threads: as many as this process
    has processors, at most $OMP_NUM_THREADS. A process tries this once.

    Raises:
        NotBuilt: there are none; says why.
    """
    found, reason = _try_once()
    if found is None:
        raise NotBuilt(reason)
    return found


@functools.cache
def _try_once() -> tuple[Library | None, str]:
    """Return the operators, or None and why there are none."""
    try:
        path = _find_or_compile()
        loaded = ctypes.CDLL(str(path))
    except (NotBuilt, OSError) as error:
        return None, str(error).splitlines()[0]
    loaded.use_threads(_threads())
    found = Library(path, loaded.channels(), loaded.grouped_channels(), bool(loaded.has_bfloat16()))
    return found, ""


def _find_or_compile() -> Path:
    cache = user_cache()
    if cache is None:
        raise NotBuilt("there is no home folder to keep them in; set HOME or XDG_CACHE_HOME")
    if ":" in os.path.realpath(cache):
        raise NotBuilt(f"MindSpore cannot load operators from a path with a colon: {cache}")
    reason = NotBuilt("no C++ compiler")
    for compiler in _compilers():
        try:
            return _compiled(compiler, cache)
        except NotBuilt as error:
            reason = error
    raise reason


def _compilers() -> Iterator[list[str]]:
    """Yield the commands to try: $CXX, which may have arguments, and g++."""
    yielded: list[list[str]] = []
    for words in (shlex.split(os.environ.get("CXX", "")), [_COMPILER]):
        found = shutil.which(words[0]) if words else None
        # With an empty part in PATH, a program of that name in the current folder.
        is_meant = found and (os.path.isabs(found) or "/" in words[0])
        if not found or not is_meant:
            continue
        command = [found, *words[1:]]
        if command not in yielded:
            yielded.append(command)
            yield command


def _compiled(compiler: list[str], cache: Path) -> Path:
    flags = (*_FLAGS, "-mcpu=native" if platform.machine() == "aarch64" else "-march=native")
    sources = sorted(_SOURCES.iterdir())
    folder = cache / f"{_FOLDER}{_digest(compiler, flags, sources)}"
    try:
        folder = own_folder(folder, root=cache)
        path = folder / _NAME
        if _is_whole(path):
            with contextlib.suppress(OSError):  # root's, or on a disk that is read only
                os.utime(folder)
            return path
        # Another process may be doing the same. The compiler's mode follows the umask.
        with replacing(path, mode=0o700) as made:
            units = [str(source) for source in sources if source.suffix == ".cc"]
            _run([*compiler, *flags, *units, "-o", str(made)])
            with made.open("r+b") as file:
                file.write(hashlib.sha256(file.read()).digest())
        _tidy(folder)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise NotBuilt(f"{error.strerror or error}{place}") from None
    return path


def _is_whole(path: Path) -> bool:
    """Say whether a file of ours is there with its seal: a damaged library can kill the process."""
    content = read_own(path, _MOST_BYTES)
    if content is None:
        return False
    return hashlib.sha256(content[:-_SEAL]).digest() == content[-_SEAL:]


def _tidy(folder: Path) -> None:
    """Remove libraries that have not been used for long, and what killed processes left."""
    remove_leftovers(folder)
    now = time.time()
    for other in folder.parent.glob(f"{_FOLDER}*"):
        with contextlib.suppress(OSError):
            if (now - other.stat().st_mtime) / 86400 > _MAX_DAYS:
                shutil.rmtree(other, ignore_errors=True)


def _digest(compiler: list[str], flags: tuple[str, ...], sources: list[Path]) -> str:
    texts = (*compiler, _run([*compiler, "--version"]), *flags, platform.machine(), _processor())
    files = (part for source in sources for part in (source.name, source.read_bytes()))
    return texts_digest((*texts, *files))[:20]


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
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_LONGEST, errors="replace", check=False
        )
    except subprocess.TimeoutExpired:
        raise NotBuilt(f"{command[0]} took longer than {_LONGEST} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise NotBuilt(f"{command[0]}: {lines[0]}")
    return done.stdout


def _threads() -> int:
    processors = len(os.sched_getaffinity(0))
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(processors, int(limit)) if limit.isdecimal() and int(limit) else processors
