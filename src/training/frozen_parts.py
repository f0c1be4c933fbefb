# SPDX-License-Identifier: Apache-2.0
"""How much of the backbone is frozen, by what the weights come from.

The defaults, fixed normalisation and two frozen stages, belong to pretrained weights. With random
ones they would freeze noise: a detector trains on top of it, and never becomes a good one.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..base.errors import UserError
from ..model_utils.config import Config

if TYPE_CHECKING:
    from ..processes.ranks import Ranks

FROM_SCRATCH = {"norm": "bn", "frozen_stages": 0}


def settle_frozen_parts(
    config: Config, stored: Mapping[str, Any] | None, ranks: "Ranks", say: Callable[[str], None]
) -> Config:
    """Return the configuration that a training run really has.

    Args:
        config: of the user.
        stored: the meta of the checkpoint that the run goes on from, None at its beginning; what
            rank 0 has decides, as the files are its.
        ranks: the processes of the run; all call this.
        say: prints a line.
    """
    if config.resume:
        here = stored and {key: stored[key] for key in FROM_SCRATCH if key in stored}
        known = ranks.broadcast(here)
        if known is not None:
            return settings_of_run(config, known)
    if config.pre_trained:
        return config
    config, lines = settings_from_scratch(config)
    for line in lines:
        say(line)
    return config


def settings_from_scratch(config: Config) -> tuple[Config, list[str]]:
    """Let the defaults give way to what training without pretrained weights needs.

    What the user has set stays, with a warning where it freezes random weights.

    Args:
        config: of the user, without `pre_trained`.

    Returns:
        The configuration to use, and lines for the user.
    """
    open_keys = {key: value for key, value in FROM_SCRATCH.items() if not config.is_given(key)}
    settled = config.replace(**open_keys)
    lines = []
    if settled != config:
        text = " and ".join(f"{key} {value}" for key, value in open_keys.items())
        lines.append(f"no weights given (pre_trained is empty): training from scratch, with {text}")
    frozen = [f"frozen_stages {settled.frozen_stages}"] if settled.frozen_stages else []
    if settled.norm == "frozen_bn":
        frozen.insert(0, "norm frozen_bn")
    if frozen:
        lines.append(
            f"WARNING: no weights given (pre_trained is empty), but {' and '.join(frozen)} keeps "
            "random values as they are, which costs accuracy; give pre_trained, or --norm bn "
            "--frozen_stages 0"
        )
    return settled, lines


def settings_of_run(config: Config, meta: Mapping[str, Any]) -> Config:
    """Go on with what a run began with, where the user has not set it.

    Args:
        config: of the user, with `resume`.
        meta: of the run's checkpoint, or the part of it that these keys are.

    Raises:
        UserError: a value in it cannot be.
    """
    keys = [key for key in FROM_SCRATCH if key in meta and not config.is_given(key)]
    try:
        return config.replace(**{key: meta[key] for key in keys})
    except UserError as error:
        raise UserError(
            f"resume {config.resume}: its checkpoint says: {error}; take another checkpoint"
        ) from None
