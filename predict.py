# SPDX-License-Identifier: Apache-2.0
"""Detect objects in images: python predict.py --input IMAGE|FOLDER ... --checkpoint_path FILE."""

from src.base.errors import run_entry
from src.commands.predict import main

if __name__ == "__main__":
    run_entry(main)
