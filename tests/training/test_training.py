# SPDX-License-Identifier: Apache-2.0
"""Whole training runs of a tiny detector: outputs, determinism, stopping, resuming, diverging."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from src.base.errors import UserError
from src.checkpoints.file import read_checkpoint, save_checkpoint
from src.checkpoints.settings import adopt_settings
from src.model_utils.config import load_config
from src.network_define import LossScaler
from src.processes.ranks import Ranks
from src.run_record.reading import read_record
from src.training.checkpoint_keeper import CheckpointKeeper
from src.training.divergence import (
    MAX_SKIPPED_STEPS,
    DivergenceGuard,
    FinishedStep,
    TrainingDiverged,
)
from src.training.loop import EXIT_DIVERGED, train
from src.training.resume import open_start
from src.training.saving import CheckpointSaver
from src.training.stop_signals import StopSignals
from tests.helpers import tiny_run
from tests.helpers.checkpoint_files import arrays_of, same_arrays
from tests.helpers.tiny_run import CLASS_NAMES, arguments, make_data, tiny_config
from tests.helpers.tiny_training import assemble_tiny, train_tiny

STEPS = 5


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("training data"))


@pytest.fixture(scope="module")
def whole_run(root, tmp_path_factory):
    """An uninterrupted run with evaluation after every epoch."""
    output = tmp_path_factory.mktemp("whole run")
    assert train_tiny(tiny_config(root, output, eval_interval=1)) == 0
    return output


def _arrays(output, name="faster_rcnn-3_5.ckpt"):
    return arrays_of(output, name)


def _log(output):
    return Path(output, "loss_0.log").read_text()


def _rows(output):
    """The rows of a run's record, without what a clock or the system says."""
    record = read_record(output)
    assert not record.strange
    timed = ("time", "seconds", "images_per_second", "memory_mb")
    rows = [*record.training, *record.evaluations]
    return [{key: row[key] for key in row if key not in timed} for row in rows]


def _signal_at(epoch, step_in_epoch, number=signal.SIGTERM):
    """Send ourselves a signal in the middle of a step."""

    def before_check(step):
        if (step.epoch, step.step_in_epoch) == (epoch, step_in_epoch):
            os.kill(os.getpid(), number)

    return before_check


def _die(step):
    """End the run in its ninth step as a kill would."""
    if (step.epoch, step.step_in_epoch) == (2, 4):
        raise MemoryError("killed")


def test_what_a_run_leaves(whole_run):
    names = sorted(path.name for path in (whole_run / "ckpt_0").iterdir())
    assert names == [
        "best.ckpt",
        "checkpoints.json",
        "faster_rcnn-1_5.ckpt",
        "faster_rcnn-2_5.ckpt",
        "faster_rcnn-3_5.ckpt",
    ]
    assert sorted(path.name for path in whole_run.iterdir()) == [
        ".train_0.lock",
        "ckpt_0",
        "config.yaml",
        "environment.json",
        "evaluations.csv",
        "log.txt",
        "loss_0.log",
        "metrics.csv",
        "metrics.jsonl",
    ]
    places = re.findall(r"epoch: (\d) step: (\d), .*total_loss: ([\d.]+)", _log(whole_run))
    assert [(int(e), int(s)) for e, s, _ in places] == [
        (epoch, step) for epoch in (1, 2, 3) for step in (2, 4, 5)
    ]
    assert float(places[-1][2]) < float(places[0][2])
    meta = read_checkpoint(whole_run / "ckpt_0" / "faster_rcnn-2_5.ckpt").meta
    assert (meta["epoch"], meta["step_in_epoch"], meta["global_step"]) == (2, 5, 10)
    assert meta["class_names"] == list(CLASS_NAMES) and meta["box_convention"] == "legacy"
    best = read_checkpoint(whole_run / "ckpt_0" / "best.ckpt")
    assert best.meta["best"]["epoch"] == best.meta["epoch"]
    assert not any(name.startswith("moments.") for name in best.arrays)


def test_one_seed_one_run(root, whole_run, tmp_path, capsys):
    # Without evaluation and with other worker counts: neither touches the training.
    assert train_tiny(tiny_config(root, tmp_path / "a", num_parallel_workers=1)) == 0
    assert _log(tmp_path / "a") == _log(whole_run)
    assert same_arrays(_arrays(tmp_path / "a"), _arrays(whole_run))
    out = capsys.readouterr().out
    assert "learning rate 0.05: base_lr 0.4 for 16 images a step, scaled to 2" in out
    assert re.search(r"epoch 3/3 step 4/5  lr 0\.050000 .* ms/step .* images/s  left 0:00:0", out)
    assert str(tmp_path / "a") in out
    assert train_tiny(tiny_config(root, tmp_path / "b", seed=6)) == 0
    assert _log(tmp_path / "b") != _log(whole_run)


@pytest.mark.parametrize(
    "number, codes, epoch, step",
    [
        (signal.SIGTERM, {143}, 2, 3),
        (signal.SIGINT, {130, 143}, 1, 5),  # MindSpore makes a SIGTERM of it during a graph run
        (signal.SIGTERM, {143}, 3, 5),
        (signal.SIGHUP, {129}, 2, 1),
    ],
)
def test_stopped_and_resumed_is_the_same_run(root, whole_run, tmp_path, number, codes, epoch, step):
    config = tiny_config(root, tmp_path, eval_interval=1)
    assert train_tiny(config, before_check=_signal_at(epoch, step, number)) in codes
    assert (tmp_path / "ckpt_0" / f"faster_rcnn-{epoch}_{step}.ckpt").is_file()
    assert _log(tmp_path) != _log(whole_run) or (epoch, step) == (3, 5)
    assert train_tiny(config.replace(resume="auto")) == 0
    assert _log(tmp_path) == _log(whole_run)
    assert _rows(tmp_path) == _rows(whole_run)
    assert same_arrays(_arrays(tmp_path), _arrays(whole_run))
    assert same_arrays(_arrays(tmp_path, "best.ckpt"), _arrays(whole_run, "best.ckpt"))


def test_stopped_and_resumed_on_two_canvases(tmp_path, capsys):
    root = make_data(tmp_path / "data", portraits=3)
    changes = {"canvases": "[64x96, 96x64]", "min_size": "[48, 64]", "resize": "short_edge"}
    whole = tiny_config(root, tmp_path / "whole", eval_interval=2, **changes)
    steps = []
    assert train_tiny(whole, before_check=lambda step: steps.append(step)) == 0
    for epoch in (1, 2, 3):
        seen = [i for step in steps if step.epoch == epoch for i in step.image_ids]
        assert sorted(seen) == [100 + 3 * i for i in range(tiny_run.NUM_TRAIN)]
    out = capsys.readouterr().out
    for canvas in ("64x96", "96x64"):  # one graph to train with and one to evaluate with
        assert out.count(f"compiling the graph for {canvas} (minutes on a slow machine) ...") == 2
    config = whole.replace(output_dir=str(tmp_path / "again"))
    assert train_tiny(config, before_check=_signal_at(2, 2)) == 143
    with pytest.raises(UserError, match="its run had canvases "):
        train_tiny(config.replace(resume="auto", canvases=("64x96", "96x64", "96x96")))
    assert train_tiny(config.replace(resume="auto")) == 0
    assert _log(tmp_path / "again") == _log(tmp_path / "whole")
    assert same_arrays(_arrays(tmp_path / "again"), _arrays(tmp_path / "whole"))


def test_a_killed_run_goes_on_from_its_last_checkpoint(root, whole_run, tmp_path):
    config = tiny_config(root, tmp_path)
    with pytest.raises(MemoryError):
        train_tiny(config, before_check=_die)
    (tmp_path / "ckpt_0" / ".saving-999999999-faster_rcnn-2_5.ckpt").write_bytes(b"half")
    (tmp_path / ".loss_0.log.999999999.tmp").write_bytes(b"half")
    assert train_tiny(config.replace(resume=str(tmp_path / "ckpt_0"))) == 0
    assert _log(tmp_path) == _log(whole_run)
    assert same_arrays(_arrays(tmp_path), _arrays(whole_run))
    assert not list((tmp_path / "ckpt_0").glob(".saving-*")) and not list(tmp_path.glob(".loss*"))


def test_a_run_with_checkpoints_within_its_epochs_loses_no_more_than_their_distance(
    root, whole_run, tmp_path
):
    config = tiny_config(root, tmp_path, save_checkpoint_steps=2, keep_checkpoint_max=1)
    with pytest.raises(MemoryError):
        train_tiny(config, before_check=_die)
    names = ["faster_rcnn-1_5.ckpt", "faster_rcnn-2_3.ckpt"]  # after 8 of the 9 steps
    assert CheckpointKeeper.read_index(tmp_path / "ckpt_0") == names
    assert train_tiny(config.replace(resume="auto", save_checkpoint_minutes=1e-9)) == 0
    assert _log(tmp_path) == _log(whole_run)
    assert same_arrays(_arrays(tmp_path), _arrays(whole_run))
    assert [path.name for path in (tmp_path / "ckpt_0").glob("*.ckpt")] == ["faster_rcnn-3_5.ckpt"]


def test_a_checkpoint_that_cannot_be_written_ends_the_run_only_when_it_is_the_last(
    root, whole_run, tmp_path, monkeypatch, capsys
):
    full = {"faster_rcnn-1_5.ckpt", "faster_rcnn-2_5.ckpt"}

    def saver(run):
        def write_or_not(path, with_optimizer, meta):
            if path.name in full:
                raise UserError(f"{path}: cannot write the checkpoint (No space left on device)")
            optimizer = run.train_one_step.optimizer if with_optimizer else None
            save_checkpoint(path, run.network, optimizer, meta)

        return CheckpointSaver(run.folder.keeper, write_or_not)

    monkeypatch.setattr("src.training.saving.is_terminal", lambda stream: False)
    config = tiny_config(root, tmp_path, eval_interval=1)
    assert train_tiny(config, saver=saver) == 0
    assert capsys.readouterr().err.count("WARNING: ") == 2
    assert _log(tmp_path) == _log(whole_run)
    assert same_arrays(_arrays(tmp_path), _arrays(whole_run))
    full.add("faster_rcnn-4_5.ckpt")
    with pytest.raises(UserError, match="faster_rcnn-4_5.ckpt: cannot write"):
        train_tiny(config.replace(resume="auto", epoch_size=4), saver=saver)
    assert CheckpointKeeper.read_index(tmp_path / "ckpt_0") == ["faster_rcnn-3_5.ckpt"]


def test_stopping_during_evaluation(root, whole_run, tmp_path, monkeypatch):
    import src.evaluation.run

    original = src.evaluation.run.detections_to_results

    def stop_then_write(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*args)

    config = tiny_config(root, tmp_path, eval_interval=2, save_checkpoint_epochs=3)
    with monkeypatch.context() as patch:
        patch.setattr(src.evaluation.run, "detections_to_results", stop_then_write)
        assert train_tiny(config) == 143
    # Saved although no checkpoint was due, and evaluated after all when the run goes on.
    assert (tmp_path / "ckpt_0" / "faster_rcnn-2_5.ckpt").is_file()
    assert not (tmp_path / "ckpt_0" / "best.ckpt").exists()
    assert train_tiny(config.replace(resume="auto")) == 0
    assert (tmp_path / "ckpt_0" / "best.ckpt").is_file()
    assert same_arrays(_arrays(tmp_path), _arrays(whole_run))


def test_resume_auto_begins_and_ends(root, tmp_path, capsys):
    config = tiny_config(root, tmp_path, resume="auto", epoch_size=1, report=True)
    assert train_tiny(config) == 0
    out = capsys.readouterr().out
    assert "a new run begins" in out and "evaluation_report.json" in out
    assert _reported_epoch(tmp_path) == 1  # eval_interval is 0, but a report is wanted
    before = _arrays(tmp_path, "faster_rcnn-1_5.ckpt")
    assert train_tiny(config) == 0
    assert "resumed" in capsys.readouterr().out
    assert same_arrays(before, _arrays(tmp_path, "faster_rcnn-1_5.ckpt"))
    assert train_tiny(config.replace(epoch_size=2)) == 0  # a longer run may go on
    assert (tmp_path / "ckpt_0" / "faster_rcnn-2_5.ckpt").is_file()
    assert _reported_epoch(tmp_path) == 2


def _reported_epoch(output):
    report = json.loads(Path(output, "evaluation_report.json").read_text())
    assert report["subject"]["detector"] == str(output)
    return report["subject"]["epoch"]


def test_only_so_many_checkpoints(root, tmp_path):
    config = tiny_config(root, tmp_path, epoch_size=4, keep_checkpoint_max=2)
    assert train_tiny(config) == 0
    names = ["faster_rcnn-3_5.ckpt", "faster_rcnn-4_5.ckpt"]
    assert sorted(path.name for path in (tmp_path / "ckpt_0").glob("*.ckpt")) == names
    assert CheckpointKeeper.read_index(tmp_path / "ckpt_0") == names


class _Told:
    """A hook that a test looks at; `callbacks` names it."""

    calls: list = []

    def on_start(self, run):
        self.calls.append(("start", run.step, run.resumed, run.steps_per_epoch))

    def on_step(self, step):
        self.calls.append(("step", step))

    def on_evaluation(self, row, evaluation):
        assert row["ap"] == pytest.approx(evaluation.summary.ap)
        self.calls.append(("evaluation", row["epoch"]))

    def on_checkpoint(self, path):
        self.calls.append(("checkpoint", path.name))

    def on_end(self, exit_code):
        self.calls.append(("end", exit_code))


def test_it_ends_when_the_validation_losses_get_no_better(root, whole_run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "told", sys.modules[__name__])
    _Told.calls = []
    config = tiny_config(
        root,
        tmp_path,
        eval_interval=1,
        eval_losses=True,
        best_metric="val_total_loss",
        early_stopping=1,
        early_stopping_delta=100,
        save_checkpoint_epochs=3,
        callbacks="told._Told",
    )
    assert train_tiny(config) == 0
    # Computing them changes nothing of the training; the last weights are there.
    assert same_arrays(
        _arrays(tmp_path, "faster_rcnn-2_5.ckpt"), _arrays(whole_run, "faster_rcnn-2_5.ckpt")
    )
    evaluations = read_record(tmp_path).evaluations
    assert [row["epoch"] for row in evaluations] == [1, 2]
    first, second = (row["val_total_loss"] for row in evaluations)
    assert 0 < second < 100 and first == pytest.approx(
        evaluations[0]["val_rpn_loss"] + evaluations[0]["val_rcnn_loss"], rel=1e-5
    )
    best = read_checkpoint(tmp_path / "ckpt_0" / "best.ckpt").meta
    assert best["epoch"] == (2 if second < first else 1)
    calls = [call for call in _Told.calls if call[0] != "step"]
    assert calls[0] == ("start", 0, False, STEPS) and calls[-1] == ("end", 0)
    assert ("evaluation", 2) in calls and ("checkpoint", "best.ckpt") in calls
    assert [call[1] for call in _Told.calls if call[0] == "step"] == list(range(1, 11))
    assert "stopped early: val_total_loss" in (tmp_path / "log.txt").read_text()
    # Going on, it is over at once; no row comes twice.
    assert train_tiny(config.replace(resume="auto")) == 0
    assert _Told.calls[-1] == ("end", 0) and ("step", 11) not in _Told.calls
    assert read_record(tmp_path).evaluations[0] == evaluations[0]
    assert [row["epoch"] for row in read_record(tmp_path).evaluations] == [1, 2]


def test_steps_limit(root, tmp_path):
    assert train_tiny(tiny_config(root, tmp_path, steps_per_epoch_limit=2, epoch_size=2)) == 0
    assert (tmp_path / "ckpt_0" / "faster_rcnn-2_2.ckpt").is_file()


def test_fine_tuning_on_other_classes(root, whole_run, tmp_path, capsys):
    pre_trained = whole_run / "ckpt_0" / "best.ckpt"
    config = tiny_config(
        root, tmp_path, pre_trained=pre_trained, coco_classes="fox,cat", epoch_size=1, base_lr=1e-9
    )
    assert train_tiny(config) == 0
    assert "classes: 2 of 2 from the file by name: fox, cat" in capsys.readouterr().out
    old, new = read_checkpoint(pre_trained).arrays, _arrays(tmp_path, "faster_rcnn-1_5.ckpt")
    kept = {"shared_fc_0": ..., "cls_scores": [0, 3, 1], "reg_scores": [8, 9, 10, 11, 0, 1, 2, 3]}
    for name, rows in kept.items():
        name = f"rcnn.{name}.weight"
        np.testing.assert_allclose(new[name], old[name][:, rows], atol=1e-6, err_msg=name)


# ------------------------------------------------------------------ losses that are not finite


def _poison(at, loss=None, grad_norm=None):
    """Let the steps `at` of the run report another loss or gradient norm."""

    def before_check(step):
        if step.global_step not in at:
            return step
        losses = step.losses.copy()
        losses[3] = losses[3] if loss is None else loss
        return step._replace(
            losses=losses, grad_norm=step.grad_norm if grad_norm is None else grad_norm
        )

    return before_check


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run(root, tmp_path, capsys, value):
    poison = _poison({7}, loss=value)
    assert train_tiny(tiny_config(root, tmp_path), before_check=poison) == EXIT_DIVERGED == 3
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: a loss is not finite")
    assert "epoch 2 step 2 (step 7 of the run" in error
    for name in ("rpn_loss", "rcnn_loss", "rpn_cls_loss", "rcnn_cls_loss", "rcnn_reg_loss"):
        assert f"{name} 0." in error or f"{name} 1." in error
    assert f"rpn_reg_loss {value}" in error
    ids = [int(i) for i in re.search(r"images \[(.*?)\]", error)[1].split(",")]
    assert len(ids) == 2 and set(ids) <= {100 + 3 * i for i in range(tiny_run.NUM_TRAIN)}


def test_a_real_divergence(root, tmp_path, capsys):
    config = tiny_config(root, tmp_path, base_lr=1e30, warmup_step=0, grad_clip=False)
    assert train_tiny(config) == EXIT_DIVERGED
    assert "a loss is not finite at epoch 1" in capsys.readouterr().err


def test_overflowed_gradients_are_skipped_and_halve_the_scale(root, tmp_path, capsys):
    poison = _poison({2, 3}, grad_norm=float("inf"))
    config = tiny_config(root, tmp_path, loss_scale=1024, dynamic_loss_scale=True, epoch_size=1)
    assert train_tiny(config, before_check=poison) == 0
    assert capsys.readouterr().out.count("gradients overflowed, step skipped") == 2
    meta = read_checkpoint(tmp_path / "ckpt_0" / "faster_rcnn-1_5.ckpt").meta
    assert meta["loss_scaler"] == {"scale": 256.0, "good_steps": 2}


def test_a_dynamic_scale_is_resumed(root, whole_run, tmp_path):
    config = tiny_config(root, tmp_path, loss_scale=1024, dynamic_loss_scale=True)
    assert train_tiny(config, before_check=_signal_at(2, 2)) == 143
    run = assemble_tiny(config.replace(resume="auto"))
    assert run.guard.scaler.state() == {"scale": 1024.0, "good_steps": 7}
    assert train(run, StopSignals()) == 0
    assert same_arrays(_arrays(tmp_path), _arrays(whole_run))  # a power of two changes no bit


def test_gradients_that_never_become_finite_stop_the_run():
    said = []
    guard = DivergenceGuard(LossScaler(1.0), said.append)
    step = FinishedStep(1, 2, 3, 0.1, np.ones(6, np.float32), float("nan"), [7])
    for _ in range(MAX_SKIPPED_STEPS):
        guard.check(step)
    with pytest.raises(TrainingDiverged, match="gradients of 51 steps in a row"):
        guard.check(step)
    assert len(said) == MAX_SKIPPED_STEPS


# ------------------------------------------------------------------ bad input


def _other_run(output):
    return str(Path(output, "ckpt_0", "faster_rcnn-3_5.ckpt"))


@pytest.mark.parametrize(
    "changes, message",
    [
        (lambda p, w: {"pre_trained": p / "no.ckpt"}, "no such file; set pre_trained"),
        (lambda p, w: {"pre_trained": p}, "a folder; set pre_trained"),
        (lambda p, w: {"pre_trained": w / "config.yaml"}, "not a .ckpt file"),
        (lambda p, w: {"pre_trained": _other_run(w), "box_convention": "modern"}, "box_convention"),
        (lambda p, w: {"pre_trained": _other_run(w), "backbone": "resnet_v1_101"}, "backbone"),
        (lambda p, w: {"resume": p / "no.ckpt"}, "no such file; set resume"),
        (lambda p, w: {"resume": p}, "holds no faster_rcnn-"),
        (lambda p, w: {"resume": w / "ckpt_0" / "best.ckpt"}, "no optimizer state"),
        (lambda p, w: {"resume": _other_run(w), "batch_size": 5}, "had batch_size 2"),
        (lambda p, w: {"resume": _other_run(w), "seed": 6}, "had seed 5"),
        (
            lambda p, w: {"resume": _other_run(w), "train_sampler": "class_balanced"},
            "had train_sampler shuffle, this one has class_balanced",
        ),
        (lambda p, w: {"resume": _other_run(w), "steps_per_epoch_limit": 3}, "steps_per_epoch 5"),
        (lambda p, w: {"resume": _other_run(w), "coco_classes": "cat,dog"}, "trained on 3 classes"),
        (lambda p, w: {"resume": _other_run(w), "coco_classes": "dog,cat,fox"}, "in its order"),
        (lambda p, w: {"resume": _other_run(w), "backbone": "resnet_v1_50"}, "backbone"),
        (lambda p, w: {"resume": _other_run(w), "epoch_size": 2}, "but epoch_size is 2"),
        (lambda p, w: {"resume": p / ("x" * 300)}, "File name too long; set resume"),
        (lambda p, w: {"pre_trained": p / ("x" * 300)}, "File name too long; set pre_trained"),
        (lambda p, w: {"output_dir": p / ("x" * 300)}, "cannot be used"),
        (lambda p, w: {"resume": _other_run(w), "img_width": 96}, "had img_width 64"),
        (lambda p, w: {"resume": _other_run(w), "norm": "frozen_bn"}, "norm bn.* config.yaml"),
        (
            lambda p, w: {"resume": _other_run(shutil.copytree(w, p / "other")), "output_dir": w},
            "another run .newest faster_rcnn-3_5.ckpt",
        ),
        (lambda p, w: {"output_dir": w}, "another run .newest faster_rcnn-3_5.ckpt.*--resume auto"),
        (lambda p, w: {"output_dir": w / "config.yaml"}, "cannot be used"),
        (lambda p, w: {"batch_size": 11}, "lower batch_size"),
    ],
)
def test_what_cannot_be_trained(root, whole_run, tmp_path, changes, message):
    given = changes(tmp_path, whole_run)
    config = tiny_config(root, given.pop("output_dir", tmp_path / "out"), **given)
    with pytest.raises(UserError, match=message) as raised:
        train_tiny(config)
    assert "\n" not in str(raised.value)


def test_what_a_resumed_run_does_otherwise_is_said(root, whole_run, tmp_path, capsys):
    shutil.copytree(whole_run, tmp_path / "out")
    again = tiny_config(root, tmp_path / "out", resume="auto", epoch_size=4, base_lr=0.2)
    assert train_tiny(again) == 0
    out = capsys.readouterr().out
    assert "changed since the run's last start: base_lr 0.4 -> 0.2\n" in out
    assert "last start: epoch_size 3 -> 4\n" in out and "output_dir" not in out
    saved = ["--config_path", str(tmp_path / "out/config.yaml"), "--resume", "auto"]
    assert train_tiny(load_config([*saved, "--epoch_size", "5"])) == 0
    out = capsys.readouterr().out
    assert re.findall(r"last start: (.*)", out) == ["epoch_size 4 -> 5"] and "yours" not in out
    assert train_tiny(load_config(saved)) == 0
    assert "changed" not in capsys.readouterr().out


def test_a_start_that_fails_keeps_the_list_of_checkpoints(root, whole_run, tmp_path):
    (tmp_path / "ckpt_0").mkdir()
    index = tmp_path / "ckpt_0" / "checkpoints.json"
    index.write_text('{"checkpoints": ["gone.ckpt"]}')
    with pytest.raises(UserError, match="lower batch_size"):
        train_tiny(tiny_config(root, tmp_path, batch_size=11))
    assert "gone" in index.read_text()
    assemble_tiny(tiny_config(root, tmp_path))
    assert CheckpointKeeper.read_index(tmp_path / "ckpt_0") == []


def test_other_boxes_are_not_resumed_with(root, whole_run, tmp_path):
    other = make_data(tmp_path / "other")
    path = other / "annotations" / "instances_train.json"
    data = json.loads(path.read_text())
    data["annotations"][0]["bbox"][2] -= 1
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match="its run had annotations_sha256"):
        train_tiny(tiny_config(other, tmp_path / "out", resume=_other_run(whole_run)))


# ------------------------------------------------------------------ several ranks


@pytest.mark.parametrize("own", [False, True])
def test_one_rank_that_diverged_takes_the_others_along(root, tmp_path, capsys, own):
    votes = []

    class TwoRanks(Ranks):
        def all_reduce(self, wishes):  # ours, and those of another rank
            if len(wishes) != 3:  # a row's means, and the barrier at the end
                return wishes
            votes.append([float(wish) for wish in wishes])
            return np.array(wishes, np.float32) + [0.0, float(not own and len(votes) == 3), 0.0]

    poison = _poison({3}, loss=float("nan")) if own else None
    code = train_tiny(tiny_config(root, tmp_path), before_check=poison, ranks=TwoRanks())
    assert code == EXIT_DIVERGED
    error = capsys.readouterr().err
    assert ("a loss is not finite" if own else "another rank stopped at epoch 1 step 3") in error
    assert votes == [[0, 0, 0], [0, 0, 0], [0, float(own), 0]]  # every rank votes once a step


@pytest.mark.parametrize("index", [None, "{damaged", '{"checkpoints": []}'])
def test_checkpoints_without_their_list_are_not_written_over(root, whole_run, tmp_path, index):
    output = tmp_path / "copy"
    shutil.copytree(whole_run, output)
    listed = output / "ckpt_0" / "checkpoints.json"
    listed.unlink()
    if index is not None:
        listed.write_text(index)
    before = {path.name: path.read_bytes() for path in (output / "ckpt_0").glob("*.ckpt")}
    config = tiny_config(root, output, epoch_size=1, seed=9)
    with pytest.raises(UserError, match=r"holds the checkpoints .*newest faster_rcnn-3_5.ckpt\)"):
        train_tiny(config)
    assert {p.name: p.read_bytes() for p in (output / "ckpt_0").glob("*.ckpt")} == before
    assert _log(output) == _log(whole_run)
    again = tiny_config(root, output, epoch_size=4, eval_interval=1, resume="auto")
    assert train_tiny(again) == 0
    assert (output / "ckpt_0" / "faster_rcnn-4_5.ckpt").is_file()


@pytest.mark.parametrize("epoch, step", [(2, 2), (3, 0)])
def test_data_that_is_damaged_meanwhile_costs_no_step(
    root, whole_run, tmp_path, monkeypatch, epoch, step
):
    from src.training import run as module

    def damaged(dataset, records):
        for number, batch in enumerate(iterate(dataset, records=records)):
            if number == step and len(seen) == epoch:
                break
            yield batch
        if len(seen) == epoch:
            raise UserError("a record is damaged")

    def counted(*arguments, **named):
        seen.append(1)
        return create(*arguments, **named)

    seen, iterate, create = [], module.iterate, module.create_train_dataset
    monkeypatch.setattr(module, "iterate", damaged)
    monkeypatch.setattr(module, "create_train_dataset", counted)
    config = tiny_config(root, tmp_path, eval_interval=1, save_checkpoint_epochs=4)
    with pytest.raises(UserError, match="a record is damaged"):
        train_tiny(config)
    assert (tmp_path / "ckpt_0" / f"faster_rcnn-{epoch}_{step}.ckpt").is_file()
    monkeypatch.undo()
    assert train_tiny(config.replace(resume="auto")) == 0
    assert _log(tmp_path) == _log(whole_run)
    assert same_arrays(_arrays(tmp_path), _arrays(whole_run))


# ------------------------------------------------------------------ from the outside


@pytest.mark.slow
def test_a_process_told_to_stop(root, whole_run, tmp_path):
    """SIGTERM to a real process, whenever it comes; then kill -9; then on to the end."""
    command = [
        sys.executable,
        "-m",
        "tests.helpers.tiny_run",
        *arguments(root, tmp_path, resume="auto"),
    ]
    log = tmp_path / "loss_0.log"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while process.poll() is None and not (log.exists() and log.read_text()):
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert process.returncode in (143, 0)
    done = subprocess.run(command, capture_output=True, timeout=120, text=True)
    assert done.returncode == 0, done.stderr
    assert _log(tmp_path) == _log(whole_run)
    assert same_arrays(_arrays(tmp_path), _arrays(whole_run))


@pytest.mark.parametrize("script", ["train.py", "eval.py"])
def test_help_and_errors_answer_without_mindspore(repo_root, script):
    started = time.perf_counter()
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", script, "--help"],
        cwd=repo_root,
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0 and "--coco_root" in shown.stdout
    assert "mindspore" not in shown.stderr
    assert time.perf_counter() - started < 10
    wrong = subprocess.run(
        [sys.executable, script, "--bach_size", "3"], cwd=repo_root, capture_output=True, text=True
    )
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1 and "batch_size" in wrong.stderr


def _damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_newest_checkpoint_is_passed_over_loudly(root, whole_run, tmp_path, capsys):
    shutil.copytree(whole_run, tmp_path / "out")
    newest = tmp_path / "out" / "ckpt_0" / "faster_rcnn-3_5.ckpt"
    _damage(newest)
    assert train_tiny(tiny_config(root, tmp_path / "out", resume="auto", eval_interval=1)) == 0
    out = capsys.readouterr().out
    assert f"WARNING: {newest}: not a MindSpore checkpoint, or a damaged one (" in out
    assert "faster_rcnn-2_5.ckpt after epoch 2 step 5" in out
    assert same_arrays(
        _arrays(whole_run), _arrays(tmp_path / "out")
    )  # bit for bit as without damage
    assert _log(whole_run) == _log(tmp_path / "out")


@pytest.mark.parametrize("damage", ["truncated", "empty", "no meta", "weights only"])
def test_any_damage_of_the_newest_is_passed_over(root, whole_run, tmp_path, capsys, damage):
    folder = shutil.copytree(whole_run, tmp_path / "out") / "ckpt_0"
    newest = folder / "faster_rcnn-3_5.ckpt"
    if damage == "weights only":
        shutil.copy(folder / "best.ckpt", newest)
    elif damage == "no meta":
        ms.save_checkpoint([{"name": "a", "data": Tensor(np.ones(3))}], str(newest))
    else:
        newest.write_bytes(newest.read_bytes()[: 3000 if damage == "truncated" else 0])
    start = open_start("auto", folder, print)
    assert start.path == folder / "faster_rcnn-2_5.ckpt"
    assert capsys.readouterr().out.count("WARNING: ") == 1
    with pytest.raises(UserError, match="faster_rcnn-3_5.ckpt"):
        open_start(str(newest), folder, print)  # named by the user: an error


def test_a_folder_of_damaged_checkpoints_begins_nothing_anew(root, whole_run, tmp_path, capsys):
    shutil.copytree(whole_run, tmp_path / "out")
    for path in (tmp_path / "out" / "ckpt_0").glob("faster_rcnn-*.ckpt"):
        _damage(path)
    with pytest.raises(UserError, match="none of its checkpoints can be used.*another output_dir"):
        train_tiny(tiny_config(root, tmp_path / "out", resume="auto"))
    assert capsys.readouterr().out.count("WARNING: ") == 3


def test_too_little_memory_does_not_pass_a_checkpoint_over(whole_run, monkeypatch):
    monkeypatch.setattr("src.base.memory.available_memory", lambda: 10)
    with pytest.raises(UserError, match="faster_rcnn-3_5.ckpt: too little memory"):
        open_start("auto", whole_run / "ckpt_0", print)


def test_classes_that_nobody_named_are_the_files(root, tmp_path, capsys):
    config = tiny_config(root, tmp_path, epoch_size=1, coco_classes="auto")
    assert train_tiny(config) == 0
    assert "classes: the 3 of " in capsys.readouterr().out
    checkpoint = read_checkpoint(tmp_path / "ckpt_0" / "faster_rcnn-1_5.ckpt")
    assert checkpoint.meta["class_names"] == list(CLASS_NAMES)
    saved = load_config(["--config_path", str(tmp_path / "config.yaml")])
    assert saved.class_names == CLASS_NAMES
    assert train_tiny(config.replace(resume="auto", epoch_size=2)) == 0
    adopted, _ = adopt_settings(tiny_config(root, tmp_path, coco_classes="auto"), checkpoint)
    assert adopted.class_names == CLASS_NAMES
