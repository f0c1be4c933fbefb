# SPDX-License-Identifier: Apache-2.0
"""The command line of the small programs, and what a command has beside configuration keys."""

import argparse
import math
from collections.abc import Callable
from typing import NoReturn, TypeVar

from .errors import UserError
from .messages import short

HELP = ("-h", "--help")
Number = TypeVar("Number", int, float)


class ArgumentParser(argparse.ArgumentParser):
    """An argument parser that complains with a `UserError`: one line instead of the usage."""

    def error(self, message: str) -> NoReturn:
        """Raise the complaint.

        Args:
            message: what argparse finds wrong.
        """
        raise UserError(f"command line: {message}; see --help")


def own_parser() -> ArgumentParser:
    """Return a parser for a command's own arguments; `--help` is left to the configuration, as are
    all that it does not know: `parse_known_args`."""
    return ArgumentParser(add_help=False, allow_abbrev=False)


def asks_for_help(rest: list[str]) -> bool:
    """Say whether `--help` is among the arguments that an `own_parser` has left.

    Args:
        rest: the arguments.
    """
    return not set(HELP).isdisjoint(rest)


def within(
    low: float, high: float = math.inf, kind: Callable[[str], Number] = int
) -> Callable[[str], Number]:
    """Return a `type` for numbers of a range.

    Args:
        low: the least.
        high: the largest; without it there is none.
        kind: `int` or `float`.
    """

    def read(text: str) -> Number:
        try:
            value = kind(text)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{short(text)} is not {what}") from None
        if not low <= value <= high:
            most = f"to {high:.12g}" if high < math.inf else "or more"
            raise argparse.ArgumentTypeError(f"{value} is not {low:g} {most}")
        return value

    return read
