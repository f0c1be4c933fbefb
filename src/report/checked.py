# SPDX-License-Identifier: Apache-2.0
"""Values of a file that somebody else may have written: of the kind that is wanted, or nothing."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..base.messages import shown

MOST_ITEMS = 100_000  # of a list
_MOST_LETTERS = 160
_LARGEST = 1e15


def number(value: object) -> float | None:
    """Return a finite number of a sensible size, None for anything else.

    Args:
        value: as JSON or YAML gives it.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= _LARGEST and math.isfinite(value) else None


def count(value: object) -> int | None:
    """Return a whole number from 0 on, None for anything else.

    Args:
        value: as JSON or YAML gives it.
    """
    found = number(value)
    return int(found) if found is not None and found >= 0 and found.is_integer() else None


def text(value: object, most: int = _MOST_LETTERS) -> str:
    """Return one line of what was meant to be a text; "" for a list, an object or nothing.

    Args:
        value: as JSON or YAML gives it.
        most: letters that are left of it.
    """
    return shown(value, most) if isinstance(value, str | int | float) else ""


def mapping(value: object) -> Mapping[str, Any]:
    """Return an object, an empty one in place of anything else.

    Args:
        value: as JSON or YAML gives it.
    """
    return value if isinstance(value, Mapping) else {}


def items(value: object, most: int = MOST_ITEMS) -> list[Any]:
    """Return a list, its first `most` items; an empty one in place of anything else.

    Args:
        value: as JSON or YAML gives it.
        most: items that are looked at.
    """
    return value[:most] if isinstance(value, list) else []


def mappings(value: object, most: int = MOST_ITEMS) -> list[Mapping[str, Any]]:
    """Return a list's items, as `mapping` has each of them.

    Args:
        value: as JSON or YAML gives it.
        most: items that are looked at.
    """
    return [mapping(item) for item in items(value, most)]


def numbers(value: object, most: int = MOST_ITEMS) -> np.ndarray:
    """Return a list of numbers as (N,) float64, NaN for what is none.

    Args:
        value: as JSON or YAML gives it.
        most: items that are looked at.
    """
    found = (number(item) for item in items(value, most))
    return np.array([np.nan if item is None else item for item in found], np.float64)
