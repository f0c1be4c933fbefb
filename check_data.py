# SPDX-License-Identifier: Apache-2.0
"""Check a data set: python check_data.py DATA [--config_path FILE] [--key value ...]."""

from src.base.errors import run_entry
from src.commands.check import main

if __name__ == "__main__":
    run_entry(main)
