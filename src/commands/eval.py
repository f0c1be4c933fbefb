# SPDX-License-Identifier: Apache-2.0
"""The command `eval`: COCO's metrics of a checkpoint or an exported model."""

from collections.abc import Sequence

from ..backends.choosing import choose_runtime
from ..model_utils.config import load_config
from ..model_utils.moxing_adapter import modelarts


def main(argv: Sequence[str]) -> int:
    """Evaluate as the arguments say; return the exit code.

    Args:
        argv: the command line without the program's name.
    """
    config = choose_runtime(
        load_config(
            argv,
            description="Evaluate a Faster R-CNN detector with COCO's metrics.",
            program="eval",
        )
    )
    with modelarts(config, "checkpoint_path") as outputs:
        from ..evaluation.run import run_evaluation  # only now: it imports MindSpore

        return run_evaluation(outputs.config)
