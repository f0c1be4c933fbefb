# SPDX-License-Identifier: Apache-2.0
"""Where the repository is, and processes that find its modules from any folder."""

import os
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
RESOURCES = REPO / "tests" / "resources"


def importing(**more: str) -> dict[str, str]:
    """Environment for a Python process that imports `src` and `tests`."""
    return {**os.environ, "PYTHONPATH": str(REPO), **more}
