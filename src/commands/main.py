# SPDX-License-Identifier: Apache-2.0
"""The program ``faster-rcnn``: one command for each thing that can be done."""

import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from .. import __version__
from ..base.errors import UserError, run_entry
from ..base.messages import short
from ..base.program import PACKAGE, command


class Command(NamedTuple):
    """A command.

    Attributes:
        module: in this package; its `main(argv)` returns the exit code.
        summary: a line for --help.
    """

    module: str
    summary: str


COMMANDS = {
    "train": Command("commands.train", "train a detector"),
    "eval": Command("commands.eval", "evaluate a detector with COCO's metrics"),
    "predict": Command("commands.predict", "detect objects in images"),
    "serve": Command(
        "commands.serve", "answer requests over HTTP, with a page to drop pictures on"
    ),
    "export": Command("commands.export", "write a detector as MINDIR, ONNX or AIR"),
    "eval-onnx": Command("commands.eval_onnx", "evaluate an exported ONNX model"),
    "postprocess": Command("commands.postprocess", "score the results of the C++ program"),
    "convert": Command("convert_checkpoint", "convert other programs' checkpoints, or back"),
    "weights": Command("commands.weights", "list published weights, or download some by name"),
    "import": Command("commands.import_data", "bring a data set from one format into another"),
    "split": Command("commands.split", "split a data set into parts to train and evaluate on"),
    "merge": Command("commands.merge", "put several data sets together"),
    "check": Command("commands.check", "check a data set, and advise settings for it"),
    "browse": Command("commands.browse", "draw sheets of true boxes and of augmentation"),
    "check-records": Command("data.record_check", "check converted records for damage"),
    "visualize": Command("pictures.visualize", "draw the loss curve and detections of a run"),
    "report": Command("commands.report", "write one page on a run: report.html"),
    "augment-sheet": Command("commands.augment_sheet", "draw augmented training pictures"),
    "synthetic": Command("data.synthetic", "draw a small data set in COCO's layout"),
    "launch": Command("processes.launch", "train in several processes"),
}


def run() -> NoReturn:
    """Run the command that the command line names; the entry point of the installed program.

    Raises:
        SystemExit: always, with the exit code.
    """
    run_entry(main)


def main(argv: Sequence[str]) -> int:
    """Run a command.

    Args:
        argv: the command's name and its arguments; or `--help`, `--version`.

    Returns:
        The command's exit code.

    Raises:
        UserError: there is no such command.
    """
    name = argv[0] if argv else ""
    if name in ("-h", "--help", "help"):
        print(_help())
        return 0
    if name == "--version":
        print(__version__)
        return 0
    if name not in COMMANDS:
        raise UserError(f"command line: {_problem(name)}; see {command()} --help")
    sys.argv[0] = command(name)  # what the command's --help calls it
    module = importlib.import_module(f"{PACKAGE}.{COMMANDS[name].module}")
    return module.main(argv[1:])


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {entry.summary}" for name, entry in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {command()} COMMAND [ARGUMENT ...]",
            "",
            "Train, evaluate and use Faster R-CNN on MindSpore.",
            "",
            *lines,
            "",
            f"{command()} COMMAND --help tells more about a command, --help all every key of it,",
            "--version the version.",
        ]
    )


def _problem(name: str) -> str:
    if not name:
        return "no command is given"
    near = difflib.get_close_matches(name[:100], COMMANDS, 1)
    return f"{short(name)} is no command{f'; did you mean {near[0]}?' if near else ''}"
