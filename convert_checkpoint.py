# SPDX-License-Identifier: Apache-2.0
"""Convert a checkpoint: python convert_checkpoint.py --ckpt_file FILE [--output FILE]."""

from src.base.errors import run_entry
from src.convert_checkpoint import main

if __name__ == "__main__":
    run_entry(main)
