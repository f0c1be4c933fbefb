# SPDX-License-Identifier: Apache-2.0
"""kill -9 of train.py at random moments: what is lost, and how the run ends after all.

A few kills by default; `FASTERRCNN_KILLS=100 pytest tests/training/test_kills.py` makes so many.
"""

import os
import random
import re
import subprocess
import sys
import time

import pytest

from tests.helpers.tiny_run import NUM_TRAIN, arguments, make_data

KILLS = int(os.environ.get("FASTERRCNN_KILLS", "2"))
SEED = int(os.environ.get("FASTERRCNN_KILLS_SEED", "0"))
SAVE_STEPS = 3  # of the 5 of an epoch: within epochs, and not in each at the same place
MOST_SECONDS = 1.0  # from the first step to the kill


def _steps_logged(log):
    found = re.findall(r"^epoch: (\d+) step: (\d+), .*total_loss: \S+$", log.read_text(), re.M)
    return [(int(epoch) - 1) * NUM_TRAIN // 2 + int(step) for epoch, step in found]


def _start(root, output, epochs, shown):
    command = [
        sys.executable,
        "-m",
        "tests.helpers.tiny_run",
        *arguments(
            root,
            output,
            epoch_size=epochs,
            log_interval=1,
            resume="auto",
            eval_interval=7,
            save_checkpoint_steps=SAVE_STEPS,
            save_checkpoint_epochs=4,
            keep_checkpoint_max=2,
            num_parallel_workers=1,
        ),
    ]
    with open(shown, "w") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)


def _kill_at_random(process, log, shown, choose):
    """Kill a run some time after it has begun to train; False when it had ended by itself."""
    before = log.stat().st_size if log.exists() else 0
    while process.poll() is None and "training on" not in shown.read_text():
        time.sleep(0.01)
    before = log.stat().st_size if log.exists() else 0
    while process.poll() is None and log.stat().st_size <= before:
        time.sleep(0.002)
    deadline = time.monotonic() + choose.uniform(0.0, MOST_SECONDS)
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    if process.poll() is not None:
        return False
    process.kill()
    process.wait()
    return True


def _outcome(output):
    """What two runs that did the same have in common: their last weights and their log."""
    from src.checkpoints.file import read_checkpoint

    newest = sorted((output / "ckpt_0").glob("faster_rcnn-*.ckpt"), key=lambda p: p.stat().st_mtime)
    arrays = read_checkpoint(newest[-1]).arrays
    weights = {name: array.tobytes() for name, array in arrays.items()}
    return newest[-1].name, weights, (output / "loss_0.log").read_text()


@pytest.mark.slow
def test_killed_runs_lose_one_interval_at_most_and_end_alike(tmp_path):
    root, output = make_data(tmp_path / "data"), tmp_path / "out"
    choose, kills, epochs = random.Random(SEED), 0, 1
    log, shown = output / "loss_0.log", tmp_path / "shown.txt"
    while kills < KILLS:
        done = _steps_logged(log) if log.exists() else [0]
        epochs = done[-1] // 5 + 400  # more than it can train until it is killed
        process = _start(root, output, epochs, shown)
        assert _kill_at_random(process, log, shown, choose), shown.read_text()
        kills += 1
        text = shown.read_text()
        assert "Traceback" not in text, text
        begun = re.search(r"resumed .* after epoch (\d+) step (\d+)", text)
        at = (int(begun[1]) - 1) * 5 + int(begun[2]) if begun else 0
        assert done[-1] - at <= SAVE_STEPS, text
        logged = _steps_logged(log)
        assert logged == list(range(1, len(logged) + 1)), "steps are missing or doubled"
    epochs = _steps_logged(log)[-1] // 5 + 2
    for folder in (output, tmp_path / "never killed"):
        process = _start(root, folder, epochs, shown)
        assert process.wait(timeout=600) == 0, shown.read_text()
    assert _outcome(output) == _outcome(tmp_path / "never killed")
    hidden = [path.name for path in output.rglob(".*") if ".lock" not in path.name]
    assert not hidden
