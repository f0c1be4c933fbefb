# SPDX-License-Identifier: Apache-2.0
"""Waiting items become batches."""

import threading

import pytest

from src.serving.batcher import Batcher

WAIT = 30.0


class Recorder:
    """Doubles numbers; the first batch waits for `go`."""

    def __init__(self):
        self.batches, self.go, self.begun = [], threading.Event(), threading.Event()

    def __call__(self, items):
        self.batches.append(list(items))
        self.begun.set()
        assert self.go.wait(WAIT)
        return [2 * item for item in items]


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def batcher(recorder):
    made = Batcher(recorder, 3, linger=0.0)
    yield made
    recorder.go.set()
    made.close()


def held_up(batcher, recorder):
    """Let a first batch run, so that what follows waits."""
    first = batcher.submit(100, "a")
    assert recorder.begun.wait(WAIT)
    return first


def test_items_of_one_kind_share_batches_in_their_order(batcher, recorder):
    first = held_up(batcher, recorder)
    jobs = [batcher.submit(i, "ab"[i % 2]) for i in range(8)]
    recorder.go.set()
    assert [job.result(WAIT) for job in jobs] == [2 * i for i in range(8)]
    assert first.result(WAIT) == 200
    assert recorder.batches == [[100], [0, 2, 4], [1, 3, 5], [6], [7]]


def test_what_is_taken_back_is_not_looked_at(batcher, recorder):
    held_up(batcher, recorder)
    jobs = [batcher.submit(i, "a") for i in range(5)]
    assert jobs[0].cancel() and jobs[2].cancel()
    recorder.go.set()
    assert [jobs[i].result(WAIT) for i in (1, 3, 4)] == [2, 6, 8]
    assert recorder.batches == [[100], [1, 3, 4]]


def test_a_failure_is_told_to_its_batch_alone():
    def fail(items):
        if 1 in items:
            raise MemoryError("too much")
        return items

    batcher = Batcher(fail, 1)
    bad, good = batcher.submit(1, "a"), batcher.submit(2, "a")
    with pytest.raises(MemoryError, match="too much"):
        bad.result(WAIT)
    assert good.result(WAIT) == 2 and batcher.is_alive
    batcher.close()
    assert not batcher.is_alive


def test_closing_ends_what_waits(batcher, recorder):
    first = held_up(batcher, recorder)
    waiting = batcher.submit(1, "a")
    recorder.go.set()
    batcher.close()
    assert first.result(WAIT) == 200
    assert waiting.cancelled() or waiting.result(0) == 2  # it was in time
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(1, "a")


def test_many_threads_get_their_own_answers():
    batcher = Batcher(lambda items: [2 * item for item in items], 7, linger=0.001)
    answers = {}

    def client(number):
        for i in range(20):
            item = 100 * number + i
            answers[item] = batcher.submit(item, item % 3).result(WAIT)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    batcher.close()
    assert answers == {100 * n + i: 2 * (100 * n + i) for n in range(16) for i in range(20)}
