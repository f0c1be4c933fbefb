# SPDX-License-Identifier: Apache-2.0
"""Conversions that are killed, that meet, and that wait for each other."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from src.base.errors import UserError
from src.base.one_at_a_time import exclusive
from src.data import mindrecord
from src.data.mindrecord import ensure_mindrecord
from src.data.source import data_source
from tests.helpers.data_helpers import (
    change_annotation,
    leftovers,
    make_coco_root,
    make_config,
    rows_of,
)
from tests.helpers.paths import importing


@pytest.fixture
def root(tmp_path):
    return make_coco_root(tmp_path / "my data")


IMPORTS = """
import json, os, shutil, signal, sys, time
from tests.helpers.data_helpers import make_config
from src.data import mindrecord
from src.data import record_writer
from src.base.errors import UserError

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def converting(root, code, **changes) -> str:
    """The program, behind `IMPORTS`, that runs `code` and then the conversion of `root`."""
    return textwrap.dedent(code) + textwrap.dedent(f"""
        try:
            found = mindrecord.ensure_mindrecord(make_config({str(root)!r}, **{changes!r}), "train")
            print("images", found.num_images)
        except UserError as error:
            print("error", error)
    """)


def start(root, code, **changes) -> subprocess.Popen:
    """Run `converting` in another process."""
    return subprocess.Popen(
        [sys.executable, "-c", IMPORTS + converting(root, code, **changes)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=importing(ONEDNN_MAX_CPU_ISA="AVX2"),
    )


FORKS = """
for line in sys.stdin:
    child = os.fork()
    if not child:
        os.dup2(2, 1)
        signal.alarm(60)
        exec(json.loads(line))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def exit_code_of():
    """Runs programs behind `IMPORTS`, each in a process of its own; they are imported once."""
    with subprocess.Popen(
        [sys.executable, "-c", IMPORTS + FORKS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=importing(ONEDNN_MAX_CPU_ISA="AVX2", OPENBLAS_NUM_THREADS="1"),
    ) as forking:

        def run(program):
            forking.stdin.write(json.dumps(program) + "\n")
            forking.stdin.flush()
            return int(forking.stdout.readline())

        yield run
        forking.stdin.close()


KILLED = {
    "while writing": """
        add = record_writer._Writer.add
        record_writer._Writer.add = lambda s, i, r, d: die() if i == 4 else add(s, i, r, d)
    """,
    "before the index": "mindrecord._write_index = die",
    "before the old set moves": "os.rename = die",
    "between the renames": """
        rename, calls = os.rename, []
        os.rename = lambda a, b: die() if calls else (calls.append(1), rename(a, b))
    """,
    "before the old set is deleted": """
        rmtree = shutil.rmtree
        shutil.rmtree = lambda p, **k: (
            die() if str(p).endswith(".old") and os.path.isdir(p) else rmtree(p, **k)
        )
    """,
}


@pytest.mark.parametrize("moment", KILLED)
def test_kill_9_during_a_rebuild(root, exit_code_of, moment):
    first = ensure_mindrecord(make_config(root), "train")
    change_annotation(root)
    assert exit_code_of(converting(root, KILLED[moment])) == -signal.SIGKILL
    record_set = ensure_mindrecord(make_config(root, convert_timeout=5.0), "train")
    assert record_set.fingerprint != first.fingerprint
    assert record_set.report.num_boxes == first.report.num_boxes - 1
    assert len(rows_of(record_set)) == 7
    assert not leftovers(root / "MindRecord_COCO")


def test_two_processes_convert_once(root):
    slow = """
        add = record_writer._Writer.add
        record_writer._Writer.add = lambda s, i, r, d: (time.sleep(0.2), add(s, i, r, d))
    """
    both = [start(root, slow) for _ in range(2)]
    outputs = [process.communicate(timeout=90) for process in both]
    assert [out.splitlines()[-1] for out, _ in outputs] == ["images 7"] * 2
    assert sum(": converting" in out for out, _ in outputs) == 1
    assert not leftovers(root / "MindRecord_COCO")


def test_waiting_for_a_process_that_fails(root):
    """The one that waits fails soon, with the other's message; a later run starts afresh."""
    process = start(
        root,
        """
        def fail(*_, **__):
            print("started", flush=True)
            time.sleep(1.5)
            raise UserError("image 7 is bad")
        mindrecord.write_records = fail
        """,
    )
    assert "started\n" in iter(process.stdout.readline, "")
    before = time.monotonic()
    with pytest.raises(UserError, match="conversion by another process failed: image 7 is bad"):
        ensure_mindrecord(make_config(root), "train")
    assert time.monotonic() - before < 10
    assert process.communicate(timeout=30)[0] == "error image 7 is bad\n"
    assert ensure_mindrecord(make_config(root), "train").num_images == 7


def test_waiting_has_a_limit(root):
    folder = os.path.join(root, "MindRecord_COCO", data_source(make_config(root), "train").name())
    os.makedirs(os.path.dirname(folder))
    with (
        exclusive(folder, time.time(), 1.0),
        pytest.raises(UserError, match="waited 0.3 s for another process.*raise convert_timeout"),
    ):
        ensure_mindrecord(make_config(root, convert_timeout=0.3), "train")


def test_a_rank_that_is_not_first_converts_too_when_nobody_else_does(root, monkeypatch):
    monkeypatch.setattr(mindrecord, "_HEAD_START_SECONDS", 0.0)
    assert ensure_mindrecord(make_config(root), "train", rank=1, world_size=2).num_images == 7
