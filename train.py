# SPDX-License-Identifier: Apache-2.0
"""Train a detector: python train.py [--config_path FILE] [--key value ...]."""

from collections.abc import Sequence

from src.base.errors import run_entry
from src.model_utils.config import load_config
from src.model_utils.device_adapter import prepare_environment
from src.model_utils.moxing_adapter import modelarts


def main(argv: Sequence[str]) -> int:
    """Train as the arguments say; return the exit code."""
    config = load_config(argv, description="Train a Faster R-CNN detector.")
    prepare_environment(config.device_target)
    with modelarts(config, "pre_trained") as outputs:
        from src.training.loop import (
            run_training,  # only now: MindSpore reads the environment at import
        )

        return run_training(outputs.config, outputs)


if __name__ == "__main__":
    run_entry(main)
