# SPDX-License-Identifier: Apache-2.0
"""Processes of one machine average tensors through memory that they share."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from src.native.build import NotBuilt, library
from src.native.exchange import join_processes
from tests.helpers import exchange_run
from tests.helpers.paths import REPO

_SHARED = Path("/dev/shm")


@pytest.fixture(scope="module", autouse=True)
def compiled():
    try:
        library()
    except NotBuilt as reason:
        pytest.skip(f"no CPU operators: {reason}")


def _files():
    return {path.name for path in _SHARED.glob("faster-rcnn-*")}


def _run(folder, world_size, way):
    """The answers of all processes, and what they said on the standard error."""
    before = _files()
    command = [sys.executable, exchange_run.__file__, str(folder)]
    started = [
        subprocess.Popen(
            [*command, str(rank), str(world_size), way],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(world_size)
    ]
    told = [process.communicate(timeout=500) for process in started]
    assert [process.returncode for process in started] == [0] * world_size, told
    assert _files() <= before  # the memory has no name any more
    return [json.loads(out.splitlines()[-1]) for out, _ in told], [error for _, error in told]


def test_all_get_the_mean(tmp_path):
    answers, _ = _run(tmp_path, 3, "all")
    assert answers == [{"joined": True}] * 3
    for number in range(exchange_run.ROUNDS):
        brought = [exchange_run.tensors(rank, number) for rank in range(3)]
        for rank in range(3):
            with np.load(tmp_path / f"means_{rank}_{number}.npz") as means:
                for place, own in enumerate(zip(*brought, strict=True)):
                    expected = (own[0] + own[1] + own[2]) * (np.float32(1) / np.float32(3))
                    np.testing.assert_array_equal(means[f"arr_{place}"], expected)


def test_who_has_no_operators_takes_all_others_along(tmp_path):
    assert _run(tmp_path, 2, "without")[0] == [{"joined": False}] * 2


def test_a_wait_has_an_end(tmp_path):
    answers, said = _run(tmp_path, 2, "late")
    assert answers == [{"joined": True, "failed": True}, {"joined": True}]
    assert "another process did not come in time" in said[0]


@pytest.mark.parametrize(
    "place",
    [
        None,
        ("/etc/passwd", "00" * 16),
        ("/dev/shm/../../etc/passwd", "00" * 16),
        ("/dev/shm/faster-rcnn-of-another-machine", "00" * 16),
    ],
)
def test_a_place_that_is_not_there(place):
    joined = join_processes(
        library(), 1, 2, seconds=1.0, broadcast=lambda _: place, all_gather=lambda own: [True, own]
    )
    assert joined is False


def test_another_file_of_that_name():
    path = _SHARED / f"faster-rcnn-test-{os.getpid()}"
    path.write_bytes(bytes(100))
    try:
        joined = join_processes(
            library(),
            1,
            2,
            seconds=1.0,
            broadcast=lambda _: (str(path), "00" * 16),
            all_gather=lambda own: [True, own],
        )
    finally:
        path.unlink()
    assert joined is False
