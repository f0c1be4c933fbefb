# SPDX-License-Identifier: Apache-2.0
"""Data without a part to evaluate on: what is said of it, wherever it shows."""

import os
import shlex
from collections.abc import Sequence

from ..base.messages import one_line, short_list
from ..base.program import command

# Stands beside every number that pictures of the training have given.
ON_TRAINING = "measured on the training pictures"


def is_training_data(training: str, validation: str) -> bool:
    """Say whether what a run is evaluated on is what it learns from.

    Args:
        training: what stands for the annotations of the training pictures.
        validation: what stands for those that are evaluated on.
    """
    return os.path.realpath(training) == os.path.realpath(validation)


def how_to_split(root: str) -> str:
    """Return how a validation part is made.

    Args:
        root: folder of the data set; empty where it is no folder that can be split.
    """
    if not root:
        return "{} in anno_path and image_dir stands for train_data_type and val_data_type"
    return f"`{command('split')} {shlex.quote(one_line(root))}` makes a validation part"


def no_validation_part(root: str, names: Sequence[str] = ()) -> str:
    """Say that data has no validation part, and how one is made.

    Args:
        root: folder of the data set; empty where it is no folder that can be split.
        names: of the parts that it has.
    """
    only = f" (only {short_list(names, 8)})" if names else ""
    return f"there is no validation part{only}; {how_to_split(root)}"


def warn_of_training_data(root: str) -> str:
    """Return the warning of numbers that training pictures give.

    Args:
        root: folder of the data set.
    """
    return f"WARNING: AP is {ON_TRAINING}, and says little of others; {how_to_split(root)}"
