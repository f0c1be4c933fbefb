# SPDX-License-Identifier: Apache-2.0
"""The table that says what of a checkpoint went where."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...base.messages import counted
from .conversion import Conversion, Row, group_names

# Of our names, and of torchvision's.
_PART = re.compile(
    r"backbone\.layer\d|(?:fpn_neck|rpn_with_loss|rcnn)\.\w+|"
    r"backbone\.body\.(?:layer\d)?|backbone\.fpn\.\w+|rpn\.head|roi_heads\.\w+\.\w+"
)
_SPARSE = 4  # so many parameters of a part are listed one by one


def conversion_lines(
    conversion: Conversion, defaults: Mapping[str, Any], *, full: bool = False
) -> Iterator[str]:
    """Yield the lines that describe a conversion to people.

    Args:
        conversion: what to describe.
        defaults: the configuration's; settings that agree with it are only counted.
        full: one row for every parameter instead of one for every part.
    """
    yield f"{conversion.source.path}: {conversion.kind}"
    yield from rows_lines(conversion.rows, full=full)
    for names, why in conversion.dropped:
        yield f"  left out: {group_names(names)}: {why}"
    for line in conversion.assumed:
        yield f"  taken as: {line}"
    settings = conversion.settings
    usual = [key for key, value in settings.items() if defaults.get(key) == value]
    for key in [key for key in settings if key not in usual]:
        yield f"  setting: {key} {settings[key]}"
    if settings:
        yield f"  setting: {len(usual)} more, like the configuration's defaults"


def rows_lines(rows: Sequence[Row], *, full: bool = False) -> Iterator[str]:
    """Yield the table: from, to, number of parameters, shape, note.

    Args:
        rows: one a parameter.
        full: one line for every parameter instead of one for every part.
    """
    cells: list[tuple[str, ...]] = [("from", "to", "count", "shape", "note")]
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(row.target if full else _part(row.target), []).append(row)
    for part in parts.values():
        if len(part) <= _SPARSE:
            cells += [(r.source, r.target, "1", _shape(r.shape), r.note) for r in part]
        else:
            notes = sorted({row.note for row in part if row.note})
            cells.append(
                (
                    _common([row.source for row in part]),
                    _common([row.target for row in part]),
                    str(len(part)),
                    _sizes(part),
                    "; ".join(notes),
                )
            )
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    for line in cells:
        padded = [cell.ljust(width) for cell, width in zip(line[:4], widths, strict=True)]
        yield f"  {'  '.join((*padded, line[4]))}".rstrip()
    yield f"  {counted(len(rows), 'parameter')} in all, none missing, none left over"


def _part(name: str) -> str:
    """The part of a network that a parameter belongs to: a stage, a list of layers, a head."""
    part = _PART.match(name)
    return part[0] if part else name.rpartition(".")[0].partition(".")[0]


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "1"


def _sizes(part: Sequence[Row]) -> str:
    total = sum(_product(row.shape) for row in part)
    return f"{total:,} numbers"


def _product(shape: Sequence[int]) -> int:
    result = 1
    for size in shape:
        result *= size
    return result


def _common(names: Sequence[str]) -> str:
    """What names begin with, up to a point, and a star."""
    first, last = min(names), max(names)
    length = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first)
    )
    start = first[:length]
    return f"{start[: start.rfind('.') + 1]}*" if "." in start else "*"
