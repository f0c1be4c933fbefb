# SPDX-License-Identifier: Apache-2.0
"""`tests/helpers/tiny_run.py` as a program that scripts start from any folder."""

import runpy
import sys
from pathlib import Path


def make_data(root: Path) -> Path:
    """Draw the tiny data set; see the helper."""
    from tests.helpers.tiny_run import make_data as make

    return make(root)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    runpy.run_module("tests.helpers.tiny_run", run_name="__main__")
