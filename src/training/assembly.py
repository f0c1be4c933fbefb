# SPDX-License-Identifier: Apache-2.0
"""Parts of a training run, made from its configuration."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import nn

from ..data.mindrecord import ensure_mindrecord
from ..data.record_set import MindRecordSet
from ..detector import build_loss
from ..evaluation.run import GroundTruth, read_ground_truth
from ..lr_schedule import learning_rates, scaled_rate
from ..model_utils.configuration.notes import without_effect
from ..network_define import TrainOneStep, make_optimizer
from ..processes.ranks import Ranks
from .loss_log import LossLog


def run_rates(config: Any, steps: int, world_size: int, say: Callable[[str], None]) -> np.ndarray:
    """Return the learning rate of every step, (epochs * steps,) float32; `steps`: an epoch's."""
    batch = config.batch_size * world_size
    rate = scaled_rate(config.base_lr, global_batch=batch, base_batch=config.lr_base_batch)
    say(
        f"learning rate {rate:.6g}: base_lr {config.base_lr:g} for {config.lr_base_batch} "
        f"images a step, scaled to {batch} "
        f"({config.batch_size} on each of {world_size} device(s))"
    )
    for line in without_effect(config):
        say(line)
    return learning_rates(
        config.lr_type,
        rate,
        steps_per_epoch=steps,
        epochs=config.epoch_size,
        warmup_steps=config.warmup_step,
        warmup_ratio=config.warmup_ratio,
        milestones=config.sgd_step,
        min_ratio=config.min_lr_ratio,
    )


def training_step(
    config: Any, network: nn.Cell, rates: np.ndarray, world_size: int
) -> TrainOneStep:
    """Return the Cell that makes one step of training, with its optimizer.

    Args:
        rates: (steps of the run,) float32, the learning rate of each.
    """
    optimizer = make_optimizer(
        network.trainable_params(),
        rates,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    return TrainOneStep(
        build_loss(network, config, world_size),
        optimizer,
        clip_norm=config.clip_norm if config.grad_clip else 0.0,
        world_size=world_size,
    )


def validation_of(
    config: Any, training: MindRecordSet, ranks: Ranks, say: Callable[[str], None]
) -> tuple[MindRecordSet, GroundTruth] | None:
    """Return the validation images and their ground truth, None when nothing is evaluated.

    Args:
        training: the images that the run trains on.
    """
    if not config.eval_interval:
        return None
    data = ensure_mindrecord(config, "val", ranks.rank, ranks.world_size)
    if os.path.realpath(data.anno_path) == os.path.realpath(training.anno_path):
        say(
            f"note: evaluation is on the training images, both are those of {data.anno_path}; "
            "{} in a file's name stands for train_data_type and val_data_type"
        )
    truth = read_ground_truth(config, data)
    if not truth.data["annotations"]:
        say(
            f"warning: eval_interval: {truth.source} has no annotations to judge by: there "
            "will be no numbers and no best checkpoint"
        )
    return data, truth


def run_log(config: Any, ranks: Ranks, steps: int, meta: Mapping[str, Any]) -> LossLog:
    """Return this rank's loss log, continued where the checkpoint with `meta` stood.

    Args:
        steps: an epoch's.
        meta: empty at the beginning of a run.
    """
    log = LossLog(
        Path(config.output_dir) / f"loss_{ranks.rank}.log",
        interval=config.log_interval,
        steps_per_epoch=steps,
        resume_at=(meta["epoch"], meta["step_in_epoch"]) if meta else None,
    )
    if meta and meta["world_size"] == ranks.world_size:
        states = meta.get("loss_logs") or [meta["loss_log"]]
        log.restore(states[ranks.rank])
    return log
