# SPDX-License-Identifier: Apache-2.0
"""What an export refuses before anything is built, and what it decides to write."""

import importlib.util
import subprocess
import sys

import pytest

from src.base.errors import UserError
from src.export.plan import plan_export
from src.model_utils.config import load_config


def _config(tmp_path, **changes):
    values = {"device_target": "CPU", "ckpt_file": "a.ckpt", "file_name": str(tmp_path / "model")}
    return load_config([]).replace(**{**values, **changes})


@pytest.mark.parametrize(
    "changes, ending, target",
    [
        ({}, ".mindir", "CPU"),
        ({"export_target": "Ascend"}, ".mindir", "Ascend"),
        ({"file_format": "ONNX", "check": False}, ".onnx", "CPU"),
        ({"file_format": "ONNX", "check": False, "device_target": "Ascend"}, ".onnx", "CPU"),
        ({"file_format": "AIR", "device_target": "Ascend", "check": False}, ".air", "Ascend"),
    ],
)
def test_file_and_target(tmp_path, changes, ending, target):
    if "file_format" in changes and changes["file_format"] == "ONNX":
        pytest.importorskip("onnx")
    plan = plan_export(_config(tmp_path, **changes))
    assert (plan.path.name, plan.target) == (f"model{ending}", target)
    assert (plan.checkpoint, plan.checkpoint_key) == ("a.ckpt", "ckpt_file")


def test_names_with_dots_and_with_the_ending(tmp_path):
    for name, wanted in (
        ("v1.5", "v1.5.mindir"),
        ("m.mindir", "m.mindir"),
        ("M.MINDIR", "M.mindir"),
    ):
        plan = plan_export(_config(tmp_path, file_name=str(tmp_path / name)))
        assert plan.path.name == wanted


def test_checkpoint_path_serves_when_ckpt_file_is_empty(tmp_path):
    plan = plan_export(_config(tmp_path, ckpt_file="", checkpoint_path="b.ckpt"))
    assert (plan.checkpoint, plan.checkpoint_key) == ("b.ckpt", "checkpoint_path")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"file_format": "AIR"}, "MindSpore writes AIR on Ascend hardware only"),
        ({"file_format": "AIR", "device_target": "GPU"}, "AIR on Ascend hardware only"),
        ({"ckpt_file": ""}, "ckpt_file is empty"),
        ({"compute_type": "bf16"}, "'bf16' is for training and evaluation; export in fp16 or fp32"),
        ({"file_name": "/nowhere/at/all/m"}, "there is no folder /nowhere/at/all"),
        (
            {"file_format": "ONNX", "export_target": "Ascend", "check": False},
            "same for all devices",
        ),
    ],
)
def test_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        plan_export(_config(tmp_path, **changes))


def test_a_folder_in_the_files_place(tmp_path):
    (tmp_path / "model.mindir").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        plan_export(_config(tmp_path))


def test_onnx_without_onnxruntime(tmp_path, monkeypatch):
    there = importlib.util.find_spec
    for package in ("onnx", "onnxruntime"):
        with monkeypatch.context() as patched:
            installed = {"onnx": there("json"), "onnxruntime": there("json"), package: None}
            patched.setattr(importlib.util, "find_spec", installed.get)
            with pytest.raises(UserError, match=f"{package}\\b.*pip install"):
                plan_export(_config(tmp_path, file_format="ONNX"))


def test_air_is_refused_without_starting_mindspore(repo_root, tmp_path):
    (tmp_path / "mindspore.py").write_text("raise SystemExit('mindspore was imported')")
    command = [
        sys.executable,
        repo_root / "export.py",
        "--device_target",
        "CPU",
        "--file_format",
        "AIR",
        "--ckpt_file",
        "x.ckpt",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path)}, timeout=60
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: file_format AIR") and done.stderr.count("\n") == 1
