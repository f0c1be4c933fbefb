# SPDX-License-Identifier: Apache-2.0
"""How this program and its commands are started, for what is said to the user.

In a checkout commands are scripts (`python train.py`), installed they belong to one program
(`faster-rcnn train`).
"""

import sys

PACKAGE = __name__.partition(".")[0]
IS_INSTALLED = PACKAGE != "src"
DISTRIBUTION = "faster-rcnn-mindspore"

# What `python` is given in a checkout; the other commands are `-m src NAME`.
_SCRIPTS = {
    "train": "train.py",
    "eval": "eval.py",
    "predict": "predict.py",
    "export": "export.py",
    "eval-onnx": "eval_onnx.py",
    "postprocess": "postprocess.py",
    "convert": "convert_checkpoint.py",
    "check": "check_data.py",
    "check-records": "-m src.record_check",
    "visualize": "-m src.visualize",
    "synthetic": "-m src.synthetic",
}


def command(name: str = "") -> str:
    """Return what a user types to start a command: `python train.py` or `faster-rcnn train`.

    Args:
        name: of the command; empty: of the program that has them all.
    """
    if IS_INSTALLED:
        return f"faster-rcnn {name}".strip()
    return f"python {_SCRIPTS.get(name, f'-m src {name}'.strip())}"


def program(name: str) -> str:
    """Return the short name of a command: `train.py` or `faster-rcnn train`.

    Args:
        name: of the command.
    """
    return command(name).removeprefix("python ") if name in _SCRIPTS else command(name)


def install_command(extra: str = "") -> str:
    """Return what a user types to install the packages that this one needs.

    Args:
        extra: a part of the program that needs more of them.
    """
    if extra:
        what = f"'{DISTRIBUTION if IS_INSTALLED else '.'}[{extra}]'"
    else:
        what = DISTRIBUTION if IS_INSTALLED else "-r requirements.txt"
    return f"python -m pip install {what}"


def version() -> str:
    """Return the version of this project."""
    return sys.modules[PACKAGE].__version__
