# SPDX-License-Identifier: Apache-2.0
"""The command `merge`: several data sets become one."""

import argparse
from collections.abc import Sequence

from ..base.arguments import ArgumentParser
from ..base.errors import UserError
from ..base.program import command
from ..data.formats.merge import merge_sets
from ..data.formats.part import ReadOptions
from ..data.formats.recognise import require_parts
from .import_data import add_shared, print_reports

DESCRIPTION = """\
Put several data sets together as one in COCO's layout; classes of one name are one class.

Parts of a name (train, val, test) are put together. Pictures are linked, and copied where there can
be no link; they are in a folder for each set."""


def main(argv: Sequence[str]) -> int:
    """Merge as the arguments say; return the exit code.

    Args:
        argv: the command line without the program's name.

    Raises:
        UserError: a set cannot be read, or the output exists.
    """
    given = _parser().parse_args(argv)
    if len(given.folders) < 2:
        raise UserError("command line: merge takes two data sets or more; see --help")
    reading = ReadOptions(given.voc_difficult, given.voc_corners)
    sets = [require_parts(folder, "auto", reading) for folder in given.folders]
    lines, reports = merge_sets(sets, given.folders, given.output, copy=given.copy)
    print_reports(reports)
    print("\n".join(lines))
    print(f"written: {given.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog=command("merge"),
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="+", metavar="DIR", help="a data set, in any known layout")
    parser.add_argument("--output", required=True, metavar="DIR", help="a new folder")
    add_shared(parser)
    return parser
