# SPDX-License-Identifier: Apache-2.0
"""The command `browse`: sheets of a data set's pictures, as they are and as training sees them."""

import argparse
from collections.abc import Sequence

from ..base.arguments import own_parser, within
from ..model_utils.configuration.command_line import output_folder

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
    parser = own_parser()
    parser.add_argument("--split", choices=("train", "val"), default="train")
    parser.add_argument("--pictures", type=within(1, MOST_PICTURES), default=24)
    parser.add_argument("--start", type=within(0), default=0)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--draws", type=within(0, MOST_DRAWS), default=3)
    return parser.parse_known_args(argv)


def main(argv: Sequence[str]) -> int:
    """Draw as the arguments say; return the exit code.

    Args:
        argv: the command line without the program's name.
    """
    own, rest = parse_arguments(argv)
    from ..data_check.browse import Choice, draw_sheets
    from ..data_check.inputs import DATA_HELP, load_data_config

    config, lines = load_data_config(rest, DESCRIPTION.format(data=DATA_HELP), "browse")
    for line in lines:
        print(line)
    choice = Choice(own.split, own.pictures, own.start, tuple(own.only), own.draws)
    for path in draw_sheets(config, choice, output_folder(config, DEFAULT_OUTPUT)):
        print(f"sheet: {path}")
    return 0
