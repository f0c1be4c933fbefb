# SPDX-License-Identifier: Apache-2.0
"""The command `export`: a checkpoint becomes a file for deployment."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from ..export.plan import plan_export
from ..model_utils.config import Config, load_config
from ..model_utils.device_adapter import choose_device
from ..model_utils.moxing_adapter import modelarts

DESCRIPTION = """\
Export a Faster R-CNN detector for deployment.

Writes --file_name (.mindir, .onnx or .air), with several canvases a file for each, and <file>.json,
which tells programs what goes in and comes out. Each is run once and compared with the network."""


def main(argv: Sequence[str]) -> int:
    """Export as the arguments say; return the exit code.

    Args:
        argv: the command line without the program's name.
    """
    config = choose_device(load_config(argv, description=DESCRIPTION, program="export"))
    with modelarts(config, "ckpt_file") as outputs:
        plan = plan_export(outputs.config)
        from ..export.run import run_export  # only now: it imports MindSpore

        return run_export(outputs.config, plan, _score(outputs.config))


def _score(config: Config) -> Callable[[Path], float] | None:
    """What measures an 8-bit model on the validation images; None where none are named."""
    if not (config.int8 and config.is_given("coco_root")):
        return None
    from ..evaluation.run import average_precision

    return functools.partial(average_precision, config)
