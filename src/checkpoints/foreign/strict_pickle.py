# SPDX-License-Identifier: Apache-2.0
"""A machine for pickles of plain values: no class, no function, bounded in time and memory.

A pickle is a program; an ordinary unpickler runs whatever it names, and even one that knows a few
names can be kept busy for ever (a key of tuples that share tuples, forty deep, is hashed for
hours). So the instructions are carried out here, one after the other and a limited number of them;
a reader gives the names that it knows, each with a function of its own.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from ...base.messages import shown

MOST_INSTRUCTIONS = 1_000_000  # a detector with its optimizer's state has some 30,000
_MOST_MEMO = 1_000_000
_DEEPEST = 8
_ITEM_BYTES = 100  # what an item of a dict takes, about
_KEYS = (str, int, float, bytes, type(None))
_PLAIN = (bool, int, float, str, bytes, np.ndarray, type(None))

Known = Mapping[tuple[str, str], Any]  # a function, or a value


class NotOnlyArraysError(ValueError):
    """The pickle wants more than arrays; the text says what."""


class Pending:
    """An object while it is read: made by a known function, completed by its state.

    Attributes:
        nbytes: what it takes.
    """

    nbytes = 0

    def build(self, state: Any) -> None:
        """Take the state that the pickle gives the object.

        Args:
            state: any value.
        """
        raise NotOnlyArraysError("it gives a state to what has none")

    def finished(self) -> Any:
        """Return what it stands for."""
        raise NotOnlyArraysError("it holds something that is neither an array nor a plain value")


class Record(Pending):
    """Stands for an object that is nothing but names and values, such as `argparse.Namespace`."""

    def __init__(self) -> None:
        self.values: dict = {}

    def build(self, state: Any) -> None:
        """Take the values.

        Args:
            state: a dict; anything else is refused.
        """
        if not isinstance(state, dict):
            raise NotOnlyArraysError("it has a Namespace without names")
        self.values.update(state)
        self.nbytes = _ITEM_BYTES * len(state)

    def finished(self) -> dict:
        """Return the values by their names."""
        return self.values


def ordered_dict(items: Any = ()) -> dict:
    """Stands for `collections.OrderedDict`, empty or of pairs.

    Args:
        items: pairs of key and value.
    """
    if not isinstance(items, list | tuple):
        raise NotOnlyArraysError("it has a dict of an unknown layout")
    pairs = [pair for pair in items if isinstance(pair, list | tuple) and len(pair) == 2]
    if len(pairs) != len(items):
        raise NotOnlyArraysError("it has a dict of an unknown layout")
    return {_key(key): value for key, value in pairs}


def counter(counts: Any = None) -> dict:
    """Stands for `collections.Counter`: schedules keep their milestones in one.

    Args:
        counts: a dict; None for an empty one.
    """
    if not isinstance(counts, dict | None):
        raise NotOnlyArraysError("it has a Counter of an unknown layout")
    return dict(counts or {})


CONTAINERS: Known = {
    ("collections", "OrderedDict"): ordered_dict,
    ("collections", "Counter"): counter,
    ("argparse", "Namespace"): Record,
}


def load_pickle(
    file: BinaryIO, size: int, known: Known, persistent: Callable[[Any], Any] | None = None
) -> Any:
    """Return what a pickle holds: `finished(run_pickle(...))`.

    Args:
        file, size, known, persistent: see `run_pickle`.
    """
    return finished(run_pickle(file, size, known, persistent))


def run_pickle(
    file: BinaryIO, size: int, known: Known, persistent: Callable[[Any], Any] | None = None
) -> Any:
    """Carry out a pickle; what it holds may still be pending.

    Args:
        file: at the pickle's beginning; afterwards behind its end. Any protocol; texts of Python 2
            are read as Latin-1.
        size: bytes that its functions may take and make, all together.
        known: (module, name) -> what stands for it.
        persistent: reads a reference to data outside of the pickle.

    Raises:
        NotOnlyArraysError: it names anything else, is damaged or goes on for too long.
    """
    machine = _Machine(size, known, persistent)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if opcode.name not in _STEPS:
                raise NotOnlyArraysError(f"it has the instruction {opcode.name}")
            if count >= MOST_INSTRUCTIONS:
                raise NotOnlyArraysError(f"it has more than {MOST_INSTRUCTIONS} instructions")
            _STEPS[opcode.name](machine, argument)
        return machine.pop()
    except NotOnlyArraysError:
        raise
    except Exception as error:  # whatever a damaged or hostile stream provokes
        reason = shown(error) or type(error).__name__
        raise NotOnlyArraysError(f"it is damaged or no pickle ({reason})") from error


def finished(value: Any) -> Any:
    """Return dicts, lists, numbers, texts and arrays, once it is seen that there is nothing else.

    Args:
        value: what `run_pickle` returned.

    Raises:
        NotOnlyArraysError: there is.
    """
    return _finished(value, {})


class _Machine:
    """The stack, the memo, and what the instructions do to them."""

    def __init__(self, size: int, known: Known, persistent: Callable | None) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.left, self.known, self.persistent = size, known, persistent

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise NotOnlyArraysError("it is damaged or no pickle (nothing is left on its stack)")
        return self.stack.pop()

    def pop_marked(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def remember(self, number: Any) -> None:
        number = len(self.memo) if number is None else int(number)
        if not 0 <= number <= _MOST_MEMO:
            raise NotOnlyArraysError(f"it numbers its objects up to {shown(number)}")
        self.memo[number] = self.stack[-1]

    def recall(self, number: Any) -> None:
        self.push(self.memo[int(number)])

    def tuple_of(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    def extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise NotOnlyArraysError("it appends to what is no list")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise NotOnlyArraysError("it sets keys of what is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    def find(self, module: Any, name: Any) -> None:
        names = (module, name)
        if not all(isinstance(part, str) for part in names) or names not in self.known:
            raise NotOnlyArraysError(f"it asks for {shown(module)}.{shown(name)}")
        self.push(self.known[names])

    def call(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        is_known = any(function is each for each in self.known.values())
        if not is_known or not isinstance(arguments, tuple):
            raise NotOnlyArraysError("it calls what is no function")
        # What is read again and again counts too: all of a list's pairs may have one key.
        containers = [each for each in arguments if isinstance(each, dict | list | tuple)]
        self.charge(sum(map(_size_of, containers)))
        result = function(*arguments)
        self.charge(_size_of(result))
        self.push(result)

    def build(self, _: Any) -> None:
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, Pending):
            target.build(state)
            self.charge(target.nbytes)
        elif not (type(target) is dict and isinstance(state, dict)):  # attributes of an OrderedDict
            raise NotOnlyArraysError("it gives a state to what has none")

    def charge(self, size: int) -> None:
        """Count bytes that were made out of others, perhaps the same ones many times."""
        self.left -= size
        if self.left < 0:
            raise NotOnlyArraysError("it makes more bytes than it has")

    def refer(self, _: Any) -> None:
        if self.persistent is None:
            raise NotOnlyArraysError("it refers to data outside of it")
        self.push(self.persistent(self.pop()))


def _size_of(made: Any) -> int:
    """Bytes of what a function has made, about: it may be a copy of all that it was given."""
    if isinstance(made, bytes | str):
        return len(made)
    if isinstance(made, dict | list | tuple):
        return _ITEM_BYTES * len(made)
    return int(getattr(made, "nbytes", 0))


def _key(key: Any) -> Any:
    """A key of a dict: nothing whose hash takes long."""
    if not isinstance(key, _KEYS):
        raise NotOnlyArraysError(f"it has a dict with a {type(key).__name__} as a key")
    return key


def _finished(value: Any, done: dict[int, Any], depth: int = 0) -> Any:
    """The value with what is pending replaced, once it is seen to hold nothing else.

    What is shared stays shared: `done` has what each container of the pickle has become.
    """
    if depth > _DEEPEST:
        raise NotOnlyArraysError("it is nested too deeply")
    if isinstance(value, int) and value.bit_length() > 64:
        raise NotOnlyArraysError(f"it has a number of {value.bit_length()} bits")
    if isinstance(value, _PLAIN):
        return value
    if id(value) not in done:
        if isinstance(value, Pending):
            result = _finished(value.finished(), done, depth)
        elif isinstance(value, dict):
            result = {key: _finished(item, done, depth + 1) for key, item in value.items()}
        elif isinstance(value, list | tuple):
            result = [_finished(item, done, depth + 1) for item in value]
        else:
            raise NotOnlyArraysError(
                "it holds something that is neither an array nor a plain value"
            )
        done[id(value)] = result
    return done[id(value)]


_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    **dict.fromkeys(
        (
            "INT",
            "BININT",
            "BININT1",
            "BININT2",
            "LONG",
            "LONG1",
            "LONG4",
            "FLOAT",
            "BINFLOAT",
            "STRING",
            "BINSTRING",
            "SHORT_BINSTRING",
            "UNICODE",
            "SHORT_BINUNICODE",
            "BINUNICODE",
            "BINUNICODE8",
            "SHORT_BINBYTES",
            "BINBYTES",
            "BINBYTES8",
            "BYTEARRAY8",
        ),
        _Machine.push,
    ),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.recall),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Machine.call),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine.pop_marked(),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_marked())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": lambda machine, _: machine.push(machine.pop_marked()),
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_marked()),
    "DICT": lambda machine, _: machine.push(ordered_dict(_pairs(machine.pop_marked()))),
    "SETITEM": lambda machine, _: machine.set_items([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_marked()),
    "GLOBAL": lambda machine, names: machine.find(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.find(*[machine.pop(), machine.pop()][::-1]),
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.refer,
}


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(items[::2], items[1::2], strict=True))
