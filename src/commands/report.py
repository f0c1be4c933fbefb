# SPDX-License-Identifier: Apache-2.0
"""The command `report`: one page on a run."""

import argparse
from collections.abc import Sequence

from ..base.arguments import asks_for_help, own_parser, within
from ..base.errors import UserError
from ..model_utils.config import load_config

DESCRIPTION = """\
Write RUN_DIR/report.html: one page on a training, to be opened from the file.

RUN_DIR        the output_dir of a training
--pictures N   most pictures in its gallery (default: 48); 0: none is read

Settings and the place of the data are those of the run's own config.yaml, but for the keys given
here:"""

MOST_PICTURES = 48


def parse_arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split the command line into this program's own arguments and those of the configuration.

    Args:
        argv: the command line without the program's name.

    Returns:
        This program's (`folder`, `pictures`), and the other arguments.

    Raises:
        UserError: no folder, or a number that cannot be.
    """
    parser = own_parser()
    parser.add_argument("--pictures", type=within(0, MOST_PICTURES), default=MOST_PICTURES)
    folder = argv[0] if argv and not argv[0].startswith("-") else ""
    own, rest = parser.parse_known_args(argv[1:] if folder else argv)
    own.folder = folder
    if not folder and not asks_for_help(rest):
        raise UserError("command line: no run is named; give its folder first, then other options")
    return own, rest


def main(argv: Sequence[str]) -> int:
    """Write the page; return the exit code.

    Args:
        argv: the command line without the program's name.
    """
    own, rest = parse_arguments(argv)
    config = load_config(rest, description=DESCRIPTION, program="report")
    from ..report.build import write_report  # only now: it imports OpenCV and matplotlib

    print(f"report: {write_report(config, own.folder, pictures=own.pictures)}")
    return 0
