# SPDX-License-Identifier: Apache-2.0
"""ONNX files that are no detector's, written field by field."""


def field(number, content):
    """A field of a protobuf message: bytes, text, or a whole number."""
    if isinstance(content, int):
        return _varint(number << 3) + _varint(content)
    content = content.encode() if isinstance(content, str) else content
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value):
    pieces = bytearray()
    while value > 0x7F:
        pieces.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*pieces, value])


def onnx_with_external_data(location):
    """An ONNX model whose only weight is in the file `location`."""
    entry = field(1, "location") + field(2, location)
    tensor = field(1, 4) + field(2, 1) + field(8, "w") + field(13, entry) + field(14, 1)
    node = field(1, "w") + field(2, "y") + field(4, "Identity")
    shape = field(1, field(1, 4))
    output = field(1, "y") + field(2, field(1, field(1, 1) + field(2, shape)))
    graph = field(1, node) + field(2, "g") + field(5, tensor) + field(12, output)
    return field(1, 8) + field(7, graph) + field(8, field(2, 13))
