# SPDX-License-Identifier: Apache-2.0
"""A reader of pickles that hold NumPy arrays in plain containers, and of nothing else.

A pickle is a program; an ordinary unpickler runs whatever it names. Here a dozen names are known,
and behind each stands a function of this module, so that not even NumPy's own code gets to see
the file: an array is made from its bytes, of a dtype on a short list.
"""

import collections
import io
import math
import pickle
import pickletools
from typing import Any

import numpy as np

_KINDS = "fiub"  # floats, integers, booleans
_MOST_MEMO = 1_000_000  # entries; the memo of a C unpickler grows to the largest index at once
_NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")


class NotOnlyArraysError(ValueError):
    """The pickle wants more than arrays; the text says what."""


def load_arrays(content: bytes) -> Any:
    """Return what a pickle of arrays, numbers and texts in dicts, lists and tuples holds.

    Args:
        content: any protocol; texts of Python 2 are read as Latin-1.

    Raises:
        NotOnlyArraysError: it names anything but NumPy's arrays, or is damaged.
    """
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name.endswith("PUT") and int(argument) > _MOST_MEMO:
                raise NotOnlyArraysError(f"it numbers its objects up to {argument}")
        return _finished(_Unpickler(io.BytesIO(content), encoding="latin1").load())
    except NotOnlyArraysError:
        raise
    except Exception as error:  # whatever a damaged or hostile stream provokes
        raise NotOnlyArraysError(f"it is damaged or no pickle ({error})") from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        raise NotOnlyArraysError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise NotOnlyArraysError("it refers to data outside of it")


class _Type:
    """Stands for numpy.dtype: `dtype("f4", False, True)`, then a state with the byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.dtype = _plain_dtype(code)

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise NotOnlyArraysError(f"it has an array type of the byte order {order!r:.40}")
        self.dtype = self.dtype.newbyteorder(order)


class _NdarrayName:
    """Stands for the class numpy.ndarray, which is only ever passed to `_reconstruct`."""


class _Array:
    """An array while it is read: made empty by `_reconstruct`, filled by its state."""

    value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _Type):
            raise NotOnlyArraysError("it has an array of an unknown layout")
        _, shape, kind, column_order, data = state
        self.value = _filled(shape, kind.dtype, "F" if column_order else "C", data)


def _plain_dtype(code: Any) -> np.dtype:
    """The dtype that a code such as "f4" means, when it is a plain number."""
    if not isinstance(code, str) or len(code) > 4:
        raise NotOnlyArraysError(f"it has an array of type {code!r:.40}")
    try:
        dtype = np.dtype(code)
    except TypeError:
        raise NotOnlyArraysError(f"it has an array of type {code!r:.40}") from None
    if dtype.kind not in _KINDS or dtype.itemsize > 8:
        raise NotOnlyArraysError(f"it has an array of type {dtype}")
    return dtype


def _filled(shape: Any, dtype: np.dtype, order: str, data: Any) -> np.ndarray:
    """An array of its own from the bytes of a pickle."""
    if isinstance(data, str):
        data = data.encode("latin1")  # Python 2's bytes
    sizes = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not sizes or not isinstance(data, bytes | bytearray) or len(shape) > 8:
        raise NotOnlyArraysError("it has an array without its numbers")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise NotOnlyArraysError("it has an array whose size and numbers differ")
    return np.frombuffer(data, dtype).reshape(shape, order=order).copy()


def _reconstruct(kind: Any, *_: Any) -> _Array:
    if kind is not _NdarrayName:
        raise NotOnlyArraysError("it has an array of a class of its own")
    return _Array()


def _scalar(kind: Any, data: Any) -> np.ndarray:
    if not isinstance(kind, _Type):
        raise NotOnlyArraysError("it has a number of an unknown type")
    return _filled((), kind.dtype, "C", data)


def _frombuffer(data: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    """How pickles of protocol 5 hold an array."""
    if not isinstance(kind, _Type) or order not in ("C", "F"):
        raise NotOnlyArraysError("it has an array of an unknown layout")
    return _filled(shape, kind.dtype, order, data)


def _no_bytes() -> bytes:
    """How Python 3 writes an empty bytes object for Python 2: as a call of `bytes`."""
    return b""


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """How Python 3 writes bytes into pickles that Python 2 can read."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise NotOnlyArraysError(f"it has a text in the encoding {encoding!r:.40}")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Any] = {
    **{(module, "_reconstruct"): _reconstruct for module in _NUMPY_MODULES},
    **{(module, "scalar"): _scalar for module in _NUMPY_MODULES},
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("numpy", "ndarray"): _NdarrayName,
    ("numpy", "dtype"): _Type,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
}


def _finished(value: Any, depth: int = 0) -> Any:
    """The value with arrays in place of `_Array`, once it is seen to hold nothing else."""
    if depth > 8:
        raise NotOnlyArraysError("it is nested too deeply")
    if isinstance(value, _Array) and value.value is not None:
        return value.value
    if isinstance(value, dict):
        return {key: _finished(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finished(item, depth + 1) for item in value]
    if value is None or isinstance(value, bool | int | float | str | bytes | np.ndarray):
        return value
    raise NotOnlyArraysError("it holds something that is neither an array nor a plain value")
