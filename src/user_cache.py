# SPDX-License-Identifier: Apache-2.0
"""Where this project keeps what it can make again: compiled operators and graphs."""

import os
from pathlib import Path


def user_cache() -> Path | None:
    """Return the project's folder in $XDG_CACHE_HOME or ~/.cache; it need not exist.

    None for a user without a home folder: `~` would be a folder of that name.
    """
    root = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(root) if os.path.isabs(root) else Path(os.path.expanduser("~"), ".cache")
    return base / "faster_rcnn_mindspore" if base.is_absolute() else None
