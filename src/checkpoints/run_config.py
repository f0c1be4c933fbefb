# SPDX-License-Identifier: Apache-2.0
"""The config.yaml of a run, found by the program itself: what may be taken from it.

Nobody has asked for such a file, and it can have come with somebody else's checkpoint. So it counts
as a checkpoint's own settings do: only the keys that belong to weights are taken, never paths,
devices, caches or uploads, and no other file is read because it says so.
"""

import contextlib
import os
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..base.messages import short_list
from ..model_utils.config import Config
from ..model_utils.configuration import yaml_files
from ..model_utils.configuration.schema import CODE_KEYS
from ..model_utils.configuration.weights import WEIGHT_KEYS
from ..model_utils.configuration.zoo import same_value
from .meta import check_setting

RUN_CONFIG = "config.yaml"
# Not the weights', but what is found depends on them: where a run had other ones, that is said.
_OF_PREDICTION = (*CODE_KEYS, "compute_type", "max_image_pixels", "test_flip", "test_scales")
_LARGEST = 300_000  # bytes; a run writes some 5,000, and the names of its classes


def read_unasked(path: str | Path) -> dict[str, Any]:
    """Return the first document of a YAML file, without the files that it extends; unchecked.

    Args:
        path: of a file that somebody else may have written.

    Raises:
        UserError: it cannot be read, or is no configuration.
    """
    if not os.path.isfile(path) or os.path.getsize(path) > _LARGEST:
        raise UserError(f"{path}: not a file of at most {_LARGEST} bytes")
    return yaml_files.read_documents(str(path))[0]


def adopt_run_config(config: Config) -> tuple[Config, list[str]]:
    """Take over the model's settings that a run has saved beside its checkpoint.

    A run's folder holds `config.yaml` and `ckpt_0/`, so the file is looked for in the folder of
    `checkpoint_path` and in the one above; not at all where the user has given --config_path. Set
    keys stay, and the checkpoint's own settings go first (`Config.is_given` is false for these).

    Args:
        config: of the user.

    Returns:
        The configuration to use, and lines for the user that say what was taken and what not.
    """
    path = None if config.files or not config.checkpoint_path else _beside(config.checkpoint_path)
    if path is None:
        return config, []
    try:
        values = read_unasked(path)
        taken = {
            key: check_setting(key, values[key])
            for key in WEIGHT_KEYS
            if key in values and not config.is_given(key)
        }
        adopted = config.adopt(taken, str(path))
    except (UserError, ValueError) as error:
        return config, [f"note: {path} is not used: {error}"]
    before, after = config.to_dict(), adopted.to_dict()
    changed = [key for key in taken if after[key] != before[key]]
    passed_over = [
        key
        for key in _OF_PREDICTION
        if key in values and not config.is_given(key) and not same_value(values[key], before[key])
    ]
    lines = []
    if changed:
        lines.append(f"settings of {path}: {', '.join(changed)}")
    if passed_over:
        lines.append(
            f"note: of {path} only the model's settings are taken, not "
            f"{short_list(passed_over)}; name it with --config_path to use all of it"
        )
    return adopted, lines


def _beside(checkpoint: str) -> Path | None:
    # A path that cannot be looked at is reported when the checkpoint is read.
    with contextlib.suppress(OSError):
        for folder in Path(checkpoint).absolute().parents[:2]:
            if (folder / RUN_CONFIG).is_file():
                return folder / RUN_CONFIG
    return None
