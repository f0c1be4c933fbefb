# SPDX-License-Identifier: Apache-2.0
"""The first directory of a TIFF file: what it says of the picture, and whether all of it is there.

TIFF 6.0, sections 2 and 8; BigTIFF.
"""

import struct
from typing import Any

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIP_OFFSETS, _SAMPLES, _ROWS, _STRIP_BYTES = 273, 277, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_EXTRA, _FORMAT = 338, 339
_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # the unsigned integers
_WANTED = (
    _WIDTH,
    _HEIGHT,
    _BITS,
    _COMPRESSION,
    _PHOTOMETRIC,
    _STRIP_OFFSETS,
    _SAMPLES,
    _ROWS,
    _STRIP_BYTES,
    _TILE_WIDTH,
    _TILE_HEIGHT,
    _TILE_OFFSETS,
    _TILE_BYTES,
    _EXTRA,
    _FORMAT,
)
_UNCOMPRESSED = 1
_MOST_SAMPLES = 16  # a pixel
_MOST_ENTRIES = 4096


def read_tiff(data: bytes) -> dict[str, Any]:
    """What the file says of its first picture.

    Args:
        data: the whole file.

    Returns:
        height, width, memory, bits, transparent, raw and premultiplied of `ImageHeader`.

    Raises:
        ValueError: it is damaged, cut off, or of a kind that would not be decoded rightly; the text
            says which.
        struct.error: it ends inside of its directory.
    """
    tags = _directory(data)
    width, height = (tags.get(tag, (0,))[0] for tag in (_WIDTH, _HEIGHT))
    bits, samples = set(tags.get(_BITS, (1,))), tags.get(_SAMPLES, (1,))[0]
    if not width or not height or len(bits) != 1 or not 1 <= samples <= _MOST_SAMPLES:
        raise ValueError("its TIFF header is damaged")
    (depth,) = bits
    _check_samples(depth, set(tags.get(_FORMAT, (1,))))
    extra = tags.get(_EXTRA, (0,))[0]
    whole = depth * samples / 8  # bytes a pixel
    part = _part_in_memory(tags, width, height)
    _check_complete(tags, len(data))
    transparent = samples in (2, 4) and tags.get(_PHOTOMETRIC, (1,))[0] != 5  # 5: CMYK
    return {
        "height": height,
        "width": width,
        "memory": max(6.0, 3.0 + (4.0 + whole) * part, 3.0 + depth if transparent else 0.0),
        "bits": depth,
        "transparent": transparent,
        "raw": tags.get(_COMPRESSION, (1,))[0] == _UNCOMPRESSED,
        # The decoder multiplies 8 bits itself.
        "premultiplied": depth <= 8 or extra == 1,
    }


def _directory(data: bytes) -> dict[int, tuple[int, ...]]:
    """Tags of the first directory, those of `_WANTED`, -> their values."""
    order = "<" if data.startswith(b"II") else ">"
    if data[2:4] in (b"+\0", b"\0+"):  # BigTIFF
        (start,) = struct.unpack_from(order + "Q", data, 8)
        head, entry, place = "Q", "HHQ", 8
    else:
        (start,) = struct.unpack_from(order + "I", data, 4)
        head, entry, place = "H", "HHI", 4
    if start + struct.calcsize(order + head) > len(data):
        raise ValueError("it ends before its picture does")
    (count,) = struct.unpack_from(order + head, data, start)
    if count > _MOST_ENTRIES:
        raise ValueError(f"its TIFF header has {count} entries")
    tags: dict[int, tuple[int, ...]] = {}
    position = start + struct.calcsize(order + head)
    for _ in range(count):
        tag, kind, number = struct.unpack_from(order + entry, data, position)
        position += struct.calcsize(order + entry)
        if tag in _WANTED and kind in _TYPES and tag not in tags:
            tags[tag] = _values(data, order, position, place, _TYPES[kind], number)
        position += place
    return tags


def _values(
    data: bytes, order: str, position: int, place: int, letter: str, number: int
) -> tuple[int, ...]:
    """`number` values that stand at `position`, or where the address there points to."""
    size = number * struct.calcsize(order + letter)
    if size > place:
        (position,) = struct.unpack_from(order + ("I" if place == 4 else "Q"), data, position)
    if position + size > len(data):
        raise ValueError("it ends before its picture does")
    if not number:
        raise ValueError("its TIFF header is damaged")
    return struct.unpack_from(f"{order}{number}{letter}", data, position)


def _check_samples(depth: int, formats: set[int]) -> None:
    """Refuse what a decoder would show wrong without a word, such as signed values as bright."""
    if formats - {1, 4} or depth not in (1, 4, 8, 16):
        kind = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
        named = kind.get(next(iter(formats - {1, 4}), 1), "")
        raise ValueError(
            f"it has {depth}-bit {named + ' ' if named else ''}samples, which are not read: save "
            "it with unsigned 8 or 16 bits a channel"
        )


def _part_in_memory(tags: dict[int, tuple[int, ...]], width: int, height: int) -> float:
    """The share of the picture that a decoder holds at once besides the result: strip or tile."""
    if _TILE_WIDTH in tags or _TILE_HEIGHT in tags:
        across, down = (tags.get(tag, (0,))[0] for tag in (_TILE_WIDTH, _TILE_HEIGHT))
        if not across or not down:
            raise ValueError("its TIFF header is damaged")
        return across * down / (width * height)
    rows = tags.get(_ROWS, (height,))[0]
    return min(rows, height) / height


def _check_complete(tags: dict[int, tuple[int, ...]], size: int) -> None:
    """Make sure that every strip or tile lies inside of the file's `size` bytes."""
    for offsets, counts in ((_STRIP_OFFSETS, _STRIP_BYTES), (_TILE_OFFSETS, _TILE_BYTES)):
        starts, lengths = tags.get(offsets, ()), tags.get(counts, ())
        ends = map(sum, zip(starts, lengths, strict=False))
        if max(starts, default=0) >= size or max(ends, default=0) > size:
            raise ValueError("it ends before its picture does")
    if _STRIP_OFFSETS not in tags and _TILE_OFFSETS not in tags:
        raise ValueError("it is a TIFF without a picture")
