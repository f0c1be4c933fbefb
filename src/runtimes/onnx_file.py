# SPDX-License-Identifier: Apache-2.0
"""A look into an ONNX file before a library loads it: others may have made it."""

import contextlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from ..base.errors import UserError
from ..base.foreign_files import open_regular
from ..base.memory import require_memory
from ..base.messages import short
from ..base.protobuf import BrokenMessageError, fields

# ONNX's messages: number of a field -> the message in it. Those that hold no tensor are left out.
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
    "external": {},
}
_GRAPH = 7  # of a model
_KEY, _VALUE = 1, 2  # of "external"
_MOST_MESSAGES = 1_000_000  # a detector has some 20,000
_DEEPEST = 64


def check_onnx_file(path: Path) -> None:
    """Make sure that a file can be an ONNX model whose weights are in it or beside it.

    Args:
        path: the file.

    Raises:
        UserError: it is none, names a file outside of its folder, or there is too little memory.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            require_memory(path, 2 * size)  # held as the file, and as its tensors
            if not size:
                raise BrokenMessageError("it is empty")
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            locations = set(_external_files(memoryview(content)))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; export the model again") from None
    except BrokenMessageError as error:
        raise UserError(
            f"{path}: not an ONNX model, or a damaged one ({error}); export the model again"
        ) from None
    for location in sorted(locations):
        _require_beside(path, location)


def _external_files(model: memoryview) -> Iterator[str]:
    """Yield where the model says that weights are."""
    waiting = [("model", model, 0)]
    count = 0
    has_graph = False
    while waiting:
        kind, message, depth = waiting.pop()
        inner = _MESSAGES[kind]
        key = value = b""
        for number, content in fields(message):
            if kind == "external" and isinstance(content, memoryview):
                key = bytes(content[:20]) if number == _KEY else key
                value = bytes(content) if number == _VALUE else value
            if number not in inner or not isinstance(content, memoryview):
                continue
            count += 1
            if count > _MOST_MESSAGES or depth == _DEEPEST:
                raise BrokenMessageError("it is too long, or too deep")
            has_graph = has_graph or (kind == "model" and number == _GRAPH)
            waiting.append((inner[number], content, depth + 1))
        if key == b"location":
            yield value.decode("utf-8", "replace")
    if not has_graph:
        raise BrokenMessageError("it has no graph")


def _require_beside(model: Path, location: str) -> None:
    folder = os.path.realpath(model.parent)
    inside = False
    with contextlib.suppress(ValueError):  # a zero byte
        target = os.path.realpath(os.path.join(folder, location))
        inside = os.path.commonpath([folder, target]) == folder and os.path.isfile(target)
    if not inside or os.path.isabs(location) or ".." in Path(location).parts:
        raise UserError(
            f"{model}: has its weights in {short(location)}, which is no file in its folder; "
            "export the model again"
        )
