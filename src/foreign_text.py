# SPDX-License-Identifier: Apache-2.0
"""Texts out of somebody else's files, made fit for a line on the user's terminal."""

_MOST = 80


def shown(text: object, most: int = _MOST) -> str:
    """Return a text without control characters and of at most `most` characters.

    What a terminal could take for an order, or would not show, is written as an escape.
    """
    text = text if isinstance(text, str) else str(text)
    cut = text[: most + 1]
    plain = "".join(c if c.isprintable() else _escape(c) for c in cut)
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."


def is_plain(text: str, most: int = 300) -> bool:
    """Say whether a text is short and has no control characters, as names have."""
    return len(text) <= most and text.isprintable()


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
