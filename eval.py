# SPDX-License-Identifier: Apache-2.0
"""Evaluate a detector: python eval.py --checkpoint_path FILE [--key value ...]."""

from src.base.errors import run_entry
from src.commands.eval import main

if __name__ == "__main__":
    run_entry(main)
