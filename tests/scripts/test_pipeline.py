# SPDX-License-Identifier: Apache-2.0
"""The real network through the launchers: conversion, training, evaluation, pictures, resuming."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from src.checkpoints.file import read_checkpoint
from src.data.synthetic import SyntheticParameters, generate

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
run_report: False
compile_cache: graphs
"""
LOSS_LINE = re.compile(
    r"epoch: \d+ step: \d+, rpn_loss: \d+\.\d{5}, rcnn_loss: \d+\.\d{5}, "
    r"rpn_cls_loss: \d+\.\d{5}, rpn_reg_loss: \d+\.\d{5}, rcnn_cls_loss: \d+\.\d{5}, "
    r"rcnn_reg_loss: \d+\.\d{5}, total_loss: \d+\.\d{5}"
)


LAST = "faster_rcnn-2_4.ckpt"


class Place:
    """A folder with data and a configuration, where the launchers are run."""

    def __init__(self, root, repo):
        self.repo, self.data, self.work = repo, root / "coco root", root / "work"
        sizes = {"train": 8, "val": 3, "width": 96, "height": 64, "min_size": 20, "max_size": 50}
        generate(self.data, SyntheticParameters(**sizes))
        self.work.mkdir()
        (self.work / "my.yaml").write_text(SETTINGS.format(repo=repo))
        self.annotations = self.data / "annotations/instances_val2017.json"
        self.shared = ("resnet_v1.5_18", self.data, "mr", "--config_path", "my.yaml")

    def start(self, *command):
        environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(self.repo)}
        environment.pop("MS_COMPILER_CACHE_ENABLE", None)  # these runs share their graphs
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=self.work,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command):
        process = self.start(*command)
        printed = process.communicate(timeout=400)[0]
        assert process.returncode == 0, printed[-3000:]
        return printed

    def launch(self, name, *arguments):
        return self.run("bash", self.repo / "scripts" / f"run_{name}_cpu.sh", *arguments)


@pytest.fixture(scope="module")
def place(tmp_path_factory, repo_root):
    place = Place(tmp_path_factory.mktemp("pipeline"), repo_root)
    place.launch("standalone_train", "none", *place.shared)
    return place


def test_training_leaves_what_the_readme_says(place):
    lines = (place.work / "train/loss_0.log").read_text().splitlines()
    assert len(lines) == 4 and all(LOSS_LINE.fullmatch(line) for line in lines), lines
    assert (place.work / "train/config.yaml").is_file()
    assert (place.work / "train/log.txt").is_file()
    assert (place.work / "train/ckpt_0" / LAST).is_file()


def test_evaluate_predict_draw(place):
    work, checkpoint = place.work, place.work / "train/ckpt_0" / LAST
    printed = place.launch("eval", place.annotations, checkpoint, *place.shared)
    assert len(re.findall(r"^ ?Average (Precision|Recall)", printed, re.MULTILINE)) == 12
    results = work / "eval/results.json"
    assert isinstance(json.loads(results.read_text()), list)

    image = place.data / "val2017/000000.jpg"
    place.run(
        sys.executable,
        place.repo / "predict.py",
        "--input",
        image,
        "--output_dir",
        "found",
        "--checkpoint_path",
        checkpoint,
        "--min_score",
        "0.01",
        "--device_target",
        "CPU",
    )
    (entry,) = json.loads((work / "found/predictions.json").read_text())
    assert (entry["width"], entry["height"]) == (96, 64)
    assert (work / "found/000000.png").is_file()

    files = ("--log", "train/loss_0.log", "--results", results, "--anno", place.annotations)
    folders = ("--image_dir", place.data / "val2017", "--output_dir", "drawn")
    place.run(sys.executable, "-m", "src.visualize", *files, *folders)
    assert {p.name for p in (work / "drawn").iterdir()} == {"loss_curve.png", "detections.png"}


def test_stopped_and_resumed_gives_the_same_weights_bit_for_bit(place):
    script = place.repo / "scripts/run_standalone_train_cpu.sh"
    folder = place.work / "stopped"
    command = ("bash", script, "none", *place.shared, "--output_dir", "stopped")
    process = place.start(*command)
    deadline = time.monotonic() + 300
    while not (folder / "loss_0.log").is_file() or not (folder / "loss_0.log").read_text():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    printed = process.communicate(timeout=120)[0]
    assert process.returncode == 143, printed[-3000:]
    assert not (folder / "ckpt_0" / LAST).exists()

    place.run(*command, "--resume", "auto")
    whole, resumed = (place.work / name for name in ("train", "stopped"))
    assert (whole / "loss_0.log").read_text() == (resumed / "loss_0.log").read_text()
    one, other = (read_checkpoint(f / "ckpt_0" / LAST).arrays for f in (whole, resumed))
    assert one.keys() == other.keys() and len(one) > 150
    different = [name for name in one if not np.array_equal(one[name], other[name])]
    assert not different, different[:5]
