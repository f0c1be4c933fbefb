# SPDX-License-Identifier: Apache-2.0
"""The command `browse`: sheets of a data set's pictures, as they are and as training sees them."""

import argparse
from collections.abc import Sequence

from ..base.errors import UserError
from ..model_utils.configuration.command_line import COMMAND_LINE

DESCRIPTION = """\
Draw a data set's pictures with their true boxes, and what augmentation makes of them:
browse [DATA] [--split val] [--pictures N] [--start K] [--only CLASS ...] [--draws D] [--key ...]

{data}

--split train|val   whose pictures (default: train)
--pictures N        so many, 24 a sheet (default: 24)
--start K           those from the K-th on (default: evenly spread over the split)
--only CLASS ...    pictures that have an object of one of these classes
--draws D           of training pictures, beside each what D epochs make of it (default: 3; 0: none)

Writes truth_SPLIT_01.png, ... and augmented_train_01.png, ... to --output_dir (default:
data_check). All other keys, as for a training:"""
DEFAULT_OUTPUT = "data_check"
MOST_PICTURES, MOST_DRAWS = 1000, 12


def parse_arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split the command line into this program's own arguments and those of the configuration.

    Args:
        argv: the command line without the program's name.

    Returns:
        This program's (`split`, `pictures`, `start`, `only`, `draws`), and the other arguments.

    Raises:
        UserError: a number that cannot be.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--split", choices=("train", "val"), default="train")
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--draws", type=int, default=3)
    try:
        own, rest = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise UserError(f"command line: {error}; see --help") from None
    limits = {"pictures": (1, MOST_PICTURES), "start": (0, 10**9), "draws": (0, MOST_DRAWS)}
    for name, (low, high) in limits.items():
        if not low <= getattr(own, name) <= high:
            raise UserError(
                f"command line: --{name} {getattr(own, name)} is not {low} to {high}; see --help"
            )
    return own, rest


def main(argv: Sequence[str]) -> int:
    """Draw as the arguments say; return the exit code.

    Args:
        argv: the command line without the program's name.
    """
    own, rest = parse_arguments(argv)
    from ..data_check.browse import Choice, draw_sheets
    from ..data_check.inputs import DATA_HELP, load_data_config

    config, lines = load_data_config(rest, DESCRIPTION.format(data=DATA_HELP))
    for line in lines:
        print(line)
    given = config.origin("output_dir") == COMMAND_LINE  # a file's is where training writes
    choice = Choice(own.split, own.pictures, own.start, tuple(own.only), own.draws)
    for path in draw_sheets(config, choice, config.output_dir if given else DEFAULT_OUTPUT):
        print(f"sheet: {path}")
    return 0
