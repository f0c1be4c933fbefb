# SPDX-License-Identifier: Apache-2.0
"""Learning rates as pure functions: one float a step, known before the first step."""

from collections.abc import Sequence

import numpy as np

from .base.errors import UserError
from .model_utils.config import Config

MOST_STEPS = 50_000_000  # 400 epochs of COCO, one image a step
_BYTES_A_STEP = 24  # float64 rates, factors and their product

STEP_DECAY = 0.1  # what every milestone multiplies the rate with


def scaled_rate(base_lr: float, *, global_batch: int, base_batch: int) -> float:
    """Return the rate for `global_batch` images a step, when `base_lr` was chosen for `base_batch`.

    The linear rule: twice the images a step, twice the rate.

    >>> scaled_rate(0.02, global_batch=4, base_batch=16)
    0.005

    Args:
        base_lr: the rate for `base_batch` images a step.
        global_batch: images a step over all ranks.
        base_batch: images a step that `base_lr` was chosen for.
    """
    if global_batch < 1 or base_batch < 1:
        raise ValueError(f"batches must be positive, got {global_batch} and {base_batch}")
    return base_lr * global_batch / base_batch


def warmup_factors(total_steps: int, *, warmup_steps: int, warmup_ratio: float) -> np.ndarray:
    """Return (total_steps,) float64: from `warmup_ratio` in a straight line to 1 at `warmup_steps`.

    The warm-up multiplies whatever schedule runs below it, so a run shorter than its warm-up is
    fine: it simply never reaches the full rate.

    Args:
        total_steps: steps of the run.
        warmup_steps: from this step on the factor is 1; 0 for no warm-up.
        warmup_ratio: the factor of the first step, 0 to 1.
    """
    if warmup_steps <= 0:
        return np.ones(total_steps)
    progress = np.minimum(np.arange(total_steps) / warmup_steps, 1.0)
    return warmup_ratio + (1.0 - warmup_ratio) * progress


def step_rates(
    rate: float, *, total_steps: int, steps_per_epoch: int, milestones: Sequence[float]
) -> np.ndarray:
    """Return (total_steps,) float64: `rate`, times `STEP_DECAY` from every milestone on.

    Args:
        rate: before the first milestone.
        total_steps: steps of the run.
        steps_per_epoch: turns milestones into steps.
        milestones: in epochs, fractions allowed: with 100 steps an epoch, 5.5 is the 551st step of
            the run.
    """
    boundaries = np.array([int(round(epoch * steps_per_epoch)) for epoch in milestones], np.int64)
    passed = (np.arange(total_steps)[:, None] >= boundaries[None, :]).sum(axis=1)
    return rate * STEP_DECAY**passed


def cosine_rates(
    rate: float, *, total_steps: int, warmup_steps: int, min_ratio: float
) -> np.ndarray:
    """Return (total_steps,) float64: half a cosine from `rate` to `rate * min_ratio`.

    Args:
        rate: the highest one.
        total_steps: steps of the run; the last one has the lowest rate.
        warmup_steps: before the cosine begins; they have the highest rate, which the warm-up
            multiplies.
        min_ratio: the lowest rate over the highest, 0 to 1.
    """
    span = max(total_steps - 1 - warmup_steps, 1)
    progress = np.clip((np.arange(total_steps) - warmup_steps) / span, 0.0, 1.0)
    return rate * (min_ratio + (1.0 - min_ratio) * 0.5 * (1.0 + np.cos(np.pi * progress)))


def rates_of_run(config: Config, rate: float, steps_per_epoch: int) -> np.ndarray:
    """Return the `learning_rates` that a configuration describes.

    Args:
        config: uses lr_type, epoch_size, warmup_step, warmup_ratio, sgd_step, min_lr_ratio.
        rate: the full rate, already scaled to the global batch.
        steps_per_epoch: optimizer steps in one epoch, on this rank.
    """
    return learning_rates(
        config.lr_type,
        rate,
        steps_per_epoch=steps_per_epoch,
        epochs=config.epoch_size,
        warmup_steps=config.warmup_step,
        warmup_ratio=config.warmup_ratio,
        milestones=config.sgd_step,
        min_ratio=config.min_lr_ratio,
    )


def learning_rates(
    lr_type: str,
    rate: float,
    *,
    steps_per_epoch: int,
    epochs: int,
    warmup_steps: int,
    warmup_ratio: float,
    milestones: Sequence[float] = (),
    min_ratio: float = 0.0,
) -> np.ndarray:
    """Return the rate of every step of a run.

    Args:
        lr_type: "step" or "cosine". The model zoo calls its cosine "dynamic".
        rate: the full rate, already scaled to the global batch.
        steps_per_epoch: optimizer steps in one epoch, on this rank.
        epochs: epochs in the whole run, those before a resume included.
        warmup_steps: steps until the full rate is reached; 0 for none.
        warmup_ratio: the first step's share of the full rate.
        milestones: for "step": epochs (fractions allowed) from which on the rate is a tenth of what
            it was.
        min_ratio: for "cosine": the last step's share of the full rate.

    Returns:
        (epochs * steps_per_epoch,) float32.

    Raises:
        UserError: more than `MOST_STEPS`.
        ValueError: for another `lr_type`, or nothing to train.
    """
    total = epochs * steps_per_epoch
    if total > MOST_STEPS:
        raise UserError(
            f"epoch_size: {epochs} epochs of {steps_per_epoch} steps: their learning rates alone "
            f"take {_BYTES_A_STEP * total / 1e9:.1f} GB; lower epoch_size to at most "
            f"{max(MOST_STEPS // steps_per_epoch, 1)}"
        )
    if total < 1:
        raise ValueError(f"{epochs} epochs of {steps_per_epoch} steps leave nothing to train")
    if lr_type == "step":
        rates = step_rates(
            rate, total_steps=total, steps_per_epoch=steps_per_epoch, milestones=milestones
        )
    elif lr_type in ("cosine", "dynamic"):
        rates = cosine_rates(
            rate, total_steps=total, warmup_steps=warmup_steps, min_ratio=min_ratio
        )
    else:
        raise ValueError(f'unknown schedule "{lr_type}": it is one of step, cosine, dynamic')
    factors = warmup_factors(total, warmup_steps=warmup_steps, warmup_ratio=warmup_ratio)
    return (rates * factors).astype(np.float32)
