# SPDX-License-Identifier: Apache-2.0
"""`tests/helpers/rank_run.py` as a program that scripts start from any folder."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    runpy.run_module("tests.helpers.rank_run", run_name="__main__")
