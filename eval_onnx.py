# SPDX-License-Identifier: Apache-2.0
"""Evaluate an exported model: python eval_onnx.py --file_name FILE.onnx [--key value ...]."""

from src.base.errors import run_entry
from src.commands.eval_onnx import main

if __name__ == "__main__":
    run_entry(main)
