# SPDX-License-Identifier: Apache-2.0
"""The command `augment-sheet`: training pictures as the network sees them."""

import argparse
from collections.abc import Sequence

from ..base.arguments import own_parser, within
from ..model_utils.config import load_config
from ..model_utils.device_adapter import prepare_environment

DESCRIPTION = """\
Draw augmented training pictures with their boxes: output_dir/augmented.png.

--pictures N   so many of the training split, the first ones of the epoch (default: 24)
--epoch E      as this epoch draws them (default: 1)

All other keys, as for a training:"""

MOST_PICTURES = 1000


def parse_arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split the command line into this program's own arguments and those of the configuration.

    Args:
        argv: the command line without the program's name.

    Returns:
        This program's (`pictures`, `epoch`), and the other arguments.

    Raises:
        UserError: a number that cannot be.
    """
    parser = own_parser()
    parser.add_argument("--pictures", type=within(1, MOST_PICTURES), default=24)
    parser.add_argument("--epoch", type=within(1), default=1)
    return parser.parse_known_args(argv)


def main(argv: Sequence[str]) -> int:
    """Draw as the arguments say; return the exit code.

    Args:
        argv: the command line without the program's name.
    """
    own, rest = parse_arguments(argv)
    config = load_config(rest, description=DESCRIPTION, program="augment-sheet")
    prepare_environment("CPU")  # pictures are prepared on it, whatever trains
    from ..pictures.augment_sheet import draw_augment_sheet  # only now: it imports MindSpore

    print(f"augmented pictures: {draw_augment_sheet(config, own.pictures, own.epoch)}")
    return 0
