# SPDX-License-Identifier: Apache-2.0
"""The command ``python -m src.synthetic``; see `data.synthetic`."""

from .base.errors import run_entry
from .data.synthetic import main

if __name__ == "__main__":
    run_entry(main)
