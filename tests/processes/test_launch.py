# SPDX-License-Identifier: Apache-2.0
"""The launchers of several processes, with stand-ins for train.py and for what is not installed."""

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from src.base.errors import UserError
from src.model_utils.config import load_config
from src.processes import launch
from tests.helpers.paths import REPO
from tests.processes.test_rank_table import modern_table, old_table, write
from tests.scripts.test_launchers import BACKBONES, Bench

# `python` of the tests: itself for the launching, a recorder in the place of train.py.
# $STAND_IN_DO is Python that is run with `rank` (text) and `folder` (of the run).
STAND_IN = f"""#!/bin/sh
"exec" "{sys.executable}" "$0" "$@"
import json, os, signal, sys, time
real = {sys.executable!r}
if sys.argv[1].endswith(("scripts/launch.py", "rank_process.py")):
    os.execv(real, [real, *sys.argv[1:]])
rank = os.environ.get("RANK_ID") or os.environ.get("OMPI_COMM_WORLD_RANK")
folder = sys.argv[sys.argv.index("--output_dir") + 1] if "--output_dir" in sys.argv else ""
if os.environ.get("MS_ROLE") == "MS_SCHED":
    if "STAND_IN_SCHEDULER_EXIT" in os.environ:
        sys.exit(int(os.environ["STAND_IN_SCHEDULER_EXIT"]))
    while not os.path.exists(folder + "/scheduler may leave"):
        time.sleep(0.05)
    sys.exit(0)
record = f"{{folder}}/record_{{rank}}.json"
with open(f"{{record}}.part", "w") as file:
    json.dump({{"argv": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ),
               "cpus": sorted(os.sched_getaffinity(0))}}, file)
os.replace(f"{{record}}.part", record)
print("output of rank", rank, flush=True)
exec(os.environ.get("STAND_IN_DO", ""))
"""
MPIRUN = """#!/bin/bash
echo "mpirun $*" >&2
while [[ $1 != -n ]]; do shift; done
count=$2; shift 2
for ((i = 0; i < count; i++)); do
    OMPI_COMM_WORLD_RANK=$i OMPI_COMM_WORLD_SIZE=$count OMPI_COMM_WORLD_LOCAL_RANK=$i "$@" &
done
wait
"""


class Launch(Bench):
    """A bench whose stand-in can be one of several processes."""

    def __init__(self, root: Path, repo: Path) -> None:
        super().__init__(root, repo)
        (root / "bin" / "python").write_text(STAND_IN)
        self.given = ("none", "resnet_v1.5_50", self.coco)
        self.environment["LEAVE_SECONDS"] = "2"

    def popen(self, script, *arguments, **environment):
        return subprocess.Popen(
            self.command(script, *arguments),
            cwd=self.work,
            text=True,
            start_new_session=True,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def records(self, folder="train"):
        records = {}
        for path in (self.work / folder).glob("record_*.json"):
            with contextlib.suppress(ValueError):  # being written
                records[int(path.stem.split("_")[1])] = json.loads(path.read_text())
        return records


@pytest.fixture
def bench(tmp_path, repo_root):
    return Launch(tmp_path, repo_root)


def pick(record, *names):
    return tuple(record["env"].get(name) for name in names)


ASCEND = "run_distribute_train_ascend.sh"


@pytest.mark.parametrize("make", [modern_table, old_table], ids=["1.0", "older"])
@pytest.mark.parametrize("server", [0, 1])
def test_two_servers_of_eight_devices(bench, make, server):
    table = write(bench.root / "two servers.json", make())
    name = ("10.0.0.1", "10.0.0.2")[server]
    call = bench.run(ASCEND, table, *bench.given, "--seed", "3", SERVER_ID=name, RANK_ID="77")
    assert call.code == 0, call.stderr
    assert f"output of rank {8 * server}\n" in call.stdout
    records = bench.records()
    assert sorted(records) == [8 * server + i for i in range(8)]
    for rank, record in records.items():
        variables = ("RANK_TABLE_FILE", "RANK_SIZE", "RANK_ID", "DEVICE_ID", "DEVICE_NUM")
        assert pick(record, *variables) == (table, "16", str(rank), str(rank % 8), "8")
        folder = bench.work / "train" / f"train_parallel{rank}"
        assert record["cwd"] == str(folder)
        assert (folder / "log.txt").read_text() == f"output of rank {rank}\n"
        assert record["argv"] == [
            str(bench.repo / "train.py"),
            "--config_path",
            str(bench.repo / "default_config.yaml"),
            "--device_target",
            "Ascend",
            "--backbone",
            "resnet_v1.5_50",
            "--coco_root",
            str(bench.coco),
            "--pre_trained",
            "",
            "--seed",
            "3",
            "--output_dir",
            str(bench.work / "train"),
        ]


def test_one_server_of_four_devices_needs_no_name(bench):
    table = write(bench.work / "one.json", modern_table(["host-7"], 4, first_device=4))
    arguments = ("one.json", bench.checkpoint, *bench.given[1:], "mr", "--bind_cpus", "True")
    call = bench.run(ASCEND, *arguments)
    assert call.code == 0, call.stderr
    records = bench.records()
    assert sorted(records) == [0, 1, 2, 3]
    assert [pick(records[r], "DEVICE_ID", "RANK_SIZE") for r in range(4)] == [
        ("4", "4"),
        ("5", "4"),
        ("6", "4"),
        ("7", "4"),
    ]
    assert pick(records[2], "RANK_TABLE_FILE") == (table,)
    argv = records[2]["argv"]
    assert argv[argv.index("--mindrecord_dir") + 1] == str(bench.work / "mr")
    assert argv[argv.index("--pre_trained") + 1] == str(bench.checkpoint)
    cpus = sorted(os.sched_getaffinity(0))
    shares = [records[r]["cpus"] for r in range(4)]
    assert set().union(*shares) == set(cpus) and all(shares)
    assert len(cpus) < 2 or shares[0] != shares[3]


def test_msrun_without_a_rank_table(bench):
    """The real msrun; its scheduler is a stand-in too."""
    do = "if rank == '1': open(folder + '/scheduler may leave', 'w').close()"
    call = bench.run(
        ASCEND,
        "none",
        *bench.given,
        LOCAL_WORKER_NUM="2",
        WORKER_NUM="4",
        NODE_RANK="0",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT="19133",
        STAND_IN_DO=do,
    )
    assert call.code == 0, call.stderr
    records = bench.records()
    for rank in (0, 1):
        names = ("RANK_ID", "RANK_SIZE", "DEVICE_ID", "MS_WORKER_NUM", "MS_SCHED_PORT", "MS_ROLE")
        assert pick(records[rank], *names) == (str(rank), "4", str(rank), "4", "19133", "MS_WORKER")
    assert "ranks 0 to 1 of 4 by msrun" in call.stdout


@pytest.fixture
def mpirun(bench):
    mpirun = bench.root / "bin" / "mpirun"
    mpirun.write_text(MPIRUN)
    mpirun.chmod(0o755)


def test_mpirun_by_a_flag(bench, mpirun):
    settings = {"USE_MPIRUN": "1", "RANK_ID": "5", "RANK_SIZE": "8"}
    call = bench.run("run_distribute_train_gpu.sh", 3, *bench.given, **settings)
    assert call.code == 0, call.stderr
    records = bench.records()
    assert sorted(records) == [0, 1, 2]
    assert pick(records[1], "OMPI_COMM_WORLD_SIZE", "RANK_ID") == ("3", None)
    assert "GPU" in records[1]["argv"]
    log = (bench.work / "train/log.txt").read_text()
    assert re.search(r"^mpirun .*--bind-to none -n 3 ", log, re.M)  # not all threads on one core


def test_mpirun_is_for_one_server(bench, mpirun):
    settings = {"USE_MPIRUN": "1", "WORKER_NUM": "4", "NODE_RANK": "0"}
    call = bench.run("run_distribute_train_gpu.sh", 2, *bench.given, **settings)
    assert call.code == 2 and "for several use msrun (leave USE_MPIRUN out)" in call.stdout
    assert list(bench.work.iterdir()) == []


def test_paths_are_relative_to_the_callers_folder(bench):
    (bench.work / "my.yaml").write_text("resume: runs/a.ckpt\n")
    (bench.work / "names.txt").write_text("cat\ndog\n")
    table = write(bench.work / "t.json", modern_table(["h"], 1))
    more = ("--config_path", "my.yaml", "--coco_classes=names.txt")
    call = bench.run(ASCEND, os.path.relpath(table, bench.work), *bench.given, *more)
    assert call.code == 0, call.stderr
    argv = bench.records()[0]["argv"]
    assert argv[argv.index("--config_path") + 1] == str(bench.work / "my.yaml")
    assert f"--coco_classes={bench.work / 'names.txt'}" in argv
    assert argv[argv.index("--resume") + 1] == str(bench.work / "runs/a.ckpt")


@pytest.mark.parametrize("word", ["off", "auto"])
def test_a_word_in_place_of_a_path_stays_one(bench, word):
    table = write(bench.work / "t.json", modern_table(["h"], 1))
    assert bench.run(ASCEND, table, *bench.given, "--compile_cache", word).code == 0
    argv = bench.records()[0]["argv"]
    assert argv[len(argv) - argv[::-1].index("--compile_cache")] == word


def test_modules_of_the_callers_folder_are_not_taken_for_ours(bench):
    (bench.work / "src").mkdir()
    (bench.work / "src/__init__.py").write_text("")
    (bench.work / "json.py").write_text("")
    table = write(bench.work / "t.json", modern_table(["h"], 1))
    call = bench.run(ASCEND, table, *bench.given)
    assert call.code == 0 and list(bench.records()) == [0], call.stdout


def test_an_earlier_run_is_never_written_over(bench):
    table = write(bench.work / "t.json", modern_table(["h"], 2))
    for _ in range(2):
        assert bench.run(ASCEND, table, *bench.given).code == 0
    assert sorted(bench.records("train_1")) == [0, 1]
    (bench.work / "train/ckpt_0").mkdir()
    (bench.work / "train/ckpt_0/checkpoints.json").write_text('{"checkpoints": ["a-1_2.ckpt"]}')
    assert bench.run(ASCEND, table, *bench.given, "--resume", "auto").code == 0
    log = bench.work / "train/train_parallel0/log.txt"
    assert log.read_text() == "output of rank 0\n" * 2


SCRIPTS = {"ascend": "{table}", "gpu": "2", "cpu": "2"}


@pytest.mark.parametrize("target", SCRIPTS)
@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ([], "0 arguments given, 4 to 5 expected"),
        (["{first}", "none", "resnet50", "{coco}"], "unknown BACKBONE 'resnet50'"),
        (["{first}", "no.ckpt", BACKBONES[0], "{coco}"], "PRETRAINED_MODEL is not a file"),
        (["{first}", "none", BACKBONES[0], "nowhere"], "COCO_ROOT is not a folder: 'nowhere'"),
        (["x y", "none", BACKBONES[0], "{coco}"], "is not a"),
        (
            ["{first}", "none", BACKBONES[0], "{coco}", "0"],
            "MINDRECORD_DIR is '0', a device number",
        ),
        (["{first}", "none", BACKBONES[0], "{coco}", "--bach_size", "2"], "mean batch_size"),
        (["{first}", "none", BACKBONES[0], "{coco}", "--bind_cpus", "2"], "not a truth value"),
    ],
)
def test_wrong_arguments_start_nothing(bench, target, arguments, complaint):
    table = write(bench.root / "t.json", modern_table(["h"], 2))
    first = SCRIPTS[target].format(table=table)
    given = [a.format(first=first, coco=bench.coco) for a in arguments]
    call = bench.run(f"run_distribute_train_{target}.sh", *given)
    assert call.code == 2 and complaint in call.stdout + call.stderr
    assert "Traceback" not in call.stdout + call.stderr
    assert list(bench.work.iterdir()) == []


@pytest.mark.parametrize(
    "environment, complaint",
    [
        ({"WORKER_NUM": "four"}, "WORKER_NUM: 'four' is not a whole number from 1 on"),
        ({"WORKER_NUM": "1"}, "WORKER_NUM: 1 processes in all cannot have 2"),
        ({"WORKER_NUM": "4"}, "NODE_RANK is not set"),
        ({"WORKER_NUM": "4", "NODE_RANK": "2"}, "cannot have 2 on the server with NODE_RANK 2"),
        ({"WORKER_NUM": "4", "NODE_RANK": "1"}, "MASTER_ADDR is not set; give the address of"),
        ({"WORKER_NUM": "4", "NODE_RANK": "1", "MASTER_ADDR": ""}, "MASTER_ADDR is not set"),
        ({"MASTER_PORT": "80"}, "MASTER_PORT: '80' is not a whole number from 1024 on"),
        ({"MASTER_PORT": "70000"}, "MASTER_PORT: '70000' is not a whole number from 1024 to 65535"),
        ({"MASTER_PORT": "\u0661"}, "is not a whole number from 1024 on"),
        ({"MASTER_ADDR": ";touch x"}, "MASTER_ADDR: ';touch x' is neither a host name nor an IP"),
        ({"MASTER_ADDR": "-x"}, "MASTER_ADDR: '-x' is neither a host name nor an IP"),
        ({"MASTER_ADDR": "999.1.1.1"}, "MASTER_ADDR: '999.1.1.1' is not known ("),
        ({"MASTER_ADDR": "192.0.2.1"}, "'192.0.2.1' is not an address of this machine, where"),
        ({"USE_MPIRUN": "1", "PATH": "/usr/bin:/bin"}, "mpirun: no such program"),
    ],
)
def test_wrong_environment_starts_nothing(bench, environment, complaint):
    settings = {"PYTHON": str(bench.root / "bin" / "python"), **environment}
    call = bench.run("run_distribute_train_gpu.sh", 2, *bench.given, **settings)
    assert call.code == 2 and complaint in call.stdout
    assert list(bench.work.iterdir()) == []


def test_a_wrong_table_starts_nothing(bench):
    table = write(bench.root / "t.json", "{}")
    call = bench.run(ASCEND, table, *bench.given)
    assert call.code == 2 and f"error: {table}: holds neither server_list" in call.stdout
    assert list(bench.work.iterdir()) == []


@pytest.mark.parametrize("target", ["ascend", "cpu"])
def test_started_from_the_root_folder(bench, target):
    table = write(bench.root / "t.json", modern_table(["h"], 2))
    first = SCRIPTS[target].format(table=os.path.relpath(table, "/"))
    do = "if rank == '1': open(folder + '/scheduler may leave', 'w').close()"
    out = bench.work / "train"
    relative = os.path.relpath(bench.coco, "/")
    arguments = (first, "none", BACKBONES[2], relative, "--output_dir", out)
    call = bench.run(f"run_distribute_train_{target}.sh", *arguments, cwd="/", STAND_IN_DO=do)
    assert call.code == 0, call.stdout + call.stderr
    argv = bench.records()[1]["argv"]
    assert argv[argv.index("--coco_root") + 1] == str(bench.coco)
    assert argv[argv.index("--config_path") + 1] == str(bench.repo / "default_config_101.yaml")


@pytest.mark.parametrize("target", SCRIPTS)
def test_help(bench, target):
    call = bench.run(f"run_distribute_train_{target}.sh", "--help", cwd="/")
    assert (call.code, call.stderr) == (0, "")
    assert call.stdout.startswith(f"Usage: bash run_distribute_train_{target}.sh [")


def test_a_command_of_the_project_needs_no_interpreter(tmp_path, monkeypatch):
    script = str(REPO / "train.py")
    assert launch._split_command(["train", "--seed", "3"]) == (
        [sys.executable, script],
        ["--seed", "3"],
    )
    assert launch._split_command(["py", "my.py", "-x"]) == (["py", "my.py"], ["-x"])
    with pytest.raises(UserError, match="nothing to start"):
        launch._split_command([])
    monkeypatch.setattr(launch, "IS_INSTALLED", True)
    start, rest = launch._split_command(["eval"])
    assert start[1:] == ["-m", "src", "eval"] and rest == []


def test_configurations_of_the_project_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["--config_path", "configs/quickstart.yaml"]
    expected = ["--config_path", str(REPO / "configs" / "quickstart.yaml")]
    assert launch.with_absolute_paths(given, load_config(given))[:2] == expected
    (tmp_path / "default_config_101.yaml").write_text("seed: 9\n")
    assert load_config(["--config_path", "default_config_101.yaml"]).seed == 9
