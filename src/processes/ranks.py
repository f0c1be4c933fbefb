# SPDX-License-Identifier: Apache-2.0
"""The processes that train together: what they tell each other, and how long they wait."""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from .life_signs import LifeSigns

EXIT_ALONE = 4  # another rank did not come within the limit
_CHUNK = 1 << 24  # numbers that travel at once: 64 MB


class Ranks:
    """This process among those of the run. With a single one every method returns at once.

    All ranks have to call the same methods in the same order.

    Args:
        rank: number of this process, from 0.
        world_size: number of processes.

    Attributes:
        folder: of the run, where ranks that wait for each other in vain look who is still there.
    """

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        self.rank, self.world_size = rank, world_size
        self.folder: Path | None = None
        self._all_reduce = SumOverRanks() if world_size > 1 else None
        self._seen = time.monotonic()

    def all_reduce(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """Return the sum over all ranks, (N,) float32.

        Args:
            values: (N,) numbers of this rank.
        """
        values = np.asarray(values, np.float32)
        if self._all_reduce is None:
            return values
        self._seen = time.monotonic()
        summed = self._all_reduce(Tensor(values)).asnumpy()
        self._seen = time.monotonic()
        return summed

    def barrier(self) -> None:
        """Wait until every rank is here: an operator for that alone is not there on a CPU."""
        self.all_reduce([1.0])

    def broadcast(self, content: Any) -> Any:
        """Return what rank 0 gives.

        Args:
            content: plain JSON values; those of the other ranks do not matter.
        """
        if self.world_size == 1:
            return content
        packed = _pack(content) if self.rank == 0 else np.zeros(0, np.int32)
        length = int(self._broadcast_numbers(np.array([len(packed)], np.int32))[0])
        if self.rank:
            packed = np.zeros(length, np.int32)
        return _unpack(self._broadcast_numbers(packed))

    def all_gather(self, content: Any) -> list[Any]:
        """Return what each rank gives, in the order of the ranks.

        Args:
            content: plain JSON values.
        """
        if self.world_size == 1:
            return [content]
        packed = _pack(content)
        lengths = ops.AllGather()(Tensor([len(packed)], ms.int32)).asnumpy()
        padded = np.zeros(lengths.max(), np.int32)
        padded[: len(packed)] = packed
        rows = ops.AllGather()(Tensor(padded)).asnumpy().reshape(self.world_size, -1)
        return [_unpack(row[:length]) for row, length in zip(rows, lengths, strict=True)]

    def broadcast_parameters(self, parameters: Iterable[Parameter]) -> None:
        """Give parameters the values of rank 0's, bit for bit.

        Args:
            parameters: float32 or int32, the same ones on every rank.
        """
        if self.world_size == 1:
            return
        parameters = list(parameters)
        for dtype in (ms.float32, ms.int32):
            chosen = [p for p in parameters if p.dtype == dtype]
            if chosen:
                _set_flat(chosen, self._broadcast_numbers(_flat(chosen)))

    def average(self, parameters: Iterable[Parameter]) -> None:
        """Give parameters their mean over the ranks.

        Args:
            parameters: float32, the same ones on every rank.
        """
        parameters = list(parameters)
        if self.world_size > 1 and parameters:
            _set_flat(parameters, self.all_reduce(_flat(parameters)) / np.float32(self.world_size))

    def _broadcast_numbers(self, numbers: np.ndarray) -> np.ndarray:
        """(N,) numbers of rank 0, in pieces."""
        pieces = [
            ops.Broadcast(0)((Tensor(numbers[start : start + _CHUNK]),))[0].asnumpy()
            for start in range(0, len(numbers), _CHUNK)
        ]
        return np.concatenate(pieces)

    def watch(self, limit: float, last_words: Callable[[], object] | None = None) -> "_Watch":
        """Return a context in which this process ends when the others let it wait too long.

        Args:
            limit: seconds between two exchanges of the ranks.
            last_words: called before the end, in another thread; what it raises is passed over.
        """
        return _Watch(self, limit, last_words)


class _Watch:
    """A thread, because a rank that waits inside the graph can do nothing else."""

    def __init__(self, ranks: Ranks, limit: float, last_words: Callable[[], object] | None) -> None:
        self.ranks, self.limit, self.last_words = ranks, limit, last_words
        self._over = threading.Event()

    def __enter__(self) -> None:
        if self.ranks.world_size > 1:
            self.ranks._seen = time.monotonic()
            threading.Thread(target=self._look, daemon=True).start()

    def __exit__(self, *_exception: object) -> None:
        self._over.set()

    def _look(self) -> None:
        ranks, signs = self.ranks, None
        while not self._over.wait(min(1.0, self.limit / 8)):
            waited = time.monotonic() - ranks._seen
            if signs is None and ranks.folder and waited > self.limit / 2:
                signs = LifeSigns(ranks.folder, ranks.rank, ranks.world_size)
            elif signs and waited <= self.limit / 2:
                signs.end()
                signs = None
            if signs:
                signs.give()
            if waited > self.limit:
                self._leave(signs.missing(self.limit / 4) if signs else [])
        if signs:
            signs.end()

    def _leave(self, missing: list[int]) -> NoReturn:
        names = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
        who = f"rank {names} gives no sign of life; " if missing else ""
        print(
            f"error: rank {self.ranks.rank} has not heard of the other ranks for {self.limit:g} s "
            f"(rank_timeout) and leaves; {who}look at their logs, raise rank_timeout if they are "
            "still at work",
            file=sys.stderr,
            flush=True,
        )
        with contextlib.suppress(Exception):
            if self.last_words:
                self.last_words()
        os._exit(EXIT_ALONE)


class SharedCount(nn.Cell):
    """The number that a rank divides its loss by, so that the mean over the ranks of the losses
    (and gradients) is that of the whole batch: the count over all ranks, at least 1, over the
    number of ranks.

    Args:
        world_size: number of ranks, above 1.
    """

    def __init__(self, world_size: int) -> None:
        super().__init__()
        self.all_reduce = ops.AllReduce(ops.ReduceOp.SUM)
        self.share = 1.0 / world_size

    def construct(self, count: Tensor) -> Tensor:
        """Return the count over all ranks, at least 1, over the number of ranks; () float32.

        Args:
            count: () float32, of this rank.
        """
        return ops.maximum(self.all_reduce(ops.stop_gradient(count)), 1.0) * self.share


class SumOverRanks(nn.Cell):
    """Sum of a tensor over all ranks.

    Its gradient is the sum over all ranks too: what one rank adds reaches the losses of all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.all_reduce = ops.AllReduce(ops.ReduceOp.SUM)

    def construct(self, values: Tensor) -> Tensor:
        """Return the sum, of the shape of `values`.

        Args:
            values: of any shape, float32.
        """
        return self.all_reduce(values)


def moving_statistics(parameters: Iterable[Parameter]) -> list[Parameter]:
    """Return BatchNorm's moving means and variances, which each rank takes of its own batches.

    Args:
        parameters: of a network; known by their names.
    """
    endings = (".moving_mean", ".moving_variance")
    return [p for p in parameters if p.name.endswith(endings)]


def _flat(parameters: Sequence[Parameter]) -> np.ndarray:
    return np.concatenate([p.asnumpy().ravel() for p in parameters])


def _set_flat(parameters: Sequence[Parameter], numbers: np.ndarray) -> None:
    ends = np.cumsum([p.size for p in parameters])
    for parameter, piece in zip(parameters, np.split(numbers, ends[:-1]), strict=True):
        parameter.set_data(Tensor(piece.reshape(parameter.shape), parameter.dtype))


def _pack(content: Any) -> np.ndarray:
    """JSON as int32: of the whole numbers, every backend's collectives know these."""
    text = json.dumps(content).encode("utf-8")
    return np.frombuffer(text + b" " * (-len(text) % 4), np.int32)


def _unpack(packed: np.ndarray) -> Any:
    return json.loads(packed.tobytes().decode("utf-8"))
