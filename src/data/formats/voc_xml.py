# SPDX-License-Identifier: Apache-2.0
"""One annotation file of VOC: XML from others, parsed without entities, within bounds."""

import math
from typing import NamedTuple, NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from ...base.errors import UserError
from ...base.messages import short
from .folder import read_small

_LARGEST_FILE = 1 << 22  # bytes: 10,000 objects
_MOST_DEPTH = 50
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_TRUE = ("1", "true", "yes")
PIXELS, EDGES = "pixels", "edges"  # what corners are, see `VocFile`


class VocObject(NamedTuple):
    """An object of a picture.

    Attributes:
        name: of its class.
        corners: xmin, ymin, xmax, ymax as written.
        difficult: the file calls it difficult.
    """

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool


class VocFile(NamedTuple):
    """What an annotation file says.

    Attributes:
        file_name: of the picture, without folders; empty where none is given.
        size: (height, width) in pixels, None where none is given.
        database: that the picture comes from; empty where none is given.
        objects: in their order.
    """

    file_name: str
    size: tuple[int, int] | None
    database: str
    objects: tuple[VocObject, ...]

    def corner_kind(self) -> str:
        """Say what the corners are if nobody has said it.

        VOC's own files count pixels from 1 and name the last one of an object ("pixels"). The tools
        that write such files today put the edges of the box there, from 0 ("edges").
        """
        return PIXELS if "VOC" in self.database else EDGES


def read_voc_file(path: str) -> VocFile:
    """Read an annotation file.

    Args:
        path: the XML file.

    Raises:
        UserError: it cannot be read, is no XML, declares a document type or entities, or has an
            object without a name or a box.
    """
    root = parse_xml(read_small(path, _LARGEST_FILE), path)
    size = root.find("size")
    height, width = (_side(size, "height"), _side(size, "width")) if size is not None else (0, 0)
    return VocFile(
        _text(root, "filename").replace("\\", "/").rpartition("/")[2],
        (height, width) if height and width else None,
        _text(root, "source/database"),
        tuple(
            _object(entry, f"annotation file {path}: object {number}")
            for number, entry in enumerate(root.iterfind("object"), start=1)
        ),
    )


def parse_xml(data: bytes, path: str) -> Element:
    """Parse XML that somebody else has written.

    A document type, with which entities are declared, is refused: nothing is expanded, nothing is
    fetched.

    Args:
        data: the file's content.
        path: the file, for errors.

    Raises:
        UserError: it is no XML, or has a document type.
    """
    builder, depth = TreeBuilder(), 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MOST_DEPTH:
            raise UserError(f"annotation file {path} is nested too deeply for a file of VOC")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> NoReturn:
        raise UserError(
            f"annotation file {path} has a document type (<!DOCTYPE ...>), which is not taken: its "
            "entities could stand for anything; take it out"
        )

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
        return builder.close()
    except expat.ExpatError as error:
        raise UserError(f"annotation file {path} is not XML: {error}; write it again") from None
    except (LookupError, ValueError) as error:  # an encoding that there is not
        raise UserError(f"annotation file {path} cannot be read as XML: {error}") from None


def _object(entry: Element, where: str) -> VocObject:
    name = _text(entry, "name")
    if not name:
        raise UserError(f"{where} has no <name>; give its class")
    box = entry.find("bndbox")
    if box is None:
        raise UserError(f"{where} ({short(name)}) has no <bndbox>; draw its box")
    xmin, ymin, xmax, ymax = (_number(box, key, where) for key in _CORNERS)
    difficult = _text(entry, "difficult").lower() in _TRUE
    return VocObject(name, (xmin, ymin, xmax, ymax), difficult)


def _number(box: Element, key: str, where: str) -> float:
    text = _text(box, key)
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{where} has <{key}> {short(text)}; it must be a number") from None


def _side(size: Element, key: str) -> int:
    """A stated height or width, pixels; 0 for what cannot be one."""
    try:
        value = float(_text(size, key))
    except ValueError:
        return 0
    return int(value) if math.isfinite(value) and 0 < value < 2**31 else 0


def _text(entry: Element, path: str) -> str:
    return (entry.findtext(path) or "").strip()
