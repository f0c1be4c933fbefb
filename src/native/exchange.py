# SPDX-License-Identifier: Apache-2.0
"""Gradients of the processes of one machine, averaged through memory that they share.

MindSpore sends them through sockets, at 130 MB a second.
"""

import contextlib
import ctypes
import os
import secrets
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from mindspore import Tensor, nn
from mindspore import dtype as mstype

from .build import Library
from .custom import Shape, operator

_FOLDER = "/dev/shm"
_PREFIX = "faster-rcnn-"
_MARK = 16  # bytes at the file's end, by which processes see that it is the same file


class NativeMean(nn.Cell):
    """The mean of tensors over the processes that `join_processes` has brought together.

    Args:
        library: our compiled operators, of `build.library()`.
    """

    def __init__(self, library: Library) -> None:
        super().__init__()
        self.mean = operator(library, "mean_over_ranks", _same_shapes, _all_float32)

    def construct(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the means; all processes get the same bits.

        Args:
            tensors: float32, of the same shapes in all processes; more than one.
        """
        return self.mean(*tensors)


def join_processes(
    library: Library | None,
    rank: int,
    world_size: int,
    *,
    seconds: float,
    broadcast: Callable[[Any], Any],
    all_gather: Callable[[Any], list[Any]],
) -> bool:
    """Let all processes share memory, if they are on one machine; all have to call it.

    The file has no name any more when this returns, so that nothing is left of a killed run.

    Args:
        library: our compiled operators, of `build.library()`; None where there are none.
        rank: number of this process.
        world_size: number of processes.
        seconds: that a process waits for the others in an exchange before it gives up.
        broadcast: returns what the process of rank 0 gives.
        all_gather: returns what each process gives.

    Returns:
        Whether `NativeMean` can be used: in all processes alike.
    """
    made = _make(library, world_size) if rank == 0 else None
    place = broadcast(made)
    try:
        joined = False
        if library is not None and place is not None:
            joined = _join(library, rank, world_size, seconds, *place)
        return all(all_gather(joined))
    finally:
        if made is not None:
            with contextlib.suppress(OSError):
                os.unlink(made[0])


def _make(library: Library | None, world_size: int) -> tuple[str, str] | None:
    """The path and the mark of a file whose memory is reserved; None where there is no room."""
    if library is None:
        return None
    bytes_ = _functions(library).exchange_bytes(world_size)
    try:
        handle, path = tempfile.mkstemp(prefix=_PREFIX, dir=_FOLDER)
    except OSError:
        return None
    mark = secrets.token_bytes(_MARK)
    with open(handle, "r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, bytes_ + _MARK)
            file.seek(bytes_)
            file.write(mark)
        except OSError:  # full: containers often have 64 MB there
            os.unlink(path)
            return None
    return path, mark.hex()


def _join(
    library: Library, rank: int, world_size: int, seconds: float, path: str, mark: str
) -> bool:
    """Take part with the file at `path` if it is there, ours, and has the mark."""
    if os.path.dirname(path) != _FOLDER or not os.path.basename(path).startswith(_PREFIX):
        return False
    functions = _functions(library)
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            state = os.fstat(file.fileno())
            file.seek(functions.exchange_bytes(world_size))
            if state.st_uid != os.geteuid() or file.read(_MARK + 1) != bytes.fromhex(mark):
                return False
    except OSError:  # of another machine
        return False
    return functions.join_exchange(path.encode(), rank, world_size, seconds) == 0


def _functions(library: Library) -> ctypes.CDLL:
    """The library's functions that are no operators."""
    loaded = ctypes.CDLL(str(library.path))
    loaded.exchange_bytes.restype = ctypes.c_int64
    loaded.join_exchange.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_int, ctypes.c_double]
    return loaded


def _same_shapes(*shapes: Shape) -> tuple[Shape, ...]:
    return shapes


def _all_float32(*types: Sequence[mstype.Type]) -> tuple[mstype.Type, ...]:
    if not all("Float32" in str(type_) for type_ in types):
        raise TypeError(f"the CPU operators take float32, not {types}")
    return (mstype.float32,) * len(types)
