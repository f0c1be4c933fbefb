# SPDX-License-Identifier: Apache-2.0
"""Train a detector: python train.py [--config_path FILE] [--key value ...]."""

from src.base.errors import run_entry
from src.commands.train import main

if __name__ == "__main__":
    run_entry(main)
