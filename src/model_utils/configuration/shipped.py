# SPDX-License-Identifier: Apache-2.0
"""Where the configuration files are that come with the project.

In a checkout they lie beside `src`, in an installed package within it: `default_config.yaml` and
its variants, and the examples in `configs/`.
"""

import os
from pathlib import Path

DEFAULT_NAME = "default_config.yaml"
_PACKAGE = Path(__file__).resolve().parents[2]
FOLDER = _PACKAGE if (_PACKAGE / DEFAULT_NAME).is_file() else _PACKAGE.parent


def find_config(path: str) -> str:
    """Return the configuration file that a user means.

    Args:
        path: as it was given.

    Returns:
        `path`; where there is no such file but the project has one of this name (such as
        `default_config_101.yaml` or `configs/quickstart.yaml`), that one.
    """
    name = Path(path)
    known = FOLDER / name
    is_ours = name.suffix == ".yaml" and (name.parent.name, len(name.parts)) in (
        ("", 1),
        ("configs", 2),
    )
    return str(known) if is_ours and not os.path.lexists(path) and known.is_file() else path
