# SPDX-License-Identifier: Apache-2.0
"""Reads a MindSpore checkpoint file record by record, within bounds.

The file is a protobuf message, MindSpore's `Checkpoint`: one `Value` after the other, each a name
with a tensor or a piece of one (dimensions, type, bytes); MindSpore may append a CRC-32.

`ms.load_checkpoint` is not used. It refuses every file that is larger than the machine's *free*
pages, and there are next to none once the page cache is full; it holds the file three times; and it
believes whatever number of dimensions a file claims. Here nothing is made before it is known to be
in the file, and one record at a time is held beside the arrays.
"""

import binascii
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..base.errors import DamagedFileError, UserError
from ..base.memory import require_memory, too_little_memory
from ..base.protobuf import BYTES, BrokenMessageError, fields, varint

# MindSpore's names of the types -> NumPy's. BFloat16 is the upper half of a float32.
_TYPES = {
    "Float64": "<f8",
    "Float32": "<f4",
    "Float16": "<f2",
    "BFloat16": "<u2",
    "Int64": "<i8",
    "Int32": "<i4",
    "Int16": "<i2",
    "Int8": "i1",
    "UInt64": "<u8",
    "UInt32": "<u4",
    "UInt16": "<u2",
    "UInt8": "u1",
    "Bool": "?",
}
_TEXT = "str"
_MOST_RECORDS = 100_000
_MOST_DIMS = 32
_LONGEST_NAME = 500
LONGEST_TEXT = 16_000_000  # characters; the loss logs of many ranks have room
_CRC_MARK, _CRC_BYTES = b"crc_num", 10  # and as many bytes of the number behind it
_ENCRYPTED = bytes.fromhex("d85e3a7f")
_RECORD_TAG = 1 << 3 | BYTES
_LONGEST_HEAD = 11  # of a record: its tag and its length

Texts = dict[str, str]
Arrays = dict[str, np.ndarray]


@dataclass
class _Tensor:
    """One tensor while its pieces are put together."""

    name: str
    kind: str
    dims: list[int]
    pieces: list[memoryview] = field(default_factory=list)


def read_entries(path: Path, key: str, *, texts: tuple[str, ...] = ()) -> tuple[Arrays, Texts]:
    """Read all that a checkpoint file holds.

    Args:
        path: a .ckpt file.
        key: the setting that named the file, for errors.
        texts: names of the text entries that are wanted; others are passed over.

    Returns:
        name -> array (half-precision floats as float32), and name -> text.

    Raises:
        DamagedFileError: it is no such file, or not all of one.
        UserError: it cannot be read, is encrypted, or there is too little memory.
    """
    size = 0
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if file.read(len(_ENCRYPTED)) == _ENCRYPTED:
                raise UserError(
                    f"{path}: an encrypted checkpoint; load it with mindspore.load_checkpoint and "
                    f"its dec_key, save it without one, and set {key} to that"
                )
            require_memory(path, size + size // 4)
            return _read(file, size, texts)
    except (BrokenMessageError, UnicodeDecodeError) as error:
        reason = error if isinstance(error, BrokenMessageError) else "a name or text that is none"
        raise DamagedFileError(
            f"{path}: not a MindSpore checkpoint, or a damaged one ({reason}); set {key} to "
            "another checkpoint"
        ) from error
    except MemoryError as error:
        raise too_little_memory(path, 2 * size) from error
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); set {key} to another checkpoint"
        ) from error


def _read(file: BinaryIO, size: int, texts: tuple[str, ...]) -> tuple[Arrays, Texts]:
    arrays: Arrays = {}
    found: Texts = {}
    open_tensor: _Tensor | None = None

    def close(tensor: _Tensor | None) -> None:
        if tensor is None:
            return
        if tensor.name in arrays or tensor.name in found:
            raise BrokenMessageError(f"{tensor.name} twice")
        if tensor.kind != _TEXT:
            arrays[tensor.name] = _array(tensor)
        elif tensor.name in texts:
            found[tensor.name] = _decoded(tensor)

    for record in _records(file, size):
        piece = _tensor_piece(record)
        if open_tensor and piece.name == open_tensor.name:
            if (piece.kind, piece.dims) != (open_tensor.kind, open_tensor.dims):
                raise BrokenMessageError(f"{piece.name} in pieces that do not fit together")
            open_tensor.pieces += piece.pieces
        else:
            close(open_tensor)
            open_tensor = piece
    close(open_tensor)
    return arrays, found


def _records(file: BinaryIO, size: int) -> Iterator[memoryview]:
    """Yield the records of a file; checks the CRC-32 behind the last one, if there is one."""
    end, expected = size, None
    if size > len(_CRC_MARK) + _CRC_BYTES:
        file.seek(size - len(_CRC_MARK) - _CRC_BYTES)
        tail = file.read()
        if tail.startswith(_CRC_MARK):
            end -= len(tail)
            expected = int.from_bytes(tail[len(_CRC_MARK) :], "big")
    position = crc = count = 0
    while position < end:
        file.seek(position)
        head = file.read(_LONGEST_HEAD)
        if not head or head[0] != _RECORD_TAG:
            raise BrokenMessageError(f"no record at byte {position}")
        length, start = varint(memoryview(head), 1)
        count += 1
        if position + start + length > end or length >= 2**31 or count > _MOST_RECORDS:
            raise BrokenMessageError("it could not be read to its end")
        file.seek(position)
        content = file.read(start + length)
        if len(content) < start + length:
            raise BrokenMessageError("it ends too early")
        if expected is not None:
            crc = binascii.crc32(content, crc)
        position += len(content)
        yield memoryview(content)[start:]
    if expected is not None and crc != expected:
        raise BrokenMessageError("its checksum says that it has changed since it was written")


def _tensor_piece(record: memoryview) -> _Tensor:
    """Read a `Value`: a name and a tensor, or a piece of one."""
    name, tensor = b"", None
    for number, value in fields(record):
        if number == 1 and isinstance(value, memoryview):
            name = value[: _LONGEST_NAME + 1].tobytes()
        elif number == 2 and isinstance(value, memoryview) and tensor is None:
            tensor = value
        else:
            raise BrokenMessageError("a record of another kind than a tensor")
    text = name.decode("utf-8")
    if not text or len(name) > _LONGEST_NAME or not text.isprintable():
        raise BrokenMessageError("a record without a usable name")
    if tensor is None:
        raise BrokenMessageError(f"{text} without content")
    piece = _Tensor(text, "", [])
    for number, value in fields(tensor):
        if number == 1:
            _add_dims(piece, value)
        elif number == 2 and isinstance(value, memoryview):
            piece.kind = value[:20].tobytes().decode("utf-8")
        elif number == 3 and isinstance(value, memoryview) and not piece.pieces:
            piece.pieces.append(value)
        else:
            raise BrokenMessageError(f"{text} with something else than a tensor")
    if piece.kind not in _TYPES and piece.kind != _TEXT:
        raise BrokenMessageError(f"{text} is of the type {piece.kind!r}, which no detector has")
    return piece


def _add_dims(piece: _Tensor, value: int | memoryview) -> None:
    """Add one dimension, or several that stand together; a negative one is a huge one here."""
    values = [value] if isinstance(value, int) else []
    position = 0
    while isinstance(value, memoryview) and position < len(value) and len(values) <= _MOST_DIMS:
        number, position = varint(value, position)
        values.append(number)
    piece.dims += values
    if len(piece.dims) > _MOST_DIMS:
        raise BrokenMessageError(f"{piece.name} has more than {_MOST_DIMS} dimensions")


def _decoded(tensor: _Tensor) -> str:
    """The text of an entry, which NumPy has written: four bytes a character, zeros at the end."""
    if sum(map(len, tensor.pieces)) > 4 * LONGEST_TEXT:
        raise BrokenMessageError(f"{tensor.name} is longer than {LONGEST_TEXT} characters")
    return str(b"".join(tensor.pieces), "utf-32-le").rstrip("\0")


def _array(tensor: _Tensor) -> np.ndarray:
    """The array of a tensor whose pieces are all there."""
    dtype = np.dtype(_TYPES[tensor.kind])
    shape = [] if tensor.dims == [0] else tensor.dims  # how MindSpore 1 wrote a single number
    held = sum(map(len, tensor.pieces))
    if 0 in shape or math.prod(shape) * dtype.itemsize != held:
        raise BrokenMessageError(f"{tensor.name} has {held} bytes, which do not fit its dimensions")
    content = tensor.pieces[0] if len(tensor.pieces) == 1 else b"".join(tensor.pieces)
    array = np.frombuffer(content, dtype).reshape(shape)
    if tensor.kind == "BFloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    # A copy lies at an address that is a multiple of its type's size, and lets the record go.
    return array.astype(np.float32) if tensor.kind == "Float16" else array.copy()
