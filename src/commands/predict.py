# SPDX-License-Identifier: Apache-2.0
"""The command `predict`: the objects in images, drawn and as JSON."""

import argparse
from collections.abc import Sequence

from ..base.errors import UserError
from ..model_utils.config import load_config
from ..model_utils.configuration.command_line import COMMAND_LINE
from ..model_utils.device_adapter import choose_device

DESCRIPTION = """\
Detect objects in images: draws the boxes and writes them as JSON.

--input PATH [PATH ...]  images, or folders whose images are taken
--recursive              take the images in folders of these folders too
--min_score SCORE        detections below it are left out (default: 0.5)

Without --config_path, the model's settings are those of the checkpoint, and of the config.yaml that
training saved beside it. Results go to --output_dir (default: predictions): NAME.png for each image
and predictions.json. All other keys:"""


def parse_arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split the command line into this program's own arguments and those of the configuration.

    Args:
        argv: the command line without the program's name.

    Returns:
        This program's (`input`, `recursive`, `min_score`), and the other arguments.

    Raises:
        UserError: no input, or a score outside 0..1.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--input", nargs="+", default=[])
    parser.add_argument("--recursive", action="store_true")
    parser.add_argument("--min_score", default="0.5")
    try:
        own, rest = parser.parse_known_args(argv)
        own.min_score = float(own.min_score)
    except argparse.ArgumentError as error:
        raise UserError(f"command line: {error}; see --help") from None
    except ValueError:
        raise UserError(f"command line: --min_score {own.min_score!r} is not a number") from None
    asks_for_help = "-h" in rest or "--help" in rest
    if not own.input and not asks_for_help:
        raise UserError("command line: nothing to look at; give --input IMAGE or FOLDER")
    if not 0.0 <= own.min_score <= 1.0:
        raise UserError(f"command line: --min_score {own.min_score} is not between 0 and 1")
    return own, rest


def main(argv: Sequence[str]) -> int:
    """Predict as the arguments say; return the exit code.

    Args:
        argv: the command line without the program's name.
    """
    own, rest = parse_arguments(argv)
    # Only now: wrong arguments are answered without OpenCV.
    from ..images.listing import find_images
    from ..pictures.prediction import DEFAULT_OUTPUT, run_prediction

    config = load_config(rest, description=DESCRIPTION, program="predict")
    if config.origin("output_dir") != COMMAND_LINE:  # a file's is where training writes
        config = config.replace(output_dir=DEFAULT_OUTPUT)
    paths, notes = find_images(own.input, recursive=own.recursive, results=config.output_dir)
    for note in notes:
        print(note)
    config = choose_device(config)
    return run_prediction(config, paths, own.min_score)
