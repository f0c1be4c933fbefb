# SPDX-License-Identifier: Apache-2.0
"""Texts out of somebody else's files, made fit for a line on the user's terminal."""

from src.messages import one_line

_MOST = 80


def shown(text: object, most: int = _MOST) -> str:
    """Return a text as `one_line` has it, of at most `most` characters."""
    return one_line(text, most)


def is_plain(text: str, most: int = 300) -> bool:
    """Say whether a text is short and has no control characters, as names have."""
    return len(text) <= most and text.isprintable()
