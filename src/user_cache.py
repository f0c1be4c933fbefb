# SPDX-License-Identifier: Apache-2.0
"""Where this project keeps what it can make again: compiled operators and graphs."""

import os
from pathlib import Path


def user_cache() -> Path:
    """Return the project's folder in $XDG_CACHE_HOME or ~/.cache; it need not exist."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(root) if os.path.isabs(root) else Path(os.path.expanduser("~"), ".cache")
    return base / "faster_rcnn_mindspore"
