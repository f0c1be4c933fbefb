# SPDX-License-Identifier: Apache-2.0
"""How much memory this process can still get; Python's search for garbage in it."""

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path

from .errors import UserError

_MEMINFO = Path("/proc/meminfo")


def available_memory() -> int | None:
    """Return the bytes that programs can get, None where the system does not say.

    Pages that hold cached files count as available, as they are given up for programs: after an
    epoch of a large data set hardly any page is free.
    """
    sizes = _sizes()
    return (sizes["MemAvailable"] + sizes.get("SwapFree", 0)) if "MemAvailable" in sizes else None


def total_memory() -> int | None:
    """Return the bytes of memory that this machine has, None where the system does not say."""
    return _sizes().get("MemTotal")


def _sizes() -> dict[str, int]:
    """What the system says of its memory, bytes; empty where it does not."""
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
        pairs = (line.partition(":") for line in lines)
        return {name: int(rest.split()[0]) * 1024 for name, _, rest in pairs}
    except (OSError, ValueError, IndexError):
        return {}


def require_memory(path: str | Path, needed: int) -> None:
    """Make sure that a file can be read into memory.

    Args:
        path: the file, for the error.
        needed: bytes.

    Raises:
        UserError: there is less.
    """
    available = available_memory()
    if available is not None and needed > available:
        raise too_little_memory(path, needed, available)


def too_little_memory(path: str | Path, needed: int, available: int | None = None) -> UserError:
    """Return the error for a file that is whole, but too much for this machine's memory.

    Args:
        path: the file.
        needed: bytes that reading it takes.
        available: bytes that there are, None where that is not known.
    """
    found = "" if available is None else f" and {available / 1e9:.2f} GB are available"
    return UserError(
        f"{path}: too little memory to read it ({needed / 1e9:.2f} GB are needed{found}); end "
        "other programs, or use a machine with more"
    )


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """Keep Python from looking for garbage in the millions of objects that are being made.

    Without it that takes as long as making them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
