# SPDX-License-Identifier: Apache-2.0
"""Numbers as JSON files have them, whichever program wrote the file."""


def whole_number(value: object) -> int | None:
    """Return a whole number as an int, also one that a table program wrote as 1.0; None for others.

    Args:
        value: as JSON was read; True and False are no numbers.

    >>> whole_number(1.0), whole_number(True), whole_number(1.5)
    (1, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # NaN and infinity are not whole either
    return int(value) if isinstance(value, int) or value.is_integer() else None


def identifier(value: object) -> int | str | None:
    """Return an id (of an image, of a category): a text or a whole number; None for others.

    Args:
        value: as JSON was read.
    """
    return value if isinstance(value, str) else whole_number(value)
