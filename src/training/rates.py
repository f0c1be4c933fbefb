# SPDX-License-Identifier: Apache-2.0
"""The learning rates of a run, from its configuration, the length of its data and its beginning."""

from collections.abc import Callable

import numpy as np

from ..base.errors import UserError
from ..base.messages import counted
from ..dataset import images_per_step
from ..lr_schedule import rates_of_run, scaled_rate
from ..model_utils.config import PROGRAM, Config
from ..model_utils.configuration.command_line import COMMAND_LINE
from ..model_utils.configuration.notes import without_effect
from ..model_utils.cpu_operators import faster_format

# Of the steps of a run with pretrained weights, so many times fewer warm up at most.
_WARMUP_SHARE = 4
_SMALLER_RATE = 0.25  # over a recipe's, for a detector that has seen the classes


def settle_warmup(config: Config, steps: int, say: Callable[[str], None]) -> Config:
    """Shorten a warm-up that would take most of a short run from pretrained weights.

    Recipes warm up for as long as random weights need. A detector is often tuned for fewer steps
    than that, and would never reach its rate, nor a cosine fall. What the command line or a program
    asks for stays, and so does everything from scratch.

    Args:
        config: uses warmup_step, pre_trained and epoch_size.
        steps: an epoch's.
        say: prints a line.

    Returns:
        The configuration to use.
    """
    most = max(config.epoch_size * steps // _WARMUP_SHARE, 1)
    if _asked_for(config, "warmup_step") or not config.pre_trained or config.warmup_step <= most:
        return config
    say(
        f"warmup_step {most} instead of {config.warmup_step}: with pre_trained, a quarter of the "
        f"run's {counted(config.epoch_size * steps, 'step')}; --warmup_step sets another"
    )
    return config.replace(warmup_step=most)


def warn_of_warmup(config: Config, steps: int, say: Callable[[str], None]) -> None:
    """Say that a run ends before its warm-up does, and never has its learning rate.

    Args:
        config: uses warmup_step and epoch_size.
        steps: an epoch's.
        say: prints a line.
    """
    total = config.epoch_size * steps
    if config.warmup_step >= total:
        say(
            f"WARNING: warmup_step {config.warmup_step} is no less than the run's "
            f"{counted(total, 'step')}: it never has its learning rate; --warmup_step "
            f"{total // _WARMUP_SHARE} warms up for a quarter of it"
        )


def rate_advice(config: Config, known_classes: int) -> list[str]:
    """Return a line for whoever tunes a detector at the rate of a recipe.

    Args:
        config: uses base_lr.
        known_classes: how many of the data's classes the weights have seen.
    """
    if not known_classes or _asked_for(config, "base_lr"):
        return []
    return [
        "note: these weights have seen classes of this data; a quarter of the rate of a recipe "
        f"from scratch keeps more of it: --base_lr {_SMALLER_RATE * config.base_lr:g}"
    ]


def _asked_for(config: Config, key: str) -> bool:
    """Whether the command line or a program has set a key, not a recipe."""
    return config.origin(key) in (COMMAND_LINE, PROGRAM)


def run_rates(
    config: Config, steps: int, world_size: int, say: Callable[[str], None]
) -> tuple[Config, np.ndarray]:
    """Return the configuration to use, and the rate of every step, (epochs * steps,) float32.

    Args:
        config: uses the keys of the learning rate, batch_size, accumulate_steps, epoch_size and
            pre_trained.
        steps: an epoch's.
        world_size: number of ranks.
        say: prints a line.

    Raises:
        UserError: Adam, with the rate of SGD.
    """
    if config.optimizer != "sgd" and not config.is_given("base_lr"):
        raise UserError(
            f"{config.origin('optimizer')}: optimizer: {config.optimizer} wants another learning "
            f"rate than SGD's default base_lr {config.base_lr:g}; give base_lr, such as 0.0002 for "
            "lr_base_batch 16"
        )
    batch, count = images_per_step(config, world_size), config.accumulate_steps
    rate = scaled_rate(config.base_lr, global_batch=batch, base_batch=config.lr_base_batch)
    times = f", {count} times" if count > 1 else ""
    say(
        f"learning rate {rate:.6g}: base_lr {config.base_lr:g} for {config.lr_base_batch} "
        f"images a step, scaled to {batch} "
        f"({config.batch_size} on {'each of ' if world_size > 1 else ''}"
        f"{counted(world_size, 'device')}{times})"
    )
    for line in (*without_effect(config), *faster_format(config)):
        say(line)
    config = settle_warmup(config, steps, say)
    warn_of_warmup(config, steps, say)
    return config, rates_of_run(config, rate, steps)
