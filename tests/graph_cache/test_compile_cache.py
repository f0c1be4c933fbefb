# SPDX-License-Identifier: Apache-2.0
"""Compiled graphs of earlier processes: used when nothing has changed, and only then."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from src.graph_cache import compile_cache, graph_digest
from src.graph_cache.compile_cache import MAX_ENTRIES, CompileCache, tidy
from src.graph_cache.graph_entries import GraphEntry
from tests.helpers.network_helpers import small_config
from tests.helpers.paths import REPO, importing

PROGRAM = REPO / "tests/helpers/compile_cache_run.py"


def run(folder, *jobs, **environment):
    """Run the jobs in a process of their own: [{"found", "result", "stored", "note"}, ...]."""
    base = {k: v for k, v in importing().items() if not k.startswith("MS_COMPILER_CACHE")}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(folder), *jobs],
        env={**base, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


STORED = ("scale=2", "scale=3", "train=0.5")
LATER = ("train=0.5", "scale=3", "scale=2", "train=0.25", "longer=0.25", "weight=7", "scale=5")


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache with the graphs of three cells, and what a process without a cache computes."""
    folder = tmp_path_factory.mktemp("graphs")
    plain = {job: r["result"] for job, r in zip(LATER, run("off", *LATER), strict=True)}
    first = run(folder, *STORED)
    assert [r["result"] for r in first] == [plain[job] for job in STORED]
    assert [r["hit"] for r in first] == [False] * 3
    assert len(list(folder.glob("*.graph"))) == 3
    return folder, plain


@pytest.fixture(scope="module")
def later(filled):
    """What a second process finds there."""
    return dict(zip(LATER, run(filled[0], *LATER), strict=True))


def test_a_second_process_takes_them_in_any_order(filled, later):
    folder, expected = filled
    assert [later[job]["result"] for job in STORED] == [expected[job] for job in STORED]
    assert [later[job]["hit"] for job in STORED] == [True] * 3
    assert not list(folder.glob("room-*"))


def test_rates_and_weights_are_read_anew(filled, later):
    """They are parameters of the graph; a changed rate must never be the old one."""
    jobs = ("train=0.25", "longer=0.25", "weight=7")
    assert [later[job]["result"] for job in jobs] == [filled[1][job] for job in jobs]
    assert [later[job]["hit"] for job in jobs[:2]] == [True, True]


def test_each_rank_has_its_own_graphs(monkeypatch):
    monkeypatch.setenv("RANK_SIZE", "2")
    digests = {_digest()}
    monkeypatch.setenv("RANK_ID", "1")
    assert len(digests | {_digest()}) == 2


def test_a_changed_constant_is_another_graph(filled, later):
    changed = later["scale=5"]
    assert not changed["hit"] and changed["result"] == filled[1]["scale=5"]


def test_a_damaged_entry_is_not_used(filled, tmp_path):
    folder, expected = filled
    for entry in folder.glob("*.graph"):
        content = bytearray(entry.read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / entry.name).write_bytes(content[:-100] if len(content) % 2 else content)
    (found,) = run(tmp_path, "scale=2")
    assert not found["hit"] and found["result"] == expected["scale=2"]
    assert run(tmp_path, "scale=2")[0]["hit"]  # written anew


def test_an_entry_that_this_user_has_not_sealed_is_not_used(filled, tmp_path):
    """Whoever can make an entry, its checksum included, makes a program."""
    folder, expected = filled
    for path in folder.glob("*.graph"):
        (tmp_path / path.name).touch(mode=0o600)
        GraphEntry(tmp_path / path.name, b"k" * 32, None).write(path.read_bytes()[32:])
    (found,) = run(tmp_path, "scale=2")
    assert not found["hit"] and found["result"] == expected["scale=2"]


def test_a_folder_that_others_can_write_to_is_not_used(filled, tmp_path):
    folder, expected = filled
    for entry in folder.glob("*.graph"):
        shutil.copy(entry, tmp_path)
    tmp_path.chmod(0o1777)
    before = set(tmp_path.iterdir())
    (found,) = run(tmp_path, "scale=2")
    assert not found["hit"] and found["result"] == expected["scale=2"]
    assert found["notes"] == [
        f"note: compiled graphs are not kept (other users can write to {tmp_path}; `chmod go-w` "
        "it); set compile_cache to another folder, or to off"
    ]
    assert set(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_two_processes_at_once(tmp_path):
    base = {k: v for k, v in importing().items() if not k.startswith("MS_COMPILER_CACHE")}
    command = [sys.executable, str(PROGRAM), str(tmp_path), "scale=2", "scale=3"]
    both = [subprocess.Popen(command, env=base, stdout=subprocess.PIPE, text=True) for _ in "ab"]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    results = [[json.loads(line)["result"] for line in text.splitlines()] for text in outputs]
    assert results[0] == results[1]
    assert all(r["hit"] for r in run(tmp_path, "scale=2", "scale=3"))


def test_a_folder_that_cannot_be_used_is_said_once(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    results = run(blocked, "scale=2", "scale=3")
    assert [r["hit"] for r in results] == [False, False]
    assert sum(len(r["notes"]) for r in results) == 1
    assert "compile_cache" in results[0]["notes"][0]


@pytest.mark.parametrize(
    ("changes", "environment"),
    [
        ({"compile_cache": "off"}, {}),
        ({"device_target": "Ascend"}, {}),
        ({}, {"MS_COMPILER_CACHE_ENABLE": "1"}),
    ],
)
def test_where_there_is_none(changes, environment, monkeypatch, tmp_path):
    for name in ("MS_COMPILER_CACHE_ENABLE", "MS_COMPILER_CACHE_PATH", "RANK_SIZE", "MS_ROLE"):
        monkeypatch.delenv(name, raising=False)
    config = small_config(compile_cache=str(tmp_path / "graphs"))
    assert CompileCache(config)._folder == tmp_path / "graphs"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert CompileCache(config.replace(**changes))._folder is None


@pytest.mark.parametrize("target, times", [("CPU", 1), ("GPU", 0)])
def test_what_compiling_leaves_is_given_back_before_the_first_run(target, times, monkeypatch):
    """Also without a cache, once a graph."""
    seen = []

    class Double(nn.Cell):
        def construct(self, x):
            return x + x

    cell = Double()
    monkeypatch.setattr(
        "src.graph_cache.compile_cache.give_back_memory",
        lambda: seen.append(len(cell.compile_cache)),
    )
    run = CompileCache(small_config(compile_cache="off").replace(device_target=target))
    for _ in range(2):
        assert run(cell, Tensor([1.0])).asnumpy().tolist() == [2.0]
    assert seen == [1] * times


def test_the_usual_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("MS_COMPILER_CACHE_ENABLE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = small_config()
    assert config.compile_cache == "auto"
    assert CompileCache(config)._folder == tmp_path / "faster_rcnn_mindspore" / "graphs"


def test_old_and_surplus_graphs_go(tmp_path):
    now = time.time()
    names = [f"{number:064x}.graph" for number in range(MAX_ENTRIES + 5)]
    for number, name in enumerate(names):
        path = tmp_path / name
        path.write_bytes(b"x")
        os.utime(path, (now - number * 60, now - number * 60))
    users_own = ["room-with-a-view", "room-dead.txt", "my.graph"]
    for name, days in (
        (names[0], 31),
        ("room-dead1_xy", 2),
        ("room-alive_1", 0),
        *((n, 99) for n in users_own),
    ):
        path = tmp_path / name
        path.mkdir() if name.startswith("room") else path.write_bytes(b"x")
        os.utime(path, (now - days * 86400,) * 2)
    tidy(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*names[1 : MAX_ENTRIES + 1], "room-alive_1", *users_own}


# ------------------------------------------------------------------ what tells graphs apart


class _Scale(nn.Cell):
    def __init__(self, factor, table):
        super().__init__()
        self.factor, self.table = factor, Tensor(np.array(table, np.float32))

    def construct(self, x):
        return x * self.factor + self.table


def _digest(factor=2.0, table=(1, 2), shape=(2,), training=False, **changes):
    cell = _Scale(factor, table)
    cell.set_train(training)
    inputs = [Tensor(np.zeros(shape, np.float32))]
    return graph_digest.graph_digest(small_config(**changes), cell, inputs)


def test_the_digest_is_reproducible():
    assert _digest() == _digest() == _digest(output_dir="elsewhere", log_interval=3)


@pytest.mark.parametrize(
    "changes",
    [
        {"base_lr": 0.1, "lr_type": "step", "sgd_step": [1], "warmup_step": 3},
        {"epoch_size": 3, "steps_per_epoch_limit": 7},
        {"seed": 2, "flip_ratio": 0.1, "photometric": True, "expand_ratio": 2.0},
    ],
)
def test_a_schedule_and_augmentation_share_the_graph(changes):
    assert _digest(**changes) == _digest()


def test_what_was_compiled_before_does_not_change_the_digest():
    """A network that has several canvases finds the graphs of all of them again."""
    cell, config = _Scale(2.0, (1,)), small_config()
    inputs = [Tensor(np.zeros((1, 3), np.float32))]
    before = graph_digest.graph_digest(config, cell, inputs)
    cell(Tensor(np.zeros(2, np.float32)))
    assert graph_digest.graph_digest(config, cell, inputs) == before


def test_each_canvas_is_named_and_compiled_once():
    shown = []

    def compiling(canvas):
        shown.append(canvas)
        return contextlib.nullcontext()

    config = small_config(compile_cache="off", canvases=["64x96", "96x64"])
    run = CompileCache(config, compiling=compiling)
    cell, compiled = _Scale(2.0, (1,)), []
    for height, width in ((64, 96), (96, 64), (64, 96)):
        run(cell, Tensor(np.zeros((1, 3, height, width), np.float32)))
        compiled.append(run.compiled)
    assert shown == ["64x96", "96x64"] and compiled == [True, True, False]


def test_the_detectors_digest_is_the_same_in_every_process():
    (first,) = run("off", "detector=0.5")
    other, second = run("off", "detector=0.6", "detector=0.5")
    assert first["result"] == second["result"] != other["result"]


@pytest.mark.parametrize(
    "change",
    [
        {"factor": 3.0},
        {"table": (1, 3)},
        {"shape": (3,)},
        {"training": True},
        {"test_score_thr": 0.5},
        {"rpn_nms_thr": 0.3},
        {"weight_decay": 0.5},
        {"frozen_stages": 0},
    ],
)
def test_a_change_changes_the_digest(change):
    assert _digest(**change) != _digest()


def test_sources_environment_and_version_change_the_digest(monkeypatch, tmp_path):
    (tmp_path / "kernel.cc").write_text("int a;")
    monkeypatch.setattr(graph_digest, "_SOURCES", tmp_path)
    seen = {_digest()}
    (tmp_path / "kernel.cc").write_text("int b;")
    seen.add(_digest())
    monkeypatch.setenv("MS_DEV_SOMETHING", "1")
    seen.add(_digest())
    monkeypatch.setattr(ms, "__version__", "2.11")
    seen.add(_digest())
    assert len(seen) == 4


def test_a_command_under_its_own_name_has_a_cache_too(monkeypatch):
    """MindSpore takes the first argument for the program's file: `faster-rcnn train` is none."""
    from mindspore.graph import api

    monkeypatch.setattr(api, "entry_script_path", "/nowhere/faster-rcnn train")
    files = compile_cache._program_files()
    assert files and all(Path(file).is_file() for file in files)
