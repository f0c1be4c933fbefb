# SPDX-License-Identifier: Apache-2.0
"""`src.launch` from any folder: `python -m src.launch` would look for `src` in the current one."""

from src.errors import run_entry
from src.launch import main

if __name__ == "__main__":
    run_entry(main)
