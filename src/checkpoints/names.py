# SPDX-License-Identifier: Apache-2.0
"""What the files of a run's checkpoints are called."""

import re
from pathlib import Path

PREFIX = "faster_rcnn"
BEST_NAME = "best.ckpt"
_NAME = re.compile(rf"{PREFIX}-([0-9]{{1,18}})_([0-9]{{1,18}})\.ckpt")


def checkpoint_name(epoch: int, step: int) -> str:
    """Return the file name of a checkpoint.

    Args:
        epoch: the epoch it is of, from 1.
        step: steps of this epoch that are done.
    """
    return f"{PREFIX}-{epoch}_{step}.ckpt"


def checkpoint_position(name: str) -> tuple[int, int] | None:
    """Return (epoch, step) of a checkpoint's file name, None for any other name.

    Args:
        name: of a file, without its folder.
    """
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def find_checkpoints(folder: str | Path) -> list[Path]:
    """Return the checkpoints in `folder` by epoch and step, the newest one last.

    Args:
        folder: searched without the folders in it.
    """
    found = [
        (position, path)
        for path in Path(folder).glob(f"{PREFIX}-*.ckpt")
        if (position := checkpoint_position(path.name))
    ]
    return [path for _, path in sorted(found)]
