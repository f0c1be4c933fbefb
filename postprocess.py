# SPDX-License-Identifier: Apache-2.0
"""Score result files: python postprocess.py --ann_file FILE --result_path FOLDER [--key ...]."""

from src.base.errors import run_entry
from src.commands.postprocess import main

if __name__ == "__main__":
    run_entry(main)
