# SPDX-License-Identifier: Apache-2.0
"""Learning rates as pure functions: one float a step, known before the first step."""

import math
from collections.abc import Sequence

import numpy as np

from .base.errors import UserError
from .model_utils.config import Config

MOST_STEPS = 50_000_000  # 400 epochs of COCO, one image a step
_BYTES_A_STEP = 24  # float64 rates, factors and their product

SCHEDULES = ("step", "cosine", "dynamic", "poly", "cosine_restarts")
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


def warmup_factors(total_steps: int, warmup_steps: int, warmup_ratio: float) -> np.ndarray:
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
    passed = np.searchsorted(np.sort(boundaries), np.arange(total_steps), side="right")
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
    return rate * _half_cosine(_progress(total_steps, warmup_steps), min_ratio)


def poly_rates(
    rate: float, *, total_steps: int, warmup_steps: int, power: float, min_ratio: float
) -> np.ndarray:
    """Return (total_steps,) float64: `rate` falls to `rate * min_ratio` by a power of what is left.

    Args:
        rate: the highest one.
        total_steps: steps of the run; the last one has the lowest rate.
        warmup_steps: before the fall begins, as in `cosine_rates`.
        power: 1 is a straight line.
        min_ratio: the lowest rate over the highest, 0 to 1.
    """
    left = 1.0 - _progress(total_steps, warmup_steps)
    return rate * (min_ratio + (1.0 - min_ratio) * left**power)


def restart_rates(
    rate: float, *, total_steps: int, period: float, factor: float, min_ratio: float
) -> np.ndarray:
    """Return (total_steps,) float64: cosines from `rate` down, one after another (SGDR).

    A cycle of n steps falls from `rate` towards `rate * min_ratio`, which its step n would have:
    there the next one begins. Cycles count from the first step of the run, so that a warm-up lies
    over the beginning of the first one.

    Args:
        rate: the highest one.
        total_steps: steps of the run.
        period: steps of the first cycle, fractions allowed; a cycle has one step at least.
        factor: each cycle has so many times the steps of the one before, 1 or more.
        min_ratio: the lowest rate over the highest, 0 to 1.
    """
    progress = np.empty(total_steps)
    start, length = 0.0, max(period, 1.0)
    while start < total_steps:
        # A cycle owns the whole steps in [start, start + length).
        steps = np.arange(_first_step(start), min(_first_step(start + length), total_steps))
        progress[steps] = (steps - start) / length
        start, length = start + length, length * factor
    return rate * _half_cosine(progress, min_ratio)


def _first_step(position: float) -> int:
    """The first step at or behind a position, where 1.1 epochs of 10 steps are 11 of them."""
    return math.ceil(position - 1e-6)


def _progress(total_steps: int, warmup_steps: int) -> np.ndarray:
    """(total_steps,) float64: 0 up to the end of the warm-up, 1 in the last step."""
    span = max(total_steps - 1 - warmup_steps, 1)
    return np.clip((np.arange(total_steps) - warmup_steps) / span, 0.0, 1.0)


def _half_cosine(progress: np.ndarray, min_ratio: float) -> np.ndarray:
    """From 1, where the progress is 0, to `min_ratio`, where it is 1."""
    return min_ratio + (1.0 - min_ratio) * 0.5 * (1.0 + np.cos(np.pi * progress))


def rates_of_run(config: Config, rate: float, steps_per_epoch: int) -> np.ndarray:
    """Return the `learning_rates` that a configuration describes.

    Args:
        config: uses lr_type, epoch_size, warmup_step, warmup_ratio and the keys of its schedule:
            sgd_step, min_lr_ratio, poly_power, restart_period, restart_factor.
        rate: the full rate, already scaled to the global batch.
        steps_per_epoch: optimizer steps in one epoch.
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
        power=config.poly_power,
        restart_period=config.restart_period,
        restart_factor=config.restart_factor,
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
    power: float = 1.0,
    restart_period: float = 1.0,
    restart_factor: float = 1.0,
) -> np.ndarray:
    """Return the rate of every step of a run.

    Args:
        lr_type: "step", "cosine", "poly" or "cosine_restarts". The model zoo calls its cosine
            "dynamic".
        rate: the full rate, already scaled to the global batch.
        steps_per_epoch: optimizer steps in one epoch.
        epochs: epochs in the whole run, those before a resume included.
        warmup_steps: steps until the full rate is reached; 0 for none.
        warmup_ratio: the first step's share of the full rate.
        milestones: for "step": epochs (fractions allowed) from which on the rate is a tenth of what
            it was.
        min_ratio: for all but "step": the lowest rate over the full one.
        power: for "poly".
        restart_period, restart_factor: for "cosine_restarts": epochs of the first cycle, and how
            many times longer each next one is.

    Returns:
        (epochs * steps_per_epoch,) float32.

    Raises:
        UserError: more than `MOST_STEPS`.
        ValueError: for another `lr_type`, or nothing to train.
    """
    _require_steps(epochs, steps_per_epoch)
    total = epochs * steps_per_epoch
    if lr_type == "step":
        rates = step_rates(
            rate, total_steps=total, steps_per_epoch=steps_per_epoch, milestones=milestones
        )
    elif lr_type in ("cosine", "dynamic"):
        rates = cosine_rates(
            rate, total_steps=total, warmup_steps=warmup_steps, min_ratio=min_ratio
        )
    elif lr_type == "poly":
        rates = poly_rates(
            rate, total_steps=total, warmup_steps=warmup_steps, power=power, min_ratio=min_ratio
        )
    elif lr_type == "cosine_restarts":
        period = restart_period * steps_per_epoch
        rates = restart_rates(
            rate, total_steps=total, period=period, factor=restart_factor, min_ratio=min_ratio
        )
    else:
        raise ValueError(f'unknown schedule "{lr_type}": it is one of {", ".join(SCHEDULES)}')
    return (rates * warmup_factors(total, warmup_steps, warmup_ratio)).astype(np.float32)


def _require_steps(epochs: int, steps_per_epoch: int) -> None:
    """Refuse a run without a step, or one whose rates alone would fill the memory.

    Raises:
        UserError: more than `MOST_STEPS`.
        ValueError: none.
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
