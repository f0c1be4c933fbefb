# SPDX-License-Identifier: Apache-2.0
"""The command `check`: what is wrong with a data set, what is in it, and settings that fit it."""

import argparse
from collections.abc import Sequence

from ..base.arguments import own_parser, within
from ..model_utils.configuration.command_line import output_folder
from ..model_utils.device_adapter import choose_device

DESCRIPTION = """\
Check a data set before a training: check [DATA] [--pictures N] [--key value ...]

{data}

--pictures N   open at most so many pictures of each split, evenly spread (default: all)

Prints a summary and writes --output_dir (default: data_check) with data_check.html, data_check.json
and advice.yaml, which --config_path of a training takes. --device_target says what trains: a CPU
gets other advice than an accelerator. All other keys, as for a training:"""


def parse_arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split the command line into this program's own arguments and those of the configuration.

    Args:
        argv: the command line without the program's name.

    Returns:
        This program's (`pictures`), and the other arguments.

    Raises:
        UserError: a number that cannot be.
    """
    parser = own_parser()
    parser.add_argument("--pictures", type=within(0))
    return parser.parse_known_args(argv)


def main(argv: Sequence[str]) -> int:
    """Check as the arguments say; return the exit code.

    Args:
        argv: the command line without the program's name.
    """
    own, rest = parse_arguments(argv)
    from ..data_check.inputs import DATA_HELP, load_data_config
    from ..data_check.run import DEFAULT_OUTPUT, run_check

    config, lines = load_data_config(rest, DESCRIPTION.format(data=DATA_HELP), "check")
    for line in lines:
        print(line)
    config = choose_device(config)  # what is advised depends on it
    folder = output_folder(config, DEFAULT_OUTPUT)
    return run_check(config, folder, most_pictures=own.pictures)
