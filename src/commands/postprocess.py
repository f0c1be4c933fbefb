# SPDX-License-Identifier: Apache-2.0
"""The command `postprocess`: COCO's metrics of the C++ program's result files."""

from collections.abc import Sequence

from ..model_utils.config import load_config

DESCRIPTION = """\
Score the result files of ascend310_infer with COCO's metrics.

--ann_file FILE       COCO annotations of the images
--result_path FOLDER  result_Files, with <name>_0.bin, <name>_1.bin, <name>_2.bin for each image
--report              what is wrong with them, too, in evaluation_report.json beside the results

The class names come from model.json in the folder; older result files have none, for them
coco_classes counts. Detections are written as COCO results to --result_file."""


def main(argv: Sequence[str]) -> int:
    """Score as the arguments say; return the exit code.

    Args:
        argv: the command line without the program's name.
    """
    config = load_config(argv, description=DESCRIPTION)
    from ..evaluation.postprocessing import run_postprocess

    return run_postprocess(config)
