# SPDX-License-Identifier: Apache-2.0
"""The command `weights`: which published weights there are, and their download."""

import argparse
from collections.abc import Sequence

from ..base.arguments import ArgumentParser
from ..base.messages import one_line
from ..base.program import command, program

DESCRIPTION = """\
List the published weights that have a name here, or bring some into the cache.

Names are taken wherever a checkpoint is: --pre_trained (a detector, or a classifier's backbone),
--checkpoint_path and --ckpt_file (a detector), Detector("...") in Python. They are downloaded when
they are first used, checked, converted in memory and kept as they were published:
$FASTERRCNN_WEIGHTS_DIR, or ~/.cache/faster_rcnn_mindspore/weights. docs/weights.md tells more."""


def main(argv: Sequence[str]) -> int:
    """List or download as the arguments say; return the exit code.

    Args:
        argv: the command line without the program's name.
    """
    parser = ArgumentParser(
        prog=program("weights"),
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="weights to download, e.g. torchvision/resnet50"
    )
    names = parser.parse_args(argv).names
    from ..weights.cache import published_file
    from ..weights.listing import table_lines
    from ..weights.names import find

    if not names:
        for line in table_lines():
            print(line)
        print(f"`{command('weights')} NAME` downloads weights before they are needed")
        return 0
    for row in [find(name, "command line") for name in names]:
        path = published_file(row)
        key = "--checkpoint_path" if row.is_detector else "--pre_trained"
        print(one_line(f"{row.name}: {path}; use it with {key} {row.name}"))
    return 0
