# SPDX-License-Identifier: Apache-2.0
"""From `checkpoint_path` to a detector."""

import contextlib
from collections.abc import Callable
from typing import Any

from ..model_utils.config import Config
from .choosing import exported_format
from .exported import open_exported
from .interface import OpenBackend


def open_backend(
    config: Config,
    *,
    min_score: float | None = None,
    say: Callable[[str], None] = print,
    compiling: Callable[[str], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
) -> OpenBackend:
    """Open the detector that `checkpoint_path` names: the one way from a file to detections.

    Evaluation, prediction, a server and `Detector` take and refuse the same files. For what
    MindSpore runs, the device has been initialised.

    Args:
        config: of the user; what belongs to the detector is taken from the file.
        min_score: scores down to this one are wanted, even where test_score_thr is higher; an
            exported model has its own threshold.
        say, compiling: see `CompileCache`.

    Raises:
        UserError: the file cannot be used, or contradicts what the user has set.
    """
    if exported_format(config.checkpoint_path):
        return open_exported(config)
    # Only now: exported models run where there is no MindSpore.
    from ..graph_cache.compile_cache import CompileCache
    from .checkpoint import open_checkpoint

    return open_checkpoint(
        config, lambda effective: CompileCache(effective, say, compiling), min_score
    )
