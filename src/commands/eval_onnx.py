# SPDX-License-Identifier: Apache-2.0
"""The command `eval-onnx`: COCO's metrics of an exported ONNX model."""

import os
from collections.abc import Sequence

from ..backends.choosing import choose_runtime
from ..base.errors import UserError
from ..export.model_card import description_of
from ..model_utils.config import load_config

DESCRIPTION = """\
Evaluate an exported ONNX model with COCO's metrics, in ONNX Runtime or OpenVINO on the CPU.

--file_name FILE  the model that export.py has written, or its description (FILE.onnx.json); of
                  several canvases any of the files

The same as eval.py with the file as --checkpoint_path, under the model zoo's name."""


def main(argv: Sequence[str]) -> int:
    """Evaluate as the arguments say; return the exit code.

    Args:
        argv: the command line without the program's name.

    Raises:
        UserError: no model is given.
    """
    config = load_config(argv, description=DESCRIPTION, program="eval-onnx")
    if not config.is_given("file_name"):
        raise UserError(
            f"file_name is not given ({config.origin('file_name')}); give the model to evaluate "
            "with --file_name FILE.onnx"
        )
    path = description_of(os.path.expanduser(config.file_name), ".onnx")
    config = choose_runtime(config.replace(checkpoint_path=str(path)))
    from ..evaluation.run import run_evaluation  # only now: it imports MindSpore

    return run_evaluation(config)
