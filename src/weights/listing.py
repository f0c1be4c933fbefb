# SPDX-License-Identifier: Apache-2.0
"""The table of published weights, for people."""

import contextlib
import os
from collections.abc import Iterator

from ..base.errors import UserError
from .cache import cached_path
from .names import missing_here
from .table import PUBLISHERS, TABLE, Published

_HEADINGS = ("name", "gives", "backbone", "MB", "digest", "")


def cells(row: Published) -> tuple[str, ...]:
    """Return what the table says of weights: name, number, backbone, megabytes, digest.

    Args:
        row: of the table.
    """
    size = f"{row.mebibytes * 2**20 / 1e6:.0f}" if row.mebibytes else "-"
    digest = f"{row.digest.algorithm} {row.digest.start[:8]}" if row.digest else "none"
    return row.name, row.gives or "-", row.backbone, size, digest


def table_lines() -> Iterator[str]:
    """Yield the lines of the table, publisher by publisher, and what its columns mean."""
    rows = {name: (*cells(row), _state(row)) for name, row in TABLE.items()}
    columns = list(zip(_HEADINGS, *rows.values(), strict=True))
    widths = [max(map(len, column)) for column in columns]
    yield _aligned(_HEADINGS, widths)
    for publisher, entry in PUBLISHERS.items():
        yield f"-- {publisher}; licence: {entry.licence}"
        for name, row in rows.items():
            if TABLE[name].publisher == publisher:
                yield _aligned(row, widths)
    yield (
        "AP and AP50 are of COCO's val2017, top-1 of ImageNet, as published; digest: what the file "
        "is compared with"
    )


def _state(row: Published) -> str:
    missing = missing_here(row)
    if missing:
        return f"not in this version: {missing}"
    with contextlib.suppress(UserError):
        if os.path.exists(cached_path(row)):
            return "in the cache"
    return ""


def _aligned(row: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
