# SPDX-License-Identifier: Apache-2.0
"""Texts for the user's eyes: one line, of a sensible length, without what a terminal would obey.

Values, names and libraries' messages come from files that others made.
"""

import re
import reprlib
from collections.abc import Sequence

LINE_LIMIT = 1000  # characters of a line: two long paths and what is to be said of them
_VALUE_LIMIT = 80
_CUT = " ... "

_LINE_BREAKS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")
# Control characters (escape codes begin with one), halves of surrogate pairs (bytes of file names
# that are no text), and what turns the direction of writing around.
_UNSEEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)

_NUMBERS = re.compile(r"\[([^\[\]|]*)\|([^\[\]|]*)\]")

_ANY_LENGTH = (list, tuple, dict, set, frozenset, int)  # of their texts
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = _VALUE_LIMIT
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 20


def one_line(text: object, limit: int = LINE_LIMIT) -> str:
    r"""Return a text as one line: breaks become spaces, a long one loses its middle.

    Args:
        text: anything; `str` makes a text of it.
        limit: most characters of the line.

    >>> one_line("a.json: \x1b[31mbad\n  line 3")
    'a.json: \\x1b[31mbad line 3'
    """
    text = str(text)
    if len(text) > 4 * limit:  # before looking at every character
        text = _without_middle(text, 4 * limit)
    text = _LINE_BREAKS.sub(" ", text).replace("\t", " ")
    return _without_middle(_UNSEEN.sub(_escaped, text), limit)


def shown(text: object, most: int = _VALUE_LIMIT) -> str:
    """Return a text out of somebody else's file as `one_line` has it, short enough to be quoted.

    Args:
        text: anything; `str` makes a text of it, of lists and the like and of numbers `short`.
        most: characters that are left of it.
    """
    # Forty tuples that hold each other twice would make a text without an end.
    return one_line(short(text, most) if isinstance(text, _ANY_LENGTH) else text, most)


def is_plain(text: str, most: int = 300) -> bool:
    """Say whether a text is short and has no control characters, as names have.

    Args:
        text: such as a name in a file that somebody else made.
        most: characters that it may have.
    """
    return len(text) <= most and text.isprintable()


def _escaped(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape", "backslashreplace").decode("ascii")


def _without_middle(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    tail = (limit - len(_CUT)) // 3  # the remedy is at the end
    return text[: limit - len(_CUT) - tail] + _CUT + text[len(text) - tail :]


def short(value: object, limit: int = _VALUE_LIMIT) -> str:
    """Return `repr`, cut short, also where a small file has made a huge or endless value.

    Args:
        value: such as JSON or YAML gives.
        limit: most characters.
    """
    try:
        text = _SHORT.repr(value)
    except ValueError:  # a number of more digits than Python writes out
        text = f"a {type(value).__name__}"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def short_list(names: Sequence[object], most: int = 4) -> str:
    """Join names with commas, the first few of many.

    Args:
        names: each is cut where it is long.
        most: how many are shown.

    >>> short_list(["a", "b", "c"], most=2)
    'a, b, ...'
    """
    shown = ", ".join(one_line(name, _VALUE_LIMIT) for name in names[:most])
    return shown + (", ..." if len(names) > most else "")


def in_number(text: str, count: int) -> str:
    """Return a text in the singular or the plural.

    Args:
        text: with `[one|several]` wherever they differ.
        count: of what it is about.

    >>> in_number("[box|boxes] outside [its|their] image", 1)
    'box outside its image'
    """
    return _NUMBERS.sub(lambda found: found[1 if count == 1 else 2], text)


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, which is in the singular after 1.

    Args:
        number: from 0.
        noun: of one.
        plural: of several, where that is not `noun` with an s.

    >>> counted(1, "picture"), counted(2500, "picture"), counted(2, "class", "classes")
    ('1 picture', '2,500 pictures', '2 classes')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
