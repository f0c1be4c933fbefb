# SPDX-License-Identifier: Apache-2.0
"""Export a detector: python export.py --ckpt_file FILE --file_format FORMAT [--key value ...]."""

from collections.abc import Sequence

from src.errors import run_entry
from src.model_utils.config import load_config
from src.model_utils.device_adapter import prepare_environment

DESCRIPTION = """\
Export a Faster R-CNN detector for deployment.

Writes --file_name (.mindir, .onnx or .air) and, beside it, <file>.json, which tells programs what
goes in and comes out. The file is run once and compared with the network."""


def main(argv: Sequence[str]) -> int:
    """Export as the arguments say; return the exit code."""
    config = load_config(argv, description=DESCRIPTION)
    from src.export_plan import plan_export

    plan = plan_export(config)
    prepare_environment(config.device_target)
    from src.exporting import run_export  # only now: MindSpore reads the environment at import

    return run_export(config, plan)


if __name__ == "__main__":
    run_entry(main)
