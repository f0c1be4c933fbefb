# SPDX-License-Identifier: Apache-2.0
"""The command ``python -m src.record_check``; see `data.record_check`."""

from .base.errors import run_entry
from .data.record_check import main

if __name__ == "__main__":
    run_entry(main)
