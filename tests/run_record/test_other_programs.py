# SPDX-License-Identifier: Apache-2.0
"""A run that other programs follow: the hooks that docs/runs.md shows, MindSpore's summary and
profile."""

import json
import os
import re
import subprocess
import sys
import types

import pytest

from src.run_record.reading import read_record
from tests.helpers.paths import REPO, importing
from tests.helpers.tiny_run import arguments, make_data

# Stand-ins for the two programs: each call becomes a line of a file.
STAND_IN = """
import json

def _note(name, *given, **named):
    with open("calls.jsonl", "a") as file:
        file.write(json.dumps([__name__, name, given, named], default=str) + chr(10))

def __getattr__(name):
    return lambda *given, **named: _note(name, *given, **named)
"""


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A run of two epochs of five steps: its folders, and what it said."""
    folder = tmp_path_factory.mktemp("followed")
    text = (REPO / "docs/runs.md").read_text(encoding="utf-8")
    hooks = [code for code in re.findall(r"```python\n(.*?)```", text, re.S) if "Hook:" in code]
    assert len(hooks) == 2
    (folder / "shown_hooks.py").write_text("\n".join(hooks))
    for name in ("wandb", "mlflow"):
        (folder / f"{name}.py").write_text(STAND_IN)
    given = arguments(
        make_data(folder / "data"),
        folder / "train",
        epoch_size=2,
        eval_interval=1,
        log_summary=True,
        enable_profiling=True,
        profiling_steps=2,
    )
    done = subprocess.run(
        [sys.executable, str(REPO / "tests/tiny_run.py"), *given]
        + ["--callbacks", "shown_hooks.WandbHook", "shown_hooks.MlflowHook"],
        cwd=folder,
        env=importing(PYTHONPATH=os.pathsep.join([str(REPO), str(folder)])),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = done.stdout + done.stderr
    return types.SimpleNamespace(folder=folder, run=folder / "train", said=said)


def _calls(followed, module):
    lines = (followed.folder / "calls.jsonl").read_text().splitlines()
    return [call[1:] for call in map(json.loads, lines) if call[0] == module]


def test_weights_and_biases(followed):
    calls = _calls(followed, "wandb")
    name, _, given = calls[0]
    assert (name, given["id"], given["resume"]) == ("init", "train", "allow")
    assert given["config"]["batch_size"] == 2
    record = read_record(followed.run)
    logged = [(given[0], named["step"]) for name, given, named in calls if name == "log"]
    training = [(numbers, step) for numbers, step in logged if "train/total_loss" in numbers]
    assert [(n["train/total_loss"], step) for n, step in training] == [
        (row["total_loss"], row["step"]) for row in record.training
    ]
    evaluations = [(numbers, step) for numbers, step in logged if "eval/ap" in numbers]
    assert [(n["eval/ap"], step) for n, step in evaluations] == [
        (row["ap"], row["step"]) for row in record.evaluations
    ]
    assert {name for name in evaluations[0][0] if name.startswith("eval/ap/")} == {
        f"eval/ap/{name}"
        for name, ap in record.evaluations[0]["per_class"].items()
        if ap is not None
    }
    assert calls[-1] == ["finish", [0], {}]


def test_mlflow(followed):
    calls = _calls(followed, "mlflow")
    assert [name for name, *_ in calls[:3]] == ["set_experiment", "start_run", "log_params"]
    assert calls[2][1][0]["epoch_size"] == "2"
    record = read_record(followed.run)
    losses = [given[0].get("train_total_loss") for name, given, _ in calls if name == "log_metrics"]
    assert [loss for loss in losses if loss] == [row["total_loss"] for row in record.training]
    assert ["log_artifact", [str(followed.run / "ckpt_0/best.ckpt")], {}] in calls
    assert calls[-1] == ["end_run", ["FINISHED"], {}]


def test_mindspores_summary_has_the_numbers(followed):
    (written,) = (followed.run / "summary").glob("*MS")
    from mindspore.train.summary_pb2 import Event

    content, scalars, place = written.read_bytes(), {}, 0
    while place < len(content):  # records as TensorFlow has them: length, checksum, data, checksum
        length = int.from_bytes(content[place : place + 8], "little")
        event = Event.FromString(content[place + 12 : place + 12 + length])
        place += 16 + length
        for value in event.summary.value:
            scalars.setdefault(value.tag, []).append(value.scalar_value)
    record = read_record(followed.run)
    expected = [row["total_loss"] for row in record.training]
    assert scalars["total_loss"] == pytest.approx(expected, rel=1e-5)
    assert scalars["ap"] == pytest.approx([row["ap"] for row in record.evaluations], rel=1e-5)
    assert any(tag.endswith("/auto") for tag in scalars)  # histograms


def test_some_steps_are_profiled(followed):
    assert f"profile of 2 steps: {followed.run / 'profile'}" in followed.said
    assert [path for path in (followed.run / "profile").rglob("*") if path.is_file()]
