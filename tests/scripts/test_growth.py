# SPDX-License-Identifier: Apache-2.0
"""benchmarks/growth.py and ranks.py: what they change, what they make of it, whole small runs."""

import argparse
import contextlib
import json
import math
import subprocess
import sys
from types import SimpleNamespace

import pytest

from benchmarks import growth, ranks
from benchmarks.workload import make_config
from src.base.errors import UserError
from tests.helpers.paths import REPO

KEYS = sorted(set(growth.QUANTITIES) - {"ranks"})


@pytest.mark.parametrize("name", KEYS)
def test_every_value_is_a_configuration(name):
    options = argparse.Namespace(
        setting="torchvision",
        device_target="CPU",
        height=64,
        width=96,
        backbone="resnet_v1.5_18",
        batch=1,
        seed=1,
    )
    config = make_config(options, [])
    values = growth.QUANTITIES[name].values
    seen = [config.replace(**growth.changes(name, value)).to_dict() for value in values]
    changed = {key for key in config.to_dict() if len({str(one[key]) for one in seen}) > 1}
    assert changed == set(growth.changes(name, 1))


def test_exponents_of_known_growth():
    rows = [{"of": "batch", "value": n, "seconds": 0.5 * n, "bytes": 7.0 * n**2} for n in (1, 2, 8)]
    growth.with_exponents(rows)
    assert "seconds_exponent" not in rows[0]
    assert [row["seconds_exponent"] for row in rows[1:]] == pytest.approx([1.0, 1.0])
    assert [row["bytes_exponent"] for row in rows[1:]] == pytest.approx([2.0, 2.0])


def test_a_canvas_is_measured_by_its_pixels():
    rows = [{"of": "canvas", "value": n, "seconds": 1e-6 * n**2, "bytes": 1.0} for n in (320, 1344)]
    assert growth.with_exponents(rows)[1]["seconds_exponent"] == pytest.approx(1.0)
    assert rows[1]["bytes_exponent"] == pytest.approx(0.0)


def test_nothing_to_compare_is_not_a_number():
    assert math.isnan(growth.exponent(0.0, 5.0, 2.0))


def test_one_program_a_value_gets_its_keys_and_boxes():
    """A stand-in for the network whose runs take what the boxes say."""
    asked = []

    class Work:
        options = argparse.Namespace(of=["boxes"], boxes=10, warmup=1, repeats=3)
        config = SimpleNamespace(replace=lambda **changes: changes)

        def use(self, config):
            asked.append(config)

        @contextlib.contextmanager
        def mindspore(self, task, boxes):
            memory = iter(({"now": 100}, {"highest": 100 + boxes}))
            yield SimpleNamespace(
                ask=lambda do, count=0: next(memory) if do == "memory" else [boxes / 2] * count
            )

    row = growth._measured(Work(), "training", "boxes", 128)
    assert asked == [{"num_gts": 128}]
    assert (row["seconds"], row["bytes"], row["all"]["count"]) == (64.0, 128, 3)


@pytest.mark.parametrize("batch, threads", [(3, 2), (4, 1)])
def test_what_cannot_be_shared_is_refused(batch, threads):
    work = SimpleNamespace(options=argparse.Namespace(batch=batch, threads=threads))
    with pytest.raises(UserError, match="cannot be shared by 2 processes"):
        ranks.measure_ranks(work, 2)


def test_a_failed_training_is_one_line():
    command = [sys.executable, "-c", "import sys; sys.exit('a first line\\nthe reason')"]
    with pytest.raises(UserError, match="exit code 1: the reason"):
        ranks._train(command, 1, 60.0)


@pytest.mark.slow
@pytest.mark.thorough
def test_a_small_growth_is_measured(tmp_path):
    """A whole run; `_measured`, above, has stand-ins, and test_benchmarks.py runs its programs."""
    path = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks.growth", "--of", "classes", "--tasks", "inference"]
    command += ["--backbone", "resnet_v1.5_18", "--height", "64", "--width", "96", "--batch", "1"]
    command += ["--warmup", "1", "--repeats", "1", "--json", str(path)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads(path.read_text())["rows"]
    assert [row["value"] for row in rows] == [1, 80, 1000]
    assert all(row["seconds"] > 0 for row in rows) and rows[-1]["bytes"] > 0
