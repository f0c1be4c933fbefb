# SPDX-License-Identifier: Apache-2.0
"""The hooks that come along, by the keys that ask for them."""

from collections.abc import Callable

from ..model_utils.config import Config
from .callback import Callback
from .mindspore_summary import MindSporeSummary
from .profiling import Profiling
from .tensorboard import TensorBoardEvents, is_installed, require_installed


def builtin_hooks(config: Config, say: Callable[[str], None]) -> list[Callback]:
    """Return the hooks that a configuration asks for.

    Args:
        config: uses tensorboard, log_summary, enable_profiling and profiling_steps.
        say: prints a line.

    Raises:
        UserError: one needs a package that is not installed.
    """
    hooks: list[Callback] = []
    if config.tensorboard == "on":
        require_installed()
    if config.tensorboard != "off" and is_installed():
        hooks.append(TensorBoardEvents())
    if config.log_summary:
        hooks.append(MindSporeSummary())
    if config.enable_profiling:
        hooks.append(Profiling(config.profiling_steps, say))
    return hooks
