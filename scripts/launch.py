# SPDX-License-Identifier: Apache-2.0
"""`src.processes.launch` from any folder (`python -m` would look for `src` in the current one)."""

from src.base.errors import run_entry
from src.processes.launch import main

if __name__ == "__main__":
    run_entry(main)
