# SPDX-License-Identifier: Apache-2.0
"""What pages are made of: numbers in a row, tables, command lines. `macros.html` shows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

NOTHING = "-"  # where there is no number


class Tile(NamedTuple):
    """A number with its name.

    Attributes:
        label: what it is.
        value: as it is shown.
        note: more, in small letters.
    """

    label: str
    value: str
    note: str = ""


class CommandLine(NamedTuple):
    """A command and what it is for."""

    purpose: str
    line: str


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        title: its heading.
        is_number: set to the right, and sorted from the largest on first.
        help: what it means, shown when the mouse rests on the heading.
    """

    title: str
    is_number: bool = False
    help: str = ""


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        text: as it is shown.
        sort_key: what the table sorts by; None: the text.
        share: 0 to 1, drawn as a bar behind the text; None: no bar.
    """

    text: str
    sort_key: float | None = None
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        columns: (C,).
        rows: each of C cells.
        caption: stands above it.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


def number_cell(value: float | None, digits: int = 3, *, share: float | None = None) -> Cell:
    """Return the cell of a number that sorts by all its digits.

    Args:
        value: None where there is none.
        digits: behind the point.
        share: 0 to 1, drawn as a bar.
    """
    if value is None:
        return Cell(NOTHING)
    return Cell(f"{value:,.{digits}f}", float(value), share)


def count_cell(value: int | None, *, share: float | None = None) -> Cell:
    """Return the cell of a whole number.

    Args:
        value: None where there is none.
        share: 0 to 1, drawn as a bar.
    """
    return number_cell(value, 0, share=share)
