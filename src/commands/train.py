# SPDX-License-Identifier: Apache-2.0
"""The command `train`: a configuration becomes a trained detector."""

from collections.abc import Sequence

from ..model_utils.config import load_config
from ..model_utils.device_adapter import choose_device
from ..model_utils.moxing_adapter import modelarts


def main(argv: Sequence[str]) -> int:
    """Train as the arguments say; return the exit code.

    Args:
        argv: the command line without the program's name.
    """
    config = choose_device(
        load_config(argv, description="Train a Faster R-CNN detector.", program="train")
    )
    with modelarts(config, "pre_trained") as outputs:
        from ..training.loop import run_training  # only now: it imports MindSpore

        return run_training(outputs.config, outputs)
