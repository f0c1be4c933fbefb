# SPDX-License-Identifier: Apache-2.0
"""Pickles of NumPy arrays: behind each name that they need stands a function of this module.

Not even NumPy's own code gets to see the file: an array is made from its bytes, of a dtype on a
short list.
"""

import io
import math
from typing import Any, Literal

import numpy as np

from ...base.messages import shown
from .strict_pickle import CONTAINERS, Known, NotOnlyArraysError, Pending, load_pickle

_KINDS = "fiub"  # floats, integers, booleans
_LONGEST = 2**48  # of an array's sides
_NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")


def load_arrays(content: bytes) -> Any:
    """Return what a pickle of arrays, numbers and texts in dicts, lists and tuples holds.

    Args:
        content: any protocol; texts of Python 2 are read as Latin-1. Tuples become lists.

    Raises:
        NotOnlyArraysError: it names anything but NumPy's arrays, or is damaged.
    """
    return load_pickle(io.BytesIO(content), 3 * len(content) + 2**20, NUMPY)


class _Type(Pending):
    """Stands for numpy.dtype: `dtype("f4", False, True)`, then a state with the byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.dtype = _plain_dtype(code)

    def build(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise NotOnlyArraysError(f"it has an array type of the byte order {shown(order)}")
        self.dtype = self.dtype.newbyteorder(order)


class _NdarrayName:
    """Stands for the class numpy.ndarray, which is only ever passed to `_reconstruct`."""


class _Array(Pending):
    """An array while it is read: made empty by `_reconstruct`, filled by its state."""

    value: np.ndarray | None = None

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _Type):
            raise NotOnlyArraysError("it has an array of an unknown layout")
        _, shape, kind, column_order, data = state
        self.value = _filled(shape, kind.dtype, "F" if column_order else "C", data)
        self.nbytes = self.value.nbytes

    def finished(self) -> np.ndarray:
        """Return the array."""
        if self.value is None:
            raise NotOnlyArraysError("it has an array without its numbers")
        return self.value


def _plain_dtype(code: Any) -> np.dtype:
    """The dtype that a code such as "f4" means, when it is a plain number."""
    if not isinstance(code, str) or len(code) > 4:
        raise NotOnlyArraysError(f"it has an array of type {shown(code)}")
    try:
        dtype = np.dtype(code)
    except (TypeError, ValueError, SyntaxError):
        raise NotOnlyArraysError(f"it has an array of type {shown(code)}") from None
    if dtype.kind not in _KINDS or dtype.itemsize > 8:
        raise NotOnlyArraysError(f"it has an array of type {dtype}")
    return dtype


def _filled(shape: Any, dtype: np.dtype, order: Literal["C", "F"], data: Any) -> np.ndarray:
    """An array of the bytes of a pickle, which it shares."""
    if isinstance(data, str):
        data = data.encode("latin1")  # Python 2's bytes
    sizes = isinstance(shape, tuple) and all(type(n) is int and 0 <= n < _LONGEST for n in shape)
    if not sizes or not isinstance(data, bytes | bytearray) or len(shape) > 8:
        raise NotOnlyArraysError("it has an array without its numbers")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise NotOnlyArraysError("it has an array whose size and numbers differ")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


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
        raise NotOnlyArraysError(f"it has a text in the encoding {shown(encoding)}")
    return text.encode("latin1")


NUMPY: Known = {
    **CONTAINERS,
    **{(module, "_reconstruct"): _reconstruct for module in _NUMPY_MODULES},
    **{(module, "scalar"): _scalar for module in _NUMPY_MODULES},
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("numpy", "ndarray"): _NdarrayName,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
}
