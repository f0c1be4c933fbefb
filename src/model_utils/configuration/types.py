# SPDX-License-Identifier: Apache-2.0
"""What a configuration value can be: rules, and turning a YAML value into the kept form."""

import math
import os
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import Any

from ...base.messages import short
from ...FasterRcnn.names import NO_NORM
from ...images.geometry import canvas_text, parse_canvas

ROI_LAYER_DEFAULT = {"type": "RoIAlign", "out_size": 7, "sample_num": 2}
RCNN_HEAD_DEFAULT = {"convs": 0, "dense": 2, "norm": NO_NORM}
HEAD_NORMS = (NO_NORM, "bn", "gn")  # of neck and heads
BACKGROUND = "background"
MOST_CLASSES = 20_000  # without the background; the largest vocabularies have 13,000
_LONGEST_NAME = 200  # characters of a class name
_LONGEST_TEXT = 4096  # the system's limit for a path


@dataclass(frozen=True, slots=True)
class Rule:
    """What a key's value must be.

    Attributes:
        kind: bool, int, float, str, path; ints, floats, words, canvases (lists); classes,
            class_weights, roi_layer, rcnn_head (see `coerce`).
        low, high: limits of a number, or of a list's elements, both included.
        above: limit of the same that is not included.
        multiple_of: whole number that divides the value.
        length: exact number of a list's elements; None means any number from `min_length` to
            `max_length`.
        rising: each element must be larger than the one before.
        nullable: null is allowed and means "computed".
        on, off: this word is allowed, which YAML takes for true or false when it is not in quotes.
        is_code: the value names programs that a run starts.
    """

    kind: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    multiple_of: int | None = None
    length: int | None = None
    min_length: int = 0
    max_length: int = 1000
    rising: bool = False
    nullable: bool = False
    on: bool = False
    off: bool = False
    is_code: bool = False


_NO_LETTERS = ("Cc", "Cs", "Zl", "Zp")  # Unicode's categories of control characters and the like
_LIST_ELEMENT = {
    "ints": "int",
    "floats": "float",
    "words": "str",
    "classes": "str",
    "canvases": "canvas",
}


def is_list(kind: str) -> bool:
    """Whether values of this kind are lists.

    Args:
        kind: see `Rule`, e.g. "int" or "ints".
    """
    return kind in _LIST_ELEMENT


def element_kind(kind: str) -> str:
    """Kind of a list's elements; a kind that is not a list is its own.

    Args:
        kind: see `Rule`, e.g. "int" or "ints".
    """
    return _LIST_ELEMENT.get(kind, kind)


def coerce(rule: Rule, value: Any) -> Any:
    """Return `value` in the form that the configuration keeps.

    Whole numbers become floats where a float is wanted; lists become tuples; a null text becomes
    ""; a path's leading `~` becomes the home folder; `classes` become a tuple of names that starts
    with "background"; `class_weights` a tuple of floats, or a dict of them by names.

    Args:
        rule: says what the value must be.
        value: as YAML or JSON has it.

    Raises:
        ValueError: the value is of another type or out of its range; the text says what is wrong
            and what would be right.
    """
    if value is None and rule.nullable:
        return None
    if rule.kind == "roi_layer":
        return _coerce_roi_layer(value)
    if rule.kind == "rcnn_head":
        return _coerce_rcnn_head(value)
    if rule.kind == "classes":
        return coerce_classes(value)
    if rule.kind == "class_weights":
        return _coerce_class_weights(rule, value)
    if not is_list(rule.kind):
        return _coerce_scalar(rule, rule.kind, value)
    if not isinstance(value, list | tuple):
        raise ValueError(f"is not a list; write it in brackets, such as [{_example(rule)}]")
    if rule.length is None and len(value) > rule.max_length:
        raise ValueError(f"has {len(value)} elements; give at most {rule.max_length}")
    kind = element_kind(rule.kind)
    items = tuple(_coerce_item(rule, kind, item) for item in value)
    if rule.length is not None and len(items) != rule.length:
        raise ValueError(f"has {len(items)} elements; give exactly {rule.length}")
    if len(items) < rule.min_length:
        raise ValueError(f"is empty; give at least {rule.min_length} element")
    if rule.rising and any(b <= a for a, b in zip(items, items[1:], strict=False)):
        raise ValueError("does not rise; sort it and take duplicates out")
    return items


def _example(rule: Rule) -> str:
    return ", ".join(["word" if rule.kind == "words" else "1"] * (rule.length or 2))


def _coerce_item(rule: Rule, kind: str, item: Any) -> Any:
    try:
        return _coerce_scalar(rule, kind, item)
    except ValueError as error:
        raise ValueError(f"has the element {short(item)}, which {error}") from None


def _coerce_scalar(rule: Rule, kind: str, value: Any) -> Any:
    if kind == "bool":
        if not isinstance(value, bool):
            raise ValueError("is not a truth value; give True or False")
        return value
    if kind == "str":
        return _coerce_text(rule, value)
    if kind == "path":
        return os.path.expanduser(_coerce_text(rule, value))
    if kind == "canvas":
        return _coerce_canvas(rule, value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"is not a {'whole ' if kind == 'int' else ''}number; give one")
    if kind == "int" and not isinstance(value, int):
        raise ValueError("is not a whole number; give one")
    if abs(value) > 1e300 or not math.isfinite(value):
        raise ValueError("is not a finite number; give one")
    _check_range(rule, value)
    return float(value) if kind == "float" else value


def _coerce_text(rule: Rule, value: Any) -> str:
    text = "" if value is None else value
    if (rule.on and value is True) or (rule.off and value is False):
        text = "on" if value else "off"
    if not isinstance(text, str):
        raise ValueError(f"is a {type(value).__name__}, not a text; put it in quotes")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("has a byte that is not UTF-8 text; rename the file or folder")
    if "\0" in text or "\n" in text:
        raise ValueError("has a line break or a zero byte in it; take it out")
    if len(text) < rule.min_length:
        raise ValueError("is empty; give a value")
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"has {len(text)} characters; give at most {_LONGEST_TEXT}")
    return text


def _check_range(rule: Rule, value: float) -> None:
    if rule.low is not None and value < rule.low:
        raise ValueError(f"is too small; give at least {_shown(rule.low)}")
    if rule.above is not None and value <= rule.above:
        raise ValueError(f"is too small; give more than {_shown(rule.above)}")
    if rule.high is not None and value > rule.high:
        raise ValueError(f"is too large; give at most {_shown(rule.high)}")
    if rule.multiple_of and value % rule.multiple_of:
        below = value // rule.multiple_of * rule.multiple_of
        raise ValueError(
            f"is not a multiple of {rule.multiple_of}; give {below} or {below + rule.multiple_of}"
        )


def _shown(limit: float) -> str:
    return str(int(limit)) if limit == int(limit) else str(limit)


def _coerce_canvas(rule: Rule, value: Any) -> str:
    """HEIGHTxWIDTH, also of [height, width]."""
    if isinstance(value, list | tuple) and len(value) == 2:
        value = "x".join(map(str, value))
    size = parse_canvas(_coerce_text(rule, value))
    for side in size:
        _check_range(rule, side)
    return canvas_text(size)


def _coerce_roi_layer(value: Any) -> dict[str, Any]:
    layer = _coerce_mapping(value, ROI_LAYER_DEFAULT, out_size=(1, 64), sample_num=(0, 16))
    if layer["type"] != "RoIAlign":
        raise ValueError("has a type that does not exist; RoIAlign is the only one")
    return layer


def _coerce_rcnn_head(value: Any) -> dict[str, Any]:
    head = _coerce_mapping(value, RCNN_HEAD_DEFAULT, convs=(0, 16), dense=(1, 2))
    if head["norm"] not in HEAD_NORMS:
        raise ValueError(f"has norm {short(head['norm'])}; choose from {', '.join(HEAD_NORMS)}")
    return head


def _coerce_mapping(
    value: Any, default: dict[str, Any], **ranges: tuple[int, int]
) -> dict[str, Any]:
    """Return the parts of a mapping, with those of `default` that are not given.

    Args:
        value: what should be a mapping.
        default: all parts.
        ranges: the lowest and the highest value of the parts that are whole numbers.
    """
    if not isinstance(value, dict):
        usual = ", ".join(f"{part}: {one}" for part, one in default.items())
        raise ValueError(f"is not a mapping; write {{{usual}}}")
    unknown = [key for key in value if key not in default]
    if unknown:
        raise ValueError(
            f"has the unknown part {short(unknown[0])}; its parts are {', '.join(default)}"
        )
    parts = {**default, **value}
    for part, (low, high) in ranges.items():
        try:
            parts[part] = _coerce_scalar(Rule("int", low=low, high=high), "int", parts[part])
        except ValueError as error:
            raise ValueError(f"has {part} {short(parts[part])}, which {error}") from None
    return parts


def _coerce_class_weights(rule: Rule, value: Any) -> tuple[float, ...] | dict[str, float]:
    if not isinstance(value, dict | list | tuple):
        raise ValueError("is no list of numbers and no mapping; write [1, 2, 2] or {cat: 2}")
    if len(value) > MOST_CLASSES + 1:
        raise ValueError(f"has {len(value)} weights; give at most {MOST_CLASSES + 1}")
    if not isinstance(value, dict):
        return tuple(_coerce_item(rule, "float", item) for item in value)
    wrong = [name for name in value if not isinstance(name, str)]
    if wrong:
        raise ValueError(f"has the name {short(wrong[0])}, which is not a text; put it in quotes")
    return {name: _coerce_item(rule, "float", weight) for name, weight in value.items()}


def coerce_classes(value: Any) -> tuple[str, ...]:
    """Return class names, "background" first whether or not `value` has it.

    Args:
        value: a list of names, or one text with names separated by commas.

    Raises:
        ValueError: no names, an empty or repeated name, "background" that is not the first.
    """
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",")] if value.strip() else []
    if not isinstance(value, list | tuple):
        raise ValueError("is not a list of names; write [cat, dog]")
    if len(value) > MOST_CLASSES:
        raise ValueError(f"has {len(value)} names; give at most {MOST_CLASSES}")
    names = []
    for name in value:
        if not isinstance(name, str):
            raise ValueError(f"has the name {short(name)}, which is not a text; put it in quotes")
        if not name.strip() or any(unicodedata.category(letter) in _NO_LETTERS for letter in name):
            raise ValueError(
                "has an empty name, or one with a line break or another control character; take "
                "it out"
            )
        if len(name) > _LONGEST_NAME:
            raise ValueError(f"has a name of {len(name)} characters; give at most {_LONGEST_NAME}")
        names.append(name)
    if names and names[0] == BACKGROUND:
        names = names[1:]
    if BACKGROUND in names:
        raise ValueError(f"has {BACKGROUND!r} in the middle; put it first or leave it out")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f"has {min(repeated)!r} twice; take one out")
    if not names:
        raise ValueError("names no class; give at least one")
    return (BACKGROUND, *names)
