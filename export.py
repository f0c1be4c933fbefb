# SPDX-License-Identifier: Apache-2.0
"""Export a detector: python export.py --ckpt_file FILE --file_format FORMAT [--key value ...]."""

from src.base.errors import run_entry
from src.commands.export import main

if __name__ == "__main__":
    run_entry(main)
