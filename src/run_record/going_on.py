# SPDX-License-Identifier: Apache-2.0
"""How a run is gone on with."""

import shlex
from collections.abc import Sequence
from pathlib import Path


def going_on(folder: Path, settings: Path | None, callbacks: Sequence[str] = ()) -> str:
    """Return the arguments of train.py with which a run goes on, as they are typed.

    Args:
        folder: of the run.
        settings: its configuration; None where it has none.
        callbacks: its hooks, which are in no saved file.
    """
    arguments = [] if settings is None else ["--config_path", str(settings.resolve())]
    arguments += ["--resume", "auto", "--output_dir", str(folder.resolve())]
    if callbacks:
        arguments += ["--callbacks", *callbacks]
    return shlex.join(arguments)
