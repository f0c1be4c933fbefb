# SPDX-License-Identifier: Apache-2.0
"""Evaluate a detector: python eval.py --checkpoint_path FILE [--key value ...]."""

from collections.abc import Sequence

from src.base.errors import run_entry
from src.model_utils.config import load_config
from src.model_utils.device_adapter import prepare_environment
from src.model_utils.moxing_adapter import modelarts


def main(argv: Sequence[str]) -> int:
    """Evaluate as the arguments say; return the exit code."""
    config = load_config(argv, description="Evaluate a Faster R-CNN detector with COCO's metrics.")
    prepare_environment(config.device_target)
    with modelarts(config, "checkpoint_path") as outputs:
        from src.evaluation.run import run_evaluation  # only now: it imports MindSpore

        return run_evaluation(outputs.config)


if __name__ == "__main__":
    run_entry(main)
