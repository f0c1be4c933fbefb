# SPDX-License-Identifier: Apache-2.0
"""The whole way through the launchers: conversion, training, evaluation, prediction, pictures."""

import json
import os
import re
import subprocess
import sys

import pytest

from src.synthetic import SyntheticParameters, generate

pytestmark = pytest.mark.slow

SETTINGS = """\
extends: {repo}/configs/quickstart.yaml
img_width: 96
img_height: 64
epoch_size: 2
batch_size: 2
test_batch_size: 2
warmup_step: 2
log_interval: 2
rpn_proposal_nms_pre: 60
rpn_proposal_nms_post: 40
rpn_proposal_max_num: 40
rpn_nms_pre: 40
rpn_nms_post: 20
rpn_max_num: 20
num_parallel_workers: 2
"""
LOSS_LINE = re.compile(
    r"epoch: \d+ step: \d+, rpn_loss: \d+\.\d{5}, rcnn_loss: \d+\.\d{5}, "
    r"rpn_cls_loss: \d+\.\d{5}, rpn_reg_loss: \d+\.\d{5}, rcnn_cls_loss: \d+\.\d{5}, "
    r"rcnn_reg_loss: \d+\.\d{5}, total_loss: \d+\.\d{5}"
)


def test_train_evaluate_predict_draw(tmp_path, repo_root):
    data, work = tmp_path / "coco root", tmp_path / "work"
    parameters = {"train": 8, "val": 3, "width": 96, "height": 64, "min_size": 20, "max_size": 50}
    generate(data, SyntheticParameters(**parameters))
    work.mkdir()
    (work / "my.yaml").write_text(SETTINGS.format(repo=repo_root))
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(repo_root)}

    def run(*command):
        done = subprocess.run(
            [str(part) for part in command],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    scripts = repo_root / "scripts"
    shared = ("resnet_v1.5_50", data, "mr", "--config_path", "my.yaml")
    run("bash", scripts / "run_standalone_train_cpu.sh", "none", *shared)
    lines = (work / "train/loss_0.log").read_text().splitlines()
    assert len(lines) == 4 and all(LOSS_LINE.fullmatch(line) for line in lines), lines
    assert (work / "train/config.yaml").is_file() and (work / "train/log.txt").is_file()
    checkpoint = work / "train/ckpt_0/faster_rcnn-2_4.ckpt"
    assert checkpoint.is_file()

    annotations = data / "annotations/instances_val2017.json"
    printed = run("bash", scripts / "run_eval_cpu.sh", annotations, checkpoint, *shared)
    assert len(re.findall(r"^ ?Average (Precision|Recall)", printed, re.MULTILINE)) == 12
    results = work / "eval/results.json"
    assert isinstance(json.loads(results.read_text()), list)

    image = data / "val2017/000000.jpg"
    run(sys.executable, repo_root / "predict.py", "--input", image, "--output_dir", "found",
        "--checkpoint_path", checkpoint, "--min_score", "0.01")  # fmt: skip
    (entry,) = json.loads((work / "found/predictions.json").read_text())
    assert (entry["width"], entry["height"]) == (96, 64)
    assert (work / "found/000000.png").is_file()

    files = ("--log", "train/loss_0.log", "--results", results, "--anno", annotations)
    folders = ("--image_dir", data / "val2017", "--output_dir", "drawn")
    run(sys.executable, "-m", "src.visualize", *files, *folders)
    assert {p.name for p in (work / "drawn").iterdir()} == {"loss_curve.png", "detections.png"}
