# SPDX-License-Identifier: Apache-2.0
"""The measuring scripts: options, statistics, tables, files, and programs that take turns."""

import argparse
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks import common, comparison, peak_memory, workload
from benchmarks.peers import inputs
from benchmarks.peers.mindspore_profile import part_of, tables
from benchmarks.turns import Program, take_turns
from src.base.errors import UserError
from tests.helpers.paths import REPO

SCRIPTS = (
    "training_step",
    "inference",
    "data_pipeline",
    "conversion",
    "evaluation",
    "startup",
    "peak_memory",
    "growth",
    "ranks",
)

# A program that plays network: its runs take what the job says, by its own account.
STAND_IN = """
import os, sys, time
from benchmarks.peers.protocol import memory, serve

class Task:
    def __init__(self, job):
        self.job = job
        print("a library that prints")
    def run(self, count):
        with open(self.job["log"], "a") as file:
            file.write(f"{self.job['name']} {count}\\n")
        return [self.job["seconds"]] * count
    def describe(self):
        return {"versions": {"stand-in": "1"}, "threads": os.environ.get("OMP_NUM_THREADS")}
    def memory(self):
        return memory()
    def parts(self, warmup, repeats):
        return [
            {"name": "backbone", "forward": [0.1] * repeats, "with_gradient": [0.3] * repeats},
            {"name": "proposals", "forward": [0.2] * repeats, "with_gradient": None},
        ]
    def fail(self):
        raise ValueError("of a defect")
    def refuse(self):
        class UserError(Exception): pass
        raise UserError("of the user")
    def die(self):
        os._exit(3)
    def sleep(self):
        time.sleep(60)

serve(Task)
"""


@pytest.fixture
def stand_in(tmp_path):
    """Start stand-ins by name and seconds; they are ended after the test."""
    script, started = tmp_path / "stand_in.py", []
    script.write_text(STAND_IN)

    def start(name="stand-in", seconds=0.5, **options):
        job = {"name": name, "seconds": seconds, "log": str(tmp_path / "log")}
        environment = {"PYTHONPATH": str(REPO), **options.pop("environment", {})}
        command = [sys.executable, str(script)]
        started.append(Program(name, command, job, environment=environment, **options))
        return started[-1]

    start.log = tmp_path / "log"
    yield start
    for program in started:
        program.close()


def run_script(name, *arguments):
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"benchmarks.{name}", *map(str, arguments)],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=500,
    )


def test_what_a_program_says_is_kept(stand_in):
    program = stand_in()
    assert "a library that prints" in program.said()
    program.ask("run", count=1)
    assert program.said().count("a library that prints") == 1


# --------------------------------------------------------------------------- options


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_comes_without_mindspore(script):
    done = run_script(script, "--help")
    assert done.returncode == 0
    for option in (
        "height",
        "width",
        "batch",
        "backbone",
        "threads",
        "warmup",
        "repeats",
        "json",
        "device_target",
    ):
        assert f"--{option} " in done.stdout
    assert "argparse" in done.stderr
    assert "mindspore" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--threads", "0"], "--threads"),
        (["--batchsize", "3"], "batch_size"),
        (["--height", "100"], "img_height"),
        (["--json", "no/such/folder/file.json"], "--json no/such/folder/file.json"),
    ],
)
def test_wrong_options_are_answered_in_one_line(arguments, complaint):
    done = run_script("training_step", *arguments)
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("import time")]
    assert done.returncode == 2
    errors = [line for line in complaints if line.startswith("error: ")]
    assert len(errors) == 1 and complaint in errors[0]
    assert "Traceback" not in done.stderr


def options(**changes):
    values = dict(
        height=768,
        width=1280,
        batch=2,
        backbone="resnet_v1.5_50",
        threads=2,
        warmup=3,
        repeats=4,
        device_target="CPU",
        seed=1,
        json=None,
        setting="torchvision",
        boxes=10,
        timeout=60.0,
        peer=["torchvision"],
        peer_mode=[()],
        peer_python=sys.executable,
        parts=True,
        profile=None,
    )
    return argparse.Namespace(**{**values, **changes})


def test_the_setting_gives_way_to_the_command_line():
    config = workload.make_config(options(), ["--frozen_stages", "0"])
    assert (config.frozen_stages, config.box_convention) == (0, "modern")
    assert (config.rpn_proposal_nms_pre, config.rpn_proposal_max_num) == (2000, 1000)
    assert (config.num_classes, config.batch_size, config.test_batch_size) == (81, 2, 2)
    zoo = workload.make_config(options(setting="model_zoo", height=256), [])
    assert (zoo.box_convention, zoo.rpn_proposal_max_num, zoo.img_height) == ("legacy", 2000, 256)


# --------------------------------------------------------------------------- numbers


def test_summary():
    found = common.summary([5.0, 1.0, 2.0, 4.0, 3.0])
    assert found["median"] == 3.0
    assert found["quartiles"] == [2.0, 4.0]
    assert found["range"] == [1.0, 5.0]
    assert found["values"] == [5.0, 1.0, 2.0, 4.0, 3.0]
    assert common.summary([2.0])["quartiles"] == [2.0, 2.0]
    with pytest.raises(ValueError, match="nothing was measured"):
        common.summary([])


def test_ratio_is_of_throughputs():
    found = common.ratio([2.0, 2.0, 4.0], [1.0, 3.0, 3.0])
    assert found["of_medians"] == 1.5
    assert found["values"] == [0.5, 1.5, 0.75]


def test_timed_counts_after_the_warmup():
    calls = []
    seconds = common.timed(lambda: calls.append("work"), 2, 3, before=lambda: calls.append("-"))
    assert calls == ["-", "work"] * 5
    assert len(seconds) == 3


def test_slope():
    assert peak_memory.slope([7.0, 9.0, 11.0]) == pytest.approx(2.0)
    assert peak_memory.slope([7.0]) == 0.0


def test_table():
    lines = common.table(("what", "s"), [("a", 1.23456), ("longer", "")]).splitlines()
    assert lines == ["what        s", "------  -----", "a       1.235", "longer"]


def test_report_is_written_whole(tmp_path):
    path = tmp_path / "report.json"
    common.write_report(str(path), "name", options(), {"value": 1})
    found = json.loads(path.read_text())
    assert found["benchmark"] == "name" and found["value"] == 1
    assert found["options"]["height"] == 768 and "json" not in found["options"]
    with pytest.raises(TypeError):
        common.write_report(str(path), "name", options(), {"value": object()})
    assert json.loads(path.read_text()) == found
    assert os.listdir(tmp_path) == ["report.json"]
    common.write_report(None, "name", options(), {})


def test_model_zoo_factor_is_scaled_by_the_matrix_product():
    def factor(**changes):
        work = argparse.Namespace(options=options(**changes))
        report = {
            "programs": {"MindSpore": {"seconds": {"median": 4.5}}},
            "matrix_product_gflops": {"median": 340.0},
        }
        return comparison.model_zoo_factor("training", work, report)

    assert factor()["scaled_seconds"] == pytest.approx([22.5 * 0.5, 22.5 * 185 / 340])
    assert factor()["factor"] == pytest.approx([2.5, 22.5 * 185 / 340 / 4.5])
    assert factor(height=256) is None
    assert factor(backbone="resnet_v1_50") is None


# --------------------------------------------------------------------------- inputs


def test_inputs_follow_from_the_seed():
    image = inputs.make_images(2, 64, 96, seed=3)
    assert image.shape == (2, 3, 64, 96) and image.dtype == np.float32
    assert 0.5 < image.std() < 1.5
    assert np.array_equal(image, inputs.make_images(2, 64, 96, seed=3))
    assert not np.array_equal(image, inputs.make_images(2, 64, 96, seed=4))
    boxes, labels = inputs.make_boxes(2, 10, 64, 96, num_classes=3)
    assert boxes.shape == (2, 10, 4) and set(np.unique(labels)) == {1, 2}
    assert (boxes[..., :2] >= 0).all() and (boxes[..., 2:] <= (96, 64)).all()
    assert (boxes[..., 2:] - boxes[..., :2] >= 8 - 1e-3).all()


def test_safetensors_files(tmp_path):
    from safetensors.numpy import save_file

    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b.c": np.ones(1, np.float32)}
    save_file(arrays, str(tmp_path / "f"), metadata={"format": "pt"})
    found = inputs.read_safetensors(tmp_path / "f")
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    save_file({"a": np.ones(1, np.int32)}, str(tmp_path / "f"))
    with pytest.raises(ValueError, match="a is I32"):
        inputs.read_safetensors(tmp_path / "f")


# --------------------------------------------------------------------------- programs in turns


def test_programs_take_turns(stand_in):
    one, two = stand_in("one", 0.5), stand_in("two", 0.25)
    rounds = []
    found = take_turns([one, two], warmup=3, repeats=2, between=lambda: rounds.append(1))
    assert found == {"one": [0.5, 0.5], "two": [0.25, 0.25]}
    lines = stand_in.log.read_text().splitlines()
    assert lines == ["one 3", "two 3", "one 1", "two 1", "two 1", "one 1"]
    assert len(rounds) == 3


def _state(program):
    """Return the letter that Linux has for a process: T is stopped."""
    return Path(f"/proc/{program._process.pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("pause", [True, False])
def test_an_idle_program_is_stopped(stand_in, pause):
    program = stand_in(pause=pause, environment={"OMP_NUM_THREADS": "5"})
    assert program.ask("describe")["threads"] == "5"
    until = time.monotonic() + 20
    while pause and _state(program) != "T":  # a busy machine delivers the signal when it can
        assert time.monotonic() < until, "it was not stopped"
        time.sleep(0.01)
    assert (_state(program) == "T") == pause
    memory = program.ask("memory")
    assert 1e6 < memory["now"] <= memory["highest"] < 1e9


def test_what_goes_wrong_in_a_program(stand_in):
    program = stand_in("peer")
    with pytest.raises(UserError, match=r"^peer: ValueError\('of a defect'\) \(.*in fail"):
        program.ask("fail")
    with pytest.raises(UserError, match="^peer: of the user$"):
        program.ask("refuse")
    assert program.ask("run", count=1) == [0.5]
    with pytest.raises(UserError, match="^peer has died; it said: a library that prints"):
        program.ask("die")
    with pytest.raises(UserError, match="slow did not answer within 0.1 s"):
        slow = stand_in("slow")
        slow.timeout = 0.1
        slow.ask("sleep")
    with pytest.raises(UserError, match="none: cannot start no/such/python: No such file"):
        Program("none", ["no/such/python"], {})


PEER_SECONDS = {"torchvision": 0.25, "torchvision bf16": 0.125}


class Work:
    """A workload of stand-ins."""

    def __init__(self, start, **changes):
        self.options, self.start, self.checkpoints = options(**changes), start, 0

    def checkpoint(self):
        self.checkpoints += 1

    def mindspore(self, task):
        return self.start("MindSpore", 0.5)

    def peers(self, task):
        return {name: partial(self.start, name, s) for name, s in PEER_SECONDS.items()}


def test_a_comparison(stand_in, capsys):
    work = Work(stand_in)
    report = comparison.measure("training", work)
    json.dumps(report)
    assert work.checkpoints == 1
    assert report["machine"].keys() >= {"processor", "threads", "load_average", "memory_bytes"}
    assert report["programs"]["MindSpore"]["seconds"]["median"] == 0.5
    assert report["programs"]["torchvision"]["images_per_second"] == 8.0
    assert report["programs"]["torchvision"]["versions"] == {"stand-in": "1"}
    assert {name: value["of_medians"] for name, value in report["ratios"].items()} == {
        "MindSpore / torchvision": 0.5,
        "MindSpore / torchvision bf16": 0.25,
    }
    assert report["matrix_product_gflops"]["count"] == 5
    assert [part["name"] for part in report["parts"]] == ["backbone", "proposals"]
    assert report["model_zoo"]["factor"][0] > 0
    printed = capsys.readouterr().out
    assert "throughput MindSpore / torchvision: 0.500" in printed
    assert "sum" in printed and "timed alone" in printed


# --------------------------------------------------------------------------- profiles


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("Default/network-FasterRcnn/backbone-ResNetFea/layer1-SequentialCell/Add-op1", "backbone"),
        (
            "Gradients/Default/loss_net-FasterRcnnWithLoss/network-F/rcnn-Rcnn/Grad_X/X-op2",
            "rcnn backward",
        ),
        ("Expand/_MatMulExt/MatMul-op0", "MatMulExt"),
        ("Default/Square-op64", "other"),
        ("Sum-op1", "other"),
    ],
)
def test_the_part_that_an_operator_belongs_to(path, part):
    assert part_of(path) == part


def test_tables_of_a_profile(tmp_path):
    (tmp_path / "f.csv").write_text(
        "op_type,full_op_name,op_occurrences,op_total_time(ms)\n"
        "Mul,Default/backbone-R/Mul-op1,1,2.5\n"
        "Mul,Default/rcnn-R/Mul-op2,2,1.5\n"
        "Add,Default/backbone-R/Add-op1,1,0.5\n"
    )
    kinds, parts = tables(tmp_path / "f.csv")
    assert kinds == [["Mul", 3, 4.0], ["Add", 1, 0.5]]
    assert parts == [["backbone", 2, 3.0], ["rcnn", 2, 1.5]]


# --------------------------------------------------------------------------- whole runs

SMALL = ("--backbone", "resnet_v1.5_18", "--height", 64, "--width", 96, "--batch", 1)
SMALL = (*SMALL, "--warmup", 1, "--repeats", 2)
FEW = ("--rpn_proposal_max_num", 50, "--num_expected_pos_stage2", 4)
FEW = (*FEW, "--num_expected_neg_stage2", 16)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """A cache of compiled graphs: the same training step is measured twice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MS_COMPILER_CACHE_ENABLE")
        yield "--compile_cache", tmp_path_factory.mktemp("graphs")


@pytest.mark.slow
def test_a_training_step_is_measured(tmp_path, graphs):
    path = tmp_path / "report.json"
    more = ("--json", path, "--profile", tmp_path / "profile")
    done = run_script("training_step", *SMALL, *more, *FEW, *graphs)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(path.read_text())
    program = report["programs"]["MindSpore"]
    assert program["seconds"]["count"] == 2
    assert np.isfinite(list(program["losses"].values())).all() and program["gradient_norm"] > 0
    assert program["memory"]["highest"] > 1e8
    assert {row[0] for row in report["profile"]["parts"]} >= {"backbone", "rcnn backward"}
    assert report["model_zoo"] is None and report["ratios"] == {}


@pytest.mark.slow
def test_the_data_pipeline_is_measured(tmp_path, graphs):
    path = tmp_path / "report.json"
    more = ("--images", 3, "--workers", 1, "--json", path, "--with_training", "--steps", 3)
    done = run_script("data_pipeline", *SMALL, *more, *FEW, *graphs)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(path.read_text())
    assert [row["workers"] for row in report["rows"]] == [1]
    assert report["rows"][0]["images_per_second"]["median"] > 0
    assert list(report["stages"]) == [
        "read",
        "decode",
        "resize",
        "augment",
        "normalise and pad",
        "batch",
    ]
    assert all(stage["mean"] >= 0 for stage in report["stages"].values())
    training = report["training"]  # two steps of one epoch and one of the next
    assert (training["step_alone"]["count"], training["step_and_wait"]["count"]) == (6, 3)
    assert 0 < training["waiting_share"] < 1 and training["share_of_wall"] < 1
    assert 0 < training["share_of_processors"] < 1
