# SPDX-License-Identifier: Apache-2.0
"""The files of compiled graphs: sealed with a secret of the user's, and without any path in them.

A graph is a program, and it names the library of its operators. So an entry is only believed when
this user's processes have written it, wherever its folder is from; and the library is not taken
from it: a mark stands for the one that this process has compiled or found itself.
"""

import contextlib
import hmac
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.digests import DIGEST_BYTES
from ..base.files import replacing
from ..base.own_files import own_folder, read_own

MOST_BYTES = 256 * 2**20  # of an entry; a detector's have 1 to 5 MB
_KEY, _KEY_BYTES = "graphs.key", 32
_OWNERS = 0o600  # mode of a file for this user alone
_MARK = b"\0the operators' library\0"
# What of a graph can name a file; other texts name parts of the network.
_NAMING = ("AttributeProto", "ExternalDataProto")


def secret_key(cache: Path) -> bytes:
    """Return this user's secret, made when there is none or not a secret one.

    Args:
        cache: `user_cache()`.

    Raises:
        OSError: it cannot be kept.
    """
    path = own_folder(cache) / _KEY
    for _ in range(3):
        key = read_own(path, _KEY_BYTES, secret=True)
        if key is not None and len(key) == _KEY_BYTES:
            return key
        path.unlink(missing_ok=True)
        # Where another process was first, its key counts.
        with replacing(path, mode=_OWNERS, overwrite=False) as temporary:
            temporary.write_bytes(os.urandom(_KEY_BYTES))
    raise OSError(f"{path} does not last")


@dataclass(frozen=True)
class GraphEntry:
    """A compiled graph in the cache, or the place of one.

    Attributes:
        path: in an `own_folder`; its name says of what.
        key: `secret_key`.
        library: of this process's operators, None where it has none.
    """

    path: Path
    key: bytes
    library: Path | None

    def read(self) -> bytes | None:
        """Return what `write` was given; None when there is nothing whole of this user's."""
        stored = read_own(self.path, MOST_BYTES)
        if stored is None:
            return None
        seal, content = stored[:DIGEST_BYTES], stored[DIGEST_BYTES:]
        if not content or not hmac.compare_digest(seal, self._seal_of(content)):
            return None
        with contextlib.suppress(OSError):
            os.utime(self.path)
        return content.replace(_MARK, _bytes(self.library)) if self.library else content

    def write(self, content: bytes) -> None:
        """Write a graph, whole or not at all; one that is too large is left out.

        Args:
            content: the digest of the program's files, then the graph, as `read` gives them.

        Raises:
            OSError: it cannot be written.
        """
        if _MARK in content:
            return
        held = content.replace(_bytes(self.library), _MARK) if self.library else content
        if len(held) + DIGEST_BYTES <= MOST_BYTES:
            with replacing(self.path, mode=_OWNERS) as temporary:
                temporary.write_bytes(self._seal_of(held) + held)

    def _seal_of(self, content: bytes) -> bytes:
        """The seal holds for this name only: one graph cannot take the place of another."""
        return hmac.digest(self.key, os.fsencode(self.path.name) + b"\0" + content, "sha256")


def names_other_files(graph: bytes, library: Path | None) -> bool:
    """Say whether a graph in MindSpore's format names a file beside the operators' library.

    Args:
        graph: MindIR; what is none counts as one that does.
        library: of the operators, None where there is none.
    """
    from google.protobuf.message import DecodeError
    from mindspore.train.mind_ir_pb2 import ModelProto

    try:
        model = ModelProto.FromString(graph)
    except DecodeError:
        return True
    own = _bytes(library)
    rests = (text.replace(own, b"") if own else text for text in _texts(model))
    return any(b"/" in rest or b".so" in rest for rest in rests)


def _texts(message: Any) -> Iterator[bytes]:
    """The texts in a message of protobuf that could name a file."""
    for field, value in message.ListFields():
        items = value if field.is_repeated else (value,)
        if field.message_type is None and message.DESCRIPTOR.name in _NAMING:
            for item in items:
                if isinstance(item, str | bytes):
                    yield item.encode("utf-8", "surrogateescape") if isinstance(item, str) else item
        elif field.message_type is not None:
            for item in items:
                if hasattr(item, "ListFields"):
                    yield from _texts(item)


def _bytes(library: Path | None) -> bytes:
    return os.fsencode(library) if library else b""
