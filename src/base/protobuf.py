# SPDX-License-Identifier: Apache-2.0
"""Reads the fields of a protobuf message, without its definition and without a copy."""

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # kinds of fields


class BrokenMessageError(ValueError):
    """The bytes are not those of such a message; the text says what is wrong."""


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (number, value) of a message's fields: a whole number, or bytes.

    Args:
        message: its bytes.

    Raises:
        BrokenMessageError: they are none.
    """
    position = 0
    while position < len(message):
        tag, position = varint(message, position)
        kind = tag & 7
        if kind == VARINT:
            value, position = varint(message, position)
            yield tag >> 3, value
            continue
        length = {FIXED64: 8, FIXED32: 4}.get(kind)
        if kind == BYTES:
            length, position = varint(message, position)
        if length is None or position + length > len(message):
            raise BrokenMessageError("a record that does not hold together")
        yield tag >> 3, message[position : position + length]
        position += length


def varint(data: memoryview, position: int) -> tuple[int, int]:
    """Read a whole number of 1 to 10 bytes; return it and the place behind it.

    Args:
        data: bytes.
        position: where it begins.

    Raises:
        BrokenMessageError: it does not end.
    """
    value = 0
    for shift, byte in enumerate(data[position : position + 10]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, position + shift + 1
    raise BrokenMessageError("a number that does not end")
