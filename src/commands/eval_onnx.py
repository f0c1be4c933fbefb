# SPDX-License-Identifier: Apache-2.0
"""The command `eval-onnx`: COCO's metrics of an exported ONNX model."""

from collections.abc import Sequence

from ..model_utils.config import load_config
from ..model_utils.device_adapter import prepare_environment

DESCRIPTION = """\
Evaluate an exported ONNX model with COCO's metrics, in ONNX Runtime on the CPU.

--file_name FILE  the model that export.py has written, or its description (FILE.onnx.json); of
                  several canvases any of the files

Classes, canvases, batch and all that is done to a picture are those of the description; the other
keys say which images are looked at, as for eval.py."""


def main(argv: Sequence[str]) -> int:
    """Evaluate as the arguments say; return the exit code.

    Args:
        argv: the command line without the program's name.
    """
    config = load_config(argv, description=DESCRIPTION, program="eval-onnx")
    prepare_environment("CPU")
    from ..evaluation.exported import run_exported_evaluation  # only now: it imports MindSpore

    return run_exported_evaluation(config)
