# SPDX-License-Identifier: Apache-2.0
"""The command ``python -m src.visualize``; see `pictures.visualize`."""

from .base.errors import run_entry
from .pictures.visualize import main

if __name__ == "__main__":
    run_entry(main)
