# SPDX-License-Identifier: Apache-2.0
"""Annotation files as text: bounded in size, read to the end or refused in one line."""

import contextlib
import io
from collections.abc import Iterator

from ..base.digests import file_digest
from ..base.errors import UserError
from ..base.foreign_files import open_regular, read_bounded

LARGEST_FILE = 1 << 33  # bytes; COCO's own are half a gigabyte
_HEAD = 1 << 12  # bytes
LONGEST_ROW = 1 << 20  # characters: some 25,000 boxes


def read_text(path: str) -> str:
    """Return the content of an annotation file, without a byte order mark.

    Args:
        path: the file, UTF-8.

    Raises:
        UserError: it is missing, no file, too large or not UTF-8.
    """
    with _explained(path):
        with open_regular(path) as file:
            if b"\0" in file.read(_HEAD):  # before gigabytes of it are taken into memory
                raise UserError(f"annotation file {path} is not text; give the JSON file itself")
        return read_bounded(path, LARGEST_FILE).decode("utf-8-sig")


def annotation_digest(path: str) -> str:
    """Return the SHA-256 of an annotation file's content, 64 hexadecimal digits.

    Args:
        path: the file.

    Raises:
        UserError: it is missing or cannot be read.
    """
    with _explained(path):
        return file_digest(path)


def read_rows(path: str) -> Iterator[tuple[int, str]]:
    """Yield the rows of an annotation file that are not blank, with their numbers from 1.

    Args:
        path: the file, UTF-8.

    Raises:
        UserError: as `read_text`, or a row is too long.
    """
    with _explained(path), io.TextIOWrapper(open_regular(path), encoding="utf-8-sig") as stream:
        number = 0
        while row := stream.readline(LONGEST_ROW + 1):
            number += 1
            if len(row) > LONGEST_ROW:
                raise UserError(
                    f"{path}, line {number}: has more than {LONGEST_ROW} characters; give a text "
                    "file with one image a row"
                )
            if not row.isspace():
                yield number, row.rstrip("\n")


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"annotation file {path} does not exist; check the data settings") from None
    except IsADirectoryError:
        raise UserError(f"annotation file {path} is a folder; give the file inside it") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"annotation file {path} is not UTF-8 text (it has the byte "
            f"0x{error.object[error.start]:02x} where none can be); convert it to UTF-8"
        ) from None
    except OSError as error:
        raise UserError(f"annotation file {path} cannot be read: {error.strerror}") from None
    except MemoryError:
        raise UserError(f"annotation file {path} does not fit into memory; split it") from None
