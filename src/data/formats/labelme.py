# SPDX-License-Identifier: Apache-2.0
"""LabelMe's annotations: a JSON file a picture, with shapes of which the boxes are taken."""

import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, ClassVar, NamedTuple

from ...base.digests import texts_digest
from ...base.errors import UserError
from ...base.foreign_files import parse_json
from ...base.json_numbers import whole_number
from ...base.messages import short
from ..coco_file import CocoFile
from .folder import (
    files_in,
    folders_in,
    inner_name,
    inner_or_none,
    picture_ids,
    pictures_in,
    read_small,
    readings,
    stem_of,
)
from .part import PART_NAMES, WHOLE, CocoBuilder, Part

_JSON = ".json"
_LARGEST_FILE = 1 << 26  # bytes: a file may hold its picture
# Parsed, JSON can take thirty times its bytes: so much of it, without the picture, is parsed.
_LARGEST_TEXT = 1 << 23  # bytes
_PICTURE = re.compile(rb'"imageData"\s*:\s*"[A-Za-z0-9+/=]*"')  # in Base64
_LARGE_FILE = 1 << 23  # bytes; larger files are read one at a time
_one_large = Lock()
_MOST_LOOKED_AT = 5  # files of a folder, to say whether they are LabelMe's
_MARKS = (b'"shapes"', b'"imagePath"')  # what every file of LabelMe's has
_NAMING = "cannot be told from one that is written in another way"
# Shapes with an extent; of the others (point, line, linestrip, points) no box can be made.
_BY_CORNERS = ("rectangle", "polygon", "mask", "oriented_rectangle")
_CIRCLE = "circle"


class LabelMeFile(NamedTuple):
    """What an annotation file says.

    Attributes:
        picture: the picture's name, relative to the data's folder.
        size: (height, width) in pixels, None where none is given.
        boxes: (class, x1, y1, x2, y2) each.
        others: kinds of the shapes that have no extent.
    """

    picture: str
    size: tuple[int, int] | None
    boxes: list[tuple[str, float, float, float, float]]
    others: list[str]


@dataclass(frozen=True)
class LabelMePart(Part):
    """Pictures with a JSON file each.

    Attributes:
        folder: of the JSON files, relative to `root`; empty for `root` itself.
    """

    kind: ClassVar[str] = "labelme"
    corners: ClassVar[bool] = True
    folder: str

    def _digests(self) -> dict[str, str | UserError]:
        """The JSON files that are LabelMe's, relative to `root`, each with its content's digest."""
        found = files_in(os.path.join(self.root, self.folder), [_JSON])
        names = [os.path.join(self.folder, name) for name in found]
        paths = [os.path.join(self.root, name) for name in names]
        digests = readings(_digest, paths, skips_broken=self.skips_broken)
        return {name: mark for name, mark in zip(names, digests, strict=True) if mark}

    def read(self, *, to_learn: bool = True) -> CocoFile:
        """Read the JSON files.

        Args:
            to_learn: makes no difference here.

        Raises:
            UserError: one of them cannot be read, or is not LabelMe's.
        """
        listed = list(self._digests())
        read_one = partial(read_labelme, self.root)
        read = list(readings(read_one, listed, skips_broken=self.skips_broken))
        files = [file for file in read if isinstance(file, LabelMeFile)]
        used = sorted({name for file in files for name, *_ in file.boxes})
        builder = CocoBuilder(self.anno_path, used, _NAMING, lists_classes=False)
        names = [file.picture for file in files]
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise UserError(
                f"{self.anno_path}: two files are of the picture {short(twice[0])}; put their "
                "shapes into one"
            )
        for file, id_ in zip(files, picture_ids(names), strict=True):
            builder.image(id_, file.picture, file.size)
            for name, *corners in file.boxes:
                builder.box(corners, name)
            for kind in file.others:
                builder.found("other_shape", f"{file.picture}: {kind}")
        broken = {name: file for name, file in zip(listed, read, strict=True) if file not in files}
        for error in broken.values():
            builder.found("broken_file", str(error))
        for name in self._unlabelled(set(names), set(map(stem_of, broken))):
            builder.found("unlabelled", name)
        return builder.finish()

    def _unlabelled(self, labelled: set[str], broken: set[str]) -> list[str]:
        """The pictures that no file is of; one called as a broken file may have one."""
        found = pictures_in(os.path.join(self.root, self.folder))
        inner = {name: os.path.join(self.folder, name) for name in found}
        return [
            name
            for name, path in inner.items()
            if path not in labelled and stem_of(path) not in broken
        ]

    def digest(self) -> str:
        """Return the digest of the JSON files.

        Raises:
            UserError: one of them cannot be read.
        """
        return texts_digest(str(part) for pair in self._digests().items() for part in pair)


def _digest(path: str) -> str:
    """The digest of an annotation file, empty for a JSON file of something else."""
    with _turn(path):
        data = read_small(path, _LARGEST_FILE)
        is_labelme = all(mark in data for mark in _MARKS)
        return hashlib.sha256(data).hexdigest() if is_labelme else ""


def _turn(path: str) -> AbstractContextManager[object]:
    """What a file is read in: after the other large ones, if it is one of them."""
    try:
        large = os.path.getsize(path) > _LARGE_FILE
    except (OSError, ValueError):  # said when it is read
        large = False
    return _one_large if large else nullcontext()


def labelme_parts(root: str) -> list[Part]:
    """Return the parts of a folder of LabelMe's files, none if it is of another kind.

    Args:
        root: the folder.
    """
    roles = [name for names in PART_NAMES.values() for name in names]
    inner = [name for name in folders_in(root) if name.lower() in roles]
    folders = {name: name for name in inner if _is_labelme(os.path.join(root, name))}
    if not folders and _is_labelme(root):
        folders = {WHOLE: ""}
    return [
        LabelMePart(
            name, root, os.path.join(root, folder) if folder else root, root, "LabelMe", folder
        )
        for name, folder in folders.items()
    ]


def _is_labelme(folder: str) -> bool:
    names = files_in(folder, [_JSON])[:_MOST_LOOKED_AT]
    return any(_digest(os.path.join(folder, name)) for name in names)


def read_labelme(root: str, name: str) -> LabelMeFile:
    """Read an annotation file.

    Args:
        root: folder of the data set.
        name: of the file, relative to it.

    Raises:
        UserError: it cannot be read, is not LabelMe's, or names a picture outside the folder.
    """
    with _turn(os.path.join(root, name)):
        return _read(root, name)


def _read(root: str, name: str) -> LabelMeFile:
    path = os.path.join(root, name)
    where = f"annotation file {path}"
    data = _PICTURE.sub(b'"imageData":null', read_small(path, _LARGEST_FILE))
    if len(data) > _LARGEST_TEXT:
        raise UserError(
            f"{where} has {len(data) / 1e6:.1f} MB besides its picture, of at most "
            f"{_LARGEST_TEXT / 1e6:.1f} MB; split it"
        )
    try:
        content = parse_json(data)
    except ValueError as error:
        raise UserError(f"{where} is not valid JSON: {error}") from None
    shapes = content.get("shapes") if isinstance(content, dict) else None
    picture = content.get("imagePath") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not isinstance(picture, str) or not picture:
        raise UserError(f"{where} is not LabelMe's: it has no list shapes, or no imagePath")
    height, width = (whole_number(content.get(key)) for key in ("imageHeight", "imageWidth"))
    file = LabelMeFile(
        _picture(root, os.path.dirname(name), picture, f"{where}: imagePath"),
        (height, width) if height and width and height > 0 and width > 0 else None,
        [],
        [],
    )
    for number, shape in enumerate(shapes):
        _add(file, shape, f"{where}: shapes[{number}]")
    return file


def _picture(root: str, folder: str, given: str, where: str) -> str:
    """The picture of a JSON file, relative to `root`: as the file names it, or else beside it.

    Files that were moved together with their pictures name the folder where these once were.
    """
    plain = given.replace("\\", "/")
    named = os.path.join(folder, plain)
    inner = inner_or_none(named)
    if "/" not in plain or (inner and os.path.isfile(os.path.join(root, inner))):
        return inner_name(named, where)
    bare = plain.rpartition("/")[2]
    beside = inner_or_none(os.path.join(folder, bare)) if bare.strip(".") else None
    if beside and os.path.isfile(os.path.join(root, beside)):
        return beside
    return inner_name(named, where)


def _add(file: LabelMeFile, shape: Any, where: str) -> None:
    if not isinstance(shape, dict):
        raise UserError(f"{where} is {short(shape)}, not an object")
    label, kind = shape.get("label"), shape.get("shape_type") or "polygon"
    if not isinstance(label, str) or not label.strip():
        raise UserError(f"{where} has label {short(label)}; give the name of its class")
    if kind not in (*_BY_CORNERS, _CIRCLE):
        file.others.append(str(kind))
        return
    points = _points(shape.get("points"), where)
    if kind == _CIRCLE:
        (x, y), edge = points[0], points[1]
        radius = math.dist((x, y), edge)
        box = (x - radius, y - radius, x + radius, y + radius)
    else:
        xs, ys = zip(*points, strict=True)
        box = (min(xs), min(ys), max(xs), max(ys))
    file.boxes.append((label.strip(), *box))


def _points(points: Any, where: str) -> Sequence[tuple[float, float]]:
    """At least two points, as a shape with an extent has them."""
    good = isinstance(points, list) and len(points) >= 2
    good = good and all(
        isinstance(point, list)
        and len(point) == 2
        and all(type(value) in (int, float) for value in point)
        for point in points
    )
    if not good:
        raise UserError(f"{where} has points {short(points)}; it must be a list of [x, y]")
    try:
        return [(float(x), float(y)) for x, y in points]
    except OverflowError:
        raise UserError(f"{where} has a number beyond all pictures in points") from None
