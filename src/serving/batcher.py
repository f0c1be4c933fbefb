# SPDX-License-Identifier: Apache-2.0
"""Waiting requests become batches: whoever waits for the same canvas is looked at together."""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False, slots=True)
class _Job(Generic[Item, Result]):
    item: Item
    kind: Hashable
    future: "Future[Result]" = field(default_factory=Future)


class Batcher(Generic[Item, Result]):
    """Collects items of one kind, up to a number, and hands them to a function in a thread.

    The longest waiting item decides the kind of the next batch, so that no kind waits for ever. How
    many may wait is for the caller to bound.

    Args:
        run: takes 1 to `size` items of one kind and returns a result for each; only this thread
            calls it.
        size: most items of a batch.
        linger: seconds that an item waits for company.
    """

    def __init__(
        self, run: Callable[[Sequence[Item]], Sequence[Result]], size: int, *, linger: float = 0.005
    ) -> None:
        self._run, self._size, self._linger = run, size, linger
        self._waiting: deque[_Job[Item, Result]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether items that are submitted will be looked at."""
        return self._thread.is_alive() and not self._closed

    def submit(self, item: Item, kind: Hashable) -> "Future[Result]":
        """Let an item wait for its batch; cancelling what is returned takes it back.

        Args:
            item: what `run` gets.
            kind: only items of equal kinds share a batch.

        Raises:
            RuntimeError: it is closed.
        """
        job = _Job[Item, Result](item, kind)
        with self._changed:
            if self._closed:
                raise RuntimeError("closed")
            self._waiting.append(job)
            self._changed.notify()
        return job.future

    def close(self, wait: float | None = None) -> None:
        """Finish the batch at hand; those that still wait are cancelled.

        Args:
            wait: seconds to wait for the batch at hand; None: as long as it takes.
        """
        with self._changed:
            self._closed = True
            left, self._waiting = self._waiting, deque()
            self._changed.notify()
        for job in left:
            job.future.cancel()
        self._thread.join(wait)

    def _work(self) -> None:
        while True:
            batch = self._next_batch()
            if batch is None:
                return
            batch = [job for job in batch if job.future.set_running_or_notify_cancel()]
            if batch:
                self._answer(batch)

    def _next_batch(self) -> list[_Job[Item, Result]] | None:
        """Wait for items; None when it is closed."""
        with self._changed:
            while not self._still_wanted():
                if self._closed:
                    return None
                self._changed.wait()
            kind = self._waiting[0].kind
            until = time.monotonic() + self._linger
            while len(self._of(kind)) < self._size and not self._closed:
                left = until - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            batch = self._of(kind)
            chosen = set(map(id, batch))
            self._waiting = deque(job for job in self._waiting if id(job) not in chosen)
            return batch

    def _still_wanted(self) -> bool:
        """Forget items that were taken back; say whether others wait."""
        self._waiting = deque(job for job in self._waiting if not job.future.cancelled())
        return bool(self._waiting)

    def _of(self, kind: Hashable) -> list[_Job[Item, Result]]:
        """The first items of a kind that nobody has taken back, as many as a batch holds."""
        found = []
        for job in self._waiting:
            if job.kind == kind and not job.future.cancelled():
                found.append(job)
                if len(found) == self._size:
                    break
        return found

    def _answer(self, batch: list[_Job[Item, Result]]) -> None:
        try:
            results = self._run([job.item for job in batch])
        except BaseException as error:  # whoever waits must hear of it, whatever it is
            for job in batch:
                job.future.set_exception(error)
            return
        for job, result in zip(batch, results, strict=True):
            job.future.set_result(result)
