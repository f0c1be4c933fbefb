# SPDX-License-Identifier: Apache-2.0
"""COCO files where COCO's own set, Roboflow, CVAT and Label Studio have them."""

import itertools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from ...base.errors import UserError
from ...base.file_names import find_image
from ...base.foreign_files import open_regular
from ...base.messages import short
from ..annotation_files import annotation_digest
from ..coco_file import CocoFile
from .folder import folders_in
from .part import WHOLE, Part

_ANNOTATIONS = "annotations"
_INSTANCES = re.compile(r"instances_(?P<part>.+)\.json")
_FILE_NAME = re.compile(r'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')
_BEGINNING = 1 << 20  # bytes
_FIRST = 20  # pictures of it that are looked for
_ROBOFLOW = "_annotations.coco.json"
_LABEL_STUDIO = "result.json"
_HEAD = 1 << 12  # bytes
_MARK = re.compile(rb'\s*\{\s*"info"\s*:\s*\{\s*"written_by"\s*:\s*"faster-rcnn split"')
SPLIT_INFO = {"written_by": "faster-rcnn split"}  # goes first into the files that `split` writes


@dataclass(frozen=True)
class CocoPart(Part):
    """A COCO instances file and its folder of pictures."""

    kind: ClassVar[str] = "coco"
    corners: ClassVar[bool] = False

    def read(self, *, to_learn: bool = True) -> CocoFile:
        """Read the file.

        Args:
            to_learn: a file without `annotations` is an error.

        Raises:
            UserError: it is missing, or no COCO file.
        """
        return CocoFile.read(self.anno_path, unannotated=not to_learn)

    def read_for_records(self, *, to_learn: bool = True) -> CocoFile:
        """Read what of the file records are made of: COCO's own is half a gigabyte.

        Args:
            to_learn: a file without `annotations` is an error.

        Raises:
            UserError: it is missing, or no COCO file.
        """
        return CocoFile.read(self.anno_path, unannotated=not to_learn, compact=True)

    def digest(self) -> str:
        """Return the digest of the file.

        Raises:
            UserError: it cannot be read.
        """
        return annotation_digest(self.anno_path)


def is_of_a_split(path: str) -> bool:
    """Say whether the command `split` has written a COCO file.

    Args:
        path: the file; need not exist.
    """
    try:
        with open_regular(path) as file:
            return _MARK.match(file.read(_HEAD)) is not None
    except OSError:
        return False


def coco_parts(root: str, *, splits: bool = True) -> list[Part]:
    """Return the parts of a data set with COCO files, none if it is of another kind.

    Args:
        root: the folder.
        splits: files that `split` has written count.

    Raises:
        UserError: a part's name leads out of the folder.
    """
    in_annotations = (
        part for part in _in_annotations(root) if splits or not is_of_a_split(part.anno_path)
    )
    return list(in_annotations) or list(_beside_pictures(root)) or list(_alone(root))


def picture_folder(root: str, part: str, anno_path: str) -> str:
    """Return where the pictures of a part are: beside its file, or in a folder of the data set.

    Args:
        root: folder of the data set.
        part: its name.
        anno_path: its file; the first picture of its beginning that is there decides.
    """
    names, beside = first_pictures(anno_path), os.path.dirname(anno_path)
    for name in names:
        if os.path.isfile(find_image(beside, name)):
            return beside
        found = _holding(root, part, name)
        if found:
            return found
    return holding_folder(root, part, "")


def holding_folder(root: str, part: str, name: str) -> str:
    """Return the folder of a part's pictures that holds one of them.

    Args:
        root: folder of the data set.
        part: its name.
        name: of the picture; empty where none is known.
    """
    found = _holding(root, part, name) if name else None
    if found:
        return found
    folders = _folders(root, part)
    return next(filter(os.path.isdir, folders[:-1]), folders[0])


def first_pictures(anno_path: str) -> list[str]:
    """Return what a COCO file calls its first pictures; none if its beginning has none.

    Args:
        anno_path: the file; only its beginning is read.
    """
    try:
        with open_regular(anno_path) as file:
            beginning = file.read(_BEGINNING).decode("utf-8", "ignore")
        found = itertools.islice(_FILE_NAME.finditer(beginning), _FIRST)
        return [json.loads(match[1]) for match in found]
    except (OSError, ValueError):
        return []


def _folders(root: str, part: str) -> list[str]:
    """Return where pictures of a part may be; the last one is the data set's folder itself."""
    candidates = (part, f"images/{part}", "images")
    return [*(os.path.join(root, *inner.split("/")) for inner in candidates), root]


def _holding(root: str, part: str, name: str) -> str | None:
    """Return the first of these folders that holds a picture."""
    folders = _folders(root, part)
    return next((f for f in folders if os.path.isfile(find_image(f, name))), None)


def _in_annotations(root: str) -> Iterator[CocoPart]:
    folder = os.path.join(root, _ANNOTATIONS)
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        found = _INSTANCES.fullmatch(name)
        if found:
            part = found["part"]
            path = os.path.join(folder, name)
            if part.startswith("."):  # `..` is a folder outside the data's
                raise UserError(f"{path}: {short(part)} names no part; rename the file")
            images = picture_folder(root, part, path)
            from_cvat = images in (os.path.join(root, "images", *inner) for inner in ([], [part]))
            layout = "COCO, as CVAT exports it" if from_cvat else "COCO"
            if is_of_a_split(path):  # of whatever format
                layout = "split by the command split"
            yield CocoPart(part, root, path, images, layout)


def _beside_pictures(root: str) -> Iterator[CocoPart]:
    for part in [*folders_in(root), ""]:
        folder = os.path.join(root, part) if part else root
        path = os.path.join(folder, _ROBOFLOW)
        if os.path.isfile(path):
            yield CocoPart(part or WHOLE, root, path, folder, "COCO, as Roboflow exports it")


def _alone(root: str) -> Iterator[CocoPart]:
    path = os.path.join(root, _LABEL_STUDIO)
    if os.path.isfile(path):  # names begin with images/
        yield CocoPart(WHOLE, root, path, root, "COCO, as Label Studio exports it")
