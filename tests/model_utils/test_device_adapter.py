# SPDX-License-Identifier: Apache-2.0
"""Devices, launchers' environments, and two processes that really join."""

import ast
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from src.base.errors import UserError
from src.base.onednn import without_limit
from src.model_utils import device_adapter, local_adapter
from src.model_utils.config import load_config
from tests.helpers.paths import importing

LOG_LEVEL = "GLOG_v"  # MindSpore's spelling
ALL_VARIABLES = (
    *local_adapter.RANK_VARIABLES,
    *local_adapter.SIZE_VARIABLES,
    *local_adapter.DEVICE_VARIABLES,
    "MS_ROLE",
)


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in ALL_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def _python(code, repo_root, **environment):
    env = {key: value for key, value in importing().items() if key not in ALL_VARIABLES}
    env.update(environment)
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=repo_root,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_without_a_launcher_there_is_one_process():
    assert local_adapter.get_rank() == 0
    assert local_adapter.get_world_size() == 1
    assert local_adapter.get_device_id() is None


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK_ID": "3", "RANK_SIZE": "8", "DEVICE_ID": "2"},
        {"MS_NODE_ID": "3", "MS_WORKER_NUM": "8", "DEVICE_ID": "2"},
        {
            "OMPI_COMM_WORLD_RANK": "3",
            "OMPI_COMM_WORLD_SIZE": "8",
            "OMPI_COMM_WORLD_LOCAL_RANK": "2",
        },
    ],
)
def test_every_launcher_is_understood(variables, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert local_adapter.get_rank() == 3
    assert local_adapter.get_world_size() == 8
    assert local_adapter.get_device_id() == 2


@pytest.mark.parametrize(
    ("name", "value"), [("RANK_ID", "one"), ("RANK_SIZE", "0"), ("RANK_SIZE", "-2")]
)
def test_a_broken_environment_is_an_error_with_its_name(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"environment: {name}: '{value}'"):
        local_adapter.get_rank()


def test_a_rank_beyond_the_processes_is_an_error(monkeypatch):
    monkeypatch.setenv("RANK_ID", "2")
    monkeypatch.setenv("RANK_SIZE", "2")
    with pytest.raises(UserError, match="rank 2 of 2"):
        local_adapter.get_rank()


@pytest.mark.parametrize("target", ["Ascend", "GPU"])
def test_only_a_cpu_gets_the_slower_instruction_set(target, monkeypatch):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    device_adapter.prepare_environment(target)
    assert "ONEDNN_MAX_CPU_ISA" not in os.environ


def test_the_cpu_environment_is_set_before_mindspore(monkeypatch):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv(LOG_LEVEL, raising=False)
    monkeypatch.delitem(sys.modules, "mindspore", raising=False)
    device_adapter.prepare_environment("CPU")
    assert os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert os.environ[LOG_LEVEL] == "3"


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    monkeypatch.setenv(LOG_LEVEL, "1")
    device_adapter.prepare_environment("CPU")
    assert os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX512_CORE"
    assert os.environ[LOG_LEVEL] == "1"


def test_it_may_be_set_after_mindspore_was_imported(monkeypatch):
    """oneDNN reads it at the first convolution."""
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setitem(sys.modules, "mindspore", sys)
    device_adapter.prepare_environment("CPU")
    assert os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX2"


@pytest.mark.parametrize(
    ("target", "compute_type", "dtype"),
    [
        ("CPU", "auto", "float32"),
        ("GPU", "auto", "float16"),
        ("Ascend", "auto", "float16"),
        ("Ascend", "fp32", "float32"),
        ("CPU", "fp16", "float16"),
        ("Ascend", "bf16", "bfloat16"),
        ("CPU", "bf16", "float32"),
    ],
)
def test_compute_dtype(target, compute_type, dtype):
    config = load_config(["--device_target", target, "--compute_type", compute_type])
    assert device_adapter.compute_dtype(config) == dtype


def test_a_device_without_bfloat16_says_so_in_one_line():
    """What is asked here is MindSpore's CPU, which has no such convolution of its own."""
    config = load_config(["--device_target", "GPU", "--compute_type", "bf16"])
    with pytest.raises(UserError, match="no convolution in bfloat16 on this GPU; give .*fp32") as e:
        device_adapter._require_number_format(config)
    assert len(str(e.value).splitlines()) == 1
    device_adapter._require_number_format(config.replace(device_target="CPU"))


def test_a_device_that_nobody_has_looked_for_is_a_defect_of_the_program():
    config = load_config([])
    with pytest.raises(ValueError, match="auto"):
        device_adapter.compute_dtype(config)
    with pytest.raises(ValueError, match="auto"):
        device_adapter.prepare_environment(config.device_target)


@pytest.mark.parametrize(
    ("counts", "target", "reason"),
    [
        ({"Ascend": 8, "GPU": 1}, "Ascend", "finds 8"),
        ({"GPU": 2}, "GPU", "finds 2"),
        ({}, "CPU", "finds no Ascend and no GPU"),
    ],
)
def test_auto_takes_ascend_before_gpu_before_cpu(counts, target, reason, monkeypatch, capsys):
    device_adapter.say_once.cache_clear()
    monkeypatch.delenv("RANK_TABLE_FILE", raising=False)
    monkeypatch.setattr(device_adapter, "_device_count", lambda kind: counts.get(kind, 0))
    monkeypatch.setattr(device_adapter.glob, "glob", lambda pattern: [])
    for _ in range(2):
        config = device_adapter.choose_device(load_config([]))
    assert config.device_target == target and not config.is_given("device_target")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"device_target auto: {target} (") and reason in line


def test_auto_says_when_mindspore_cannot_use_a_device(monkeypatch):
    monkeypatch.delenv("RANK_TABLE_FILE", raising=False)
    monkeypatch.setattr(device_adapter, "_device_count", lambda kind: 0)
    monkeypatch.setattr(
        device_adapter.glob, "glob", lambda pattern: [pattern] * ("nvidia" in pattern)
    )
    target, reason = device_adapter.find_device()
    assert target == "CPU" and "this machine has GPU devices" in reason
    assert "--device_target GPU says why" in reason


def test_auto_with_a_rank_table_is_ascend_without_a_question(monkeypatch, tmp_path):
    monkeypatch.setenv("RANK_TABLE_FILE", str(tmp_path / "hccl.json"))
    monkeypatch.setattr(device_adapter, "_device_count", lambda kind: pytest.fail("asked"))
    assert device_adapter.choose_device(load_config([])).device_target == "Ascend"


def test_looking_for_a_device_sets_none_and_a_given_one_needs_no_mindspore(repo_root):
    code = (
        "import sys\nfrom src.model_utils.config import load_config\n"
        "from src.model_utils.device_adapter import choose_device, find_device, init_device\n"
        "choose_device(load_config(['--device_target', 'CPU']))\n"
        "assert 'mindspore' not in sys.modules\n"
        "target, reason = find_device()\n"
        "import mindspore as ms\n"
        "config = choose_device(load_config([]))\n"
        "assert config.device_target == target, target\n"
        "from mindspore._c_expression import DeviceManagerConf\n"
        "assert not DeviceManagerConf.get_instance().is_device_enable()\n"
        "print(init_device(config).device_target == target)\n"
    )
    done = _python(code, repo_root)
    assert done.stdout == "True\n", done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("device_target auto: ")


def test_operator_kinds():
    kinds = {
        target: (device_adapter.nms_kind(target), device_adapter.roi_align_kind(target))
        for target in ("CPU", "GPU", "Ascend")
    }
    assert kinds == {
        "CPU": ("kernel", "gather"),
        "GPU": ("kernel", "operator"),
        "Ascend": ("matrix", "operator"),
    }
    with pytest.raises(ValueError, match="cpu"):
        device_adapter.nms_kind("cpu")


def test_a_missing_device_is_one_line_and_exit_code_2(repo_root):
    from mindspore._c_expression import MSContext

    missing = [
        target
        for target in ("Ascend", "GPU")
        if not MSContext.get_instance().is_pkg_support_device(target)
    ]
    if not missing:
        pytest.skip("this machine has both accelerators")
    done = _python(
        "from src.base.errors import run_entry\n"
        "from src.model_utils.config import load_config\n"
        "from src.model_utils.device_adapter import init_device, prepare_environment\n"
        f"config = load_config(['--device_target', '{missing[0]}'])\n"
        "prepare_environment(config.device_target)\n"
        "run_entry(lambda argv: init_device(config) and 0)\n",
        repo_root,
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert f"command line: device_target: '{missing[0]}' is not available" in done.stderr
    assert ("CUDA_HOME" in done.stderr) == (missing[0] == "GPU")
    assert "--device_target CPU" in done.stderr


def test_run_distribute_without_a_launcher_is_an_error():
    config = load_config(["--device_target", "CPU", "--run_distribute", "True"])
    with pytest.raises(UserError, match="command line: run_distribute: True, but no launcher"):
        device_adapter.init_device(config)


WORKER = """
import sys, time
from src.model_utils.config import load_config
from src.model_utils.device_adapter import init_device, prepare_environment
config = load_config(["--device_target", "CPU", "--seed", "5"])
prepare_environment("CPU")
info = init_device(config)
import mindspore as ms
import numpy as np
first = ms.common.initializer.initializer("normal", (3,), ms.float32).init_data().asnumpy()
if info.rank == 0:
    time.sleep(1.0)
    open({folder!r} + "/ready", "w").close()
from src.processes.ranks import Ranks
Ranks(info.rank, info.world_size).barrier()
import os
open({folder!r} + f"/rank_{{info.rank}}.txt", "w").write(repr((
    tuple(info), os.path.exists({folder!r} + "/ready"), first.tolist(),
    ms.get_context("mode") == ms.GRAPH_MODE,
    ms.get_auto_parallel_context("gradients_mean"),
    str(ms.get_auto_parallel_context("parallel_mode")))))
"""


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_processes_join_share_the_seed_and_wait(tmp_path):
    msrun = Path(sys.executable).with_name("msrun")
    if not msrun.exists():
        pytest.skip("msrun is not beside this Python")
    script = tmp_path / "worker.py"
    script.write_text(WORKER.format(folder=str(tmp_path)))
    env = {key: value for key, value in importing().items() if key not in ALL_VARIABLES}
    env["PATH"] = f"{msrun.parent}{os.pathsep}{env['PATH']}"
    done = subprocess.run(
        [
            str(msrun),
            "--worker_num=2",
            "--local_worker_num=2",
            f"--master_port={_free_port()}",
            f"--log_dir={tmp_path / 'log'}",
            "--join=True",
            str(script),
        ],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
    )
    logs = "".join(path.read_text() for path in (tmp_path / "log").glob("worker*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    results = [ast.literal_eval((tmp_path / f"rank_{rank}.txt").read_text()) for rank in (0, 1)]
    for rank, (info, ready, first, graph_mode, mean, mode) in enumerate(results):
        assert info == (rank, 2, "CPU", 0)
        assert ready, "rank 1 went past the barrier before rank 0 had reached it"
        assert graph_mode and mean and mode == "data_parallel"
        assert first == results[0][2]


def test_mindspores_limit_is_hidden_from_other_libraries_and_the_users_is_not(monkeypatch):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    device_adapter.prepare_environment("CPU")
    with pytest.raises(OSError, match="inside"), without_limit():
        assert "ONEDNN_MAX_CPU_ISA" not in os.environ
        raise OSError("inside")
    assert os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    with without_limit():
        assert os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX512_CORE"
