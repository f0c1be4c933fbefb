# SPDX-License-Identifier: Apache-2.0
"""Whole runs of the tiny detector with what the optimizer can do: Adam, averages, accumulation."""

import re
import signal

import mindspore as ms
import numpy as np
import pytest
from mindspore import ops

from src.base.errors import UserError
from src.checkpoints.file import IN_TRAINING, read_checkpoint
from src.checkpoints.loading import load_detector
from src.optimization.moving_average import decay_at
from src.run_record.reading import read_record
from src.training.assembly import assemble_run
from src.training.loop import train
from src.training.stop_signals import StopSignals
from tests.helpers.checkpoint_files import arrays_of, same_arrays
from tests.helpers.tiny_detector import TinyDetector, TinyWithLoss, tiny_model
from tests.helpers.tiny_run import make_data, tiny_config
from tests.helpers.tiny_training import WatchedGuard, assemble_tiny, build_tiny, train_tiny

# Everything at once: what one of them forgets to save shows in a run that goes on.
RECIPES = {
    "adamw": {
        "optimizer": "adamw",
        "base_lr": 0.08,
        "no_weight_decay": "[norms, biases]",
        "backbone_lr_scale": 0.5,
        "layer_lr_decay": 0.9,
        "norm": "bn",
        "ema": 0.99,
        "accumulate_steps": 2,
        "batch_size": 1,
        "grad_clip": True,
        "clip_norm": 0.5,
        "lr_type": "poly",
    },
    "sgd": {"backbone_lr_scale": 0.1, "no_weight_decay": "[]", "lr_type": "cosine_restarts"},
}
LAST = "faster_rcnn-3_5.ckpt"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("training data"))


def _arrays(output, name=LAST):
    return arrays_of(output, name)


def _stop_at(epoch, step_in_epoch):
    def before_check(step):
        if (step.epoch, step.step_in_epoch) == (epoch, step_in_epoch):
            signal.raise_signal(signal.SIGTERM)

    return before_check


@pytest.mark.parametrize("recipe", RECIPES)
def test_stopped_and_resumed_is_the_same_run(root, tmp_path, recipe):
    changes = {"eval_interval": 3, **RECIPES[recipe]}
    whole = tiny_config(root, tmp_path / "whole", **changes)
    assert train_tiny(whole) == 0
    parts = whole.replace(output_dir=str(tmp_path / "parts"))
    assert train_tiny(parts, before_check=_stop_at(2, 3)) == 143
    assert train_tiny(parts.replace(resume="auto")) == 0
    for name in (LAST, "best.ckpt"):
        assert same_arrays(_arrays(tmp_path / "whole", name), _arrays(tmp_path / "parts", name)), (
            name
        )
    logs = [(tmp_path / folder / "loss_0.log").read_text() for folder in ("whole", "parts")]
    assert logs[0] == logs[1]
    losses = [float(value) for value in re.findall(r"total_loss: ([\d.]+)", logs[0])]
    assert losses[-1] < losses[0]


class _MeanOfImages(TinyWithLoss):
    """Losses that are means over the images, as the real ones with full samples."""

    def construct(self, image, image_meta, gt_boxes, gt_labels, gt_valid, gt_crowd, sampling_key):
        features = self.network.features(image)
        scores, deltas = self.network.rcnn(features)
        noise = sampling_key.astype(ms.float32) / 2.0**31
        share = gt_valid.astype(ms.float32).mean(1)
        rpn_cls = ops.square(features.mean(1) - gt_boxes.mean((1, 2)) / 100.0).mean()
        rpn_reg = (ops.square(features).mean(1) * (1.0 + noise)).mean()
        rcnn_cls = ops.square(scores - 0.5).mean()
        rcnn_reg = (ops.square(deltas - 0.1).mean(1) * (1.0 + share)).mean()
        return rpn_cls + rpn_reg, rcnn_cls + rcnn_reg, rpn_cls, rpn_reg, rcnn_cls, rcnn_reg


def test_accumulated_batches_are_the_larger_batch(root, tmp_path):
    """Up to rounding: weights, losses, the clipped gradients' norm; from the same images."""
    runs = {}
    for name, batch, count in (("large", 4, 1), ("small", 2, 2)):
        steps = []
        config = tiny_config(
            root,
            tmp_path / name,
            batch_size=batch,
            accumulate_steps=count,
            grad_clip=True,
            clip_norm=0.5,
            loss_scale=1024,
            epoch_size=2,
        )
        run = assemble_run(
            config, build_network=build_tiny, build_loss=lambda network, *_: _MeanOfImages(network)
        )
        run.guard = WatchedGuard(run.guard, steps.append)
        # Its own statistics would tell a batch from a larger one.
        run.train_one_step.set_train = lambda mode=True: None
        run.network.set_train(False)
        with StopSignals(print) as stop:
            assert train(run, stop) == 0
        runs[name] = steps, _arrays(tmp_path / name, "faster_rcnn-2_2.ckpt")
    (large, weights), (small, others) = runs["large"], runs["small"]
    assert len(large) == len(small) == 4
    for one, other in zip(large, small, strict=True):
        assert one.image_ids == other.image_ids and one.rate == other.rate
        np.testing.assert_allclose(one.losses, other.losses, rtol=1e-5)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-5)
    assert large[0].grad_norm > 0.5  # it is clipped
    for name, weight in weights.items():
        np.testing.assert_allclose(others[name], weight, rtol=1e-4, atol=1e-6, err_msg=name)


def test_an_average_is_evaluated_and_saved_in_the_place_of_the_weights(root, tmp_path, monkeypatch):
    from src.training import run as module

    at_evaluation = []

    def validate(network, *arguments, **named):
        at_evaluation.append({p.name: p.asnumpy().copy() for p in network.get_parameters()})
        return original(network, *arguments, **named)

    original = module.validate
    monkeypatch.setattr(module, "validate", validate)
    averages, weights = {}, {}
    run = assemble_tiny(tiny_config(root, tmp_path, norm="bn", ema=0.5, eval_interval=3))

    def follow(step):
        for parameter in run.network.get_parameters():
            weights[parameter.name] = parameter.asnumpy().astype(np.float64)
            decay = decay_at(step.global_step - 1, 0.5)
            before = averages.get(parameter.name, start[parameter.name])
            averages[parameter.name] = decay * before + (1 - decay) * weights[parameter.name]

    start = {p.name: p.asnumpy().astype(np.float64) for p in run.network.get_parameters()}
    run.guard = WatchedGuard(run.guard, follow)
    with StopSignals(print) as stop:
        assert train(run, stop) == 0
    saved, best = _arrays(tmp_path), _arrays(tmp_path, "best.ckpt")
    assert not any(name.startswith(IN_TRAINING) for name in best)
    (evaluated,) = at_evaluation
    for name, average in averages.items():
        np.testing.assert_allclose(saved[name], average, rtol=1e-4, atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(evaluated[name], saved[name])
        np.testing.assert_array_equal(best[name], saved[name])
        in_training = saved[f"{IN_TRAINING}.{name}"]
        np.testing.assert_allclose(in_training, weights[name], rtol=1e-6, err_msg=name)
    moved = "backbone.bn1.moving_mean"
    assert np.abs(saved[moved] - saved[f"{IN_TRAINING}.{moved}"]).max() > 0
    # Whatever opens the file gets the average, without a key.
    network = TinyDetector()
    checkpoint = read_checkpoint(tmp_path / "ckpt_0" / LAST)
    load_detector(network, checkpoint, tiny_model(**{"norm": "bn"}))
    for parameter in network.get_parameters():
        np.testing.assert_array_equal(parameter.asnumpy(), saved[parameter.name])


def test_an_average_can_begin_and_end_in_the_middle_of_a_run(root, tmp_path):
    config = tiny_config(root, tmp_path, epoch_size=1)
    assert train_tiny(config) == 0
    before = _arrays(tmp_path, "faster_rcnn-1_5.ckpt")
    begun = assemble_tiny(config.replace(epoch_size=2, resume="auto", ema=0.9))
    for name, average in begun.weights.average.by_name().items():
        np.testing.assert_array_equal(average.asnumpy(), before[name])
    assert train_tiny(config.replace(epoch_size=2, resume="auto", ema=0.9)) == 0
    averaged = _arrays(tmp_path, "faster_rcnn-2_5.ckpt")
    ended = assemble_tiny(config.replace(epoch_size=3, resume="auto"))
    weight = "rcnn.shared_fc_0.weight"
    found = {p.name: p.asnumpy() for p in ended.network.get_parameters()}[weight]
    np.testing.assert_array_equal(found, averaged[f"{IN_TRAINING}.{weight}"])
    assert not np.array_equal(found, averaged[weight])


def test_another_optimizer_is_not_resumed_with(root, tmp_path):
    assert train_tiny(tiny_config(root, tmp_path, epoch_size=1)) == 0
    again = tiny_config(root, tmp_path, optimizer="adamw", base_lr=0.01, resume="auto")
    with pytest.raises(UserError, match="no optimizer state for .*run's own optimizer"):
        train_tiny(again)


def test_steps_are_updates(root, tmp_path, capsys):
    config = tiny_config(root, tmp_path, batch_size=1, accumulate_steps=3, epoch_size=2)
    run = assemble_tiny(config)
    assert run.steps_per_epoch == 3 and len(run.rates) == 6  # of 10 images
    assert train_tiny(config) == 0
    out = capsys.readouterr().out
    assert "scaled to 3 (1 on 1 device, 3 times)" in out
    assert "2 epochs of 3 steps, 3 batches of 1 on 1 device" in out
    record = read_record(tmp_path)
    assert [(row["step"], row["images"]) for row in record.training] == [
        (2, 6),
        (3, 9),
        (5, 6),
        (6, 9),
    ]
    with pytest.raises(UserError, match="fewer than 6 batches of 2.*lower batch_size or accum"):
        assemble_tiny(
            config.replace(batch_size=2, accumulate_steps=6, output_dir=str(tmp_path / "b"))
        )


def test_a_run_goes_on_with_other_batches_a_step(root, tmp_path, capsys):
    config = tiny_config(root, tmp_path, batch_size=1, accumulate_steps=2)
    assert train_tiny(config, before_check=_stop_at(1, 2)) == 143  # 4 images
    run = assemble_tiny(config.replace(resume="auto", accumulate_steps=1))
    assert (run.position.epoch, run.position.step_in_epoch) == (1, 4)
    said = "its run had accumulate_steps 2, this one has 1: that is epoch 1 step 4 here"
    assert said in capsys.readouterr().out


def test_adam_wants_a_rate_of_its_own(root, tmp_path):
    config = tiny_config(root, tmp_path, optimizer="adamw")
    assert config.is_given("base_lr")
    bare = config.adopt({"base_lr": 0.04}, "a file that nobody has named")
    with pytest.raises(UserError, match="optimizer: adamw wants another .*give base_lr"):
        assemble_tiny(bare)
