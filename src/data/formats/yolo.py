# SPDX-License-Identifier: Apache-2.0
"""YOLO's annotations: a text file a picture, a box a row, in fractions of the picture's size."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from ...base.digests import json_digest, texts_digest
from ...base.errors import UserError
from ...base.messages import short, short_list
from ..annotation_files import read_rows
from ..coco_file import CocoFile
from .folder import (
    in_threads,
    inner_or_none,
    picture_ids,
    pictures_in,
    read_small_text,
    readings,
    shown_sizes,
    small_digest,
    stem_of,
)
from .part import CocoBuilder, Part, Records

_LARGEST_FILE = 1 << 24  # bytes
_LONGEST_NAME = 4096  # bytes, as systems have it
_NAMING = "needs its name in the list of names"
_SLACK = 0.5  # pixels by which a fraction of few digits may put a box out of its picture
_FAR = 4.0  # no fraction of a picture's size is beyond this
# The size that a picture has that cannot be read: the picture is refused or left out whatever its
# boxes are, and so they do not look like fractions meanwhile.
_NO_SIZE = (1000, 1000)


class YoloBox(NamedTuple):
    """A row of a label file.

    Attributes:
        number: of the class, from 0.
        corners: x1, y1, x2, y2 in fractions of the picture's width and height.
    """

    number: int
    corners: tuple[float, float, float, float]


@dataclass(frozen=True)
class YoloPart(Part):
    """Pictures with a label file each.

    Attributes:
        sources: folders, lists of pictures and pictures, relative to `root`.
        names: of the classes, by number; empty where the folder names none.
        names_path: the file that has them.
        keypoints: rows go on with key points after the box.
    """

    kind: ClassVar[str] = "yolo"
    corners: ClassVar[bool] = False
    sources: tuple[str, ...]
    names: tuple[str, ...]
    names_path: str
    keypoints: bool

    def pictures(self) -> list[str]:
        """Return the pictures, relative to `root`, in the order of the sources.

        Raises:
            UserError: a list cannot be read, names something outside, or there is no picture.
        """
        found: dict[str, None] = {}
        for source in self.sources:
            path = os.path.join(self.root, source)
            if os.path.isdir(path):
                inner = pictures_in(path)
                found |= dict.fromkeys(os.path.normpath(f"{source}/{name}") for name in inner)
            elif source.lower().endswith(".txt"):
                found |= dict.fromkeys(_listed(self.root, source))
            else:
                found[source] = None
        if not found:
            raise UserError(f"{self.anno_path}: no picture in it; give a folder that has some")
        return list(found)

    def classes(self) -> CocoFile:
        """Return the categories; no label file has to be read for them.

        Raises:
            UserError: nothing names the classes.
        """
        self._require_names()
        return CocoBuilder(self.names_path, self.names, _NAMING).finish()

    def _require_names(self) -> None:
        if not self.names:
            raise UserError(
                f"{self.root}: no file names the classes (data.yaml, classes.txt, obj.names); add "
                "one, or list them as coco_classes in the order of their numbers"
            )

    def records(
        self, class_names: Sequence[str], *, keep_empty: bool, max_boxes: int, to_learn: bool
    ) -> Records:
        """Read the annotations; without names of its own, the wanted classes are the numbered ones.

        Args:
            class_names: the wanted classes.
            keep_empty: keep images without boxes.
            max_boxes: most boxes of an image; 0 = all.
            to_learn: classes without a name are an error.
        """
        if not self.names:
            named = replace(self, names=tuple(class_names), names_path="coco_classes")
            return Part.records(
                named, class_names, keep_empty=keep_empty, max_boxes=max_boxes, to_learn=to_learn
            )
        return Part.records(
            self, class_names, keep_empty=keep_empty, max_boxes=max_boxes, to_learn=to_learn
        )

    def read(self, *, to_learn: bool = True) -> CocoFile:
        """Read the label files, and the pictures' sizes.

        Args:
            to_learn: makes no difference here.

        Raises:
            UserError: one of them cannot be read.
        """
        self._require_names()
        names = self.pictures()
        labels = [label_file(self.root, name) for name in names]
        sizes = shown_sizes([os.path.join(self.root, name) for name in names])
        builder = CocoBuilder(self.anno_path, self.names, _NAMING)
        rows = readings(self._boxes, labels, skips_broken=self.skips_broken)
        for name, id_, size, boxes in zip(names, picture_ids(names), sizes, rows, strict=True):
            if isinstance(boxes, UserError):
                builder.found("broken_file", str(boxes))
                continue
            builder.image(id_, name, size)
            if boxes is None:
                builder.found("no_labels", name)
            for box in boxes or ():
                builder.box(in_pixels(box.corners, size or _NO_SIZE), self.names[box.number])
        return builder.finish()

    def _boxes(self, path: str) -> list[YoloBox] | None:
        """The boxes of a label file, None where there is none."""
        if not os.path.isfile(path):
            return None
        rows = enumerate(read_small_text(path, _LARGEST_FILE).splitlines(), start=1)
        boxes = [
            parse_row(row, f"{path}, line {number}", keypoints=self.keypoints)
            for number, row in rows
            if row.strip()
        ]
        unknown = next((box.number for box in boxes if box.number >= len(self.names)), None)
        if unknown is not None:
            raise UserError(
                f"{path}: class {unknown} is none of the {len(self.names)} of "
                f"{self.names_path}, numbered from 0 ({short_list(self.names, 8)}); add it there"
            )
        return boxes

    def digest(self) -> str:
        """Return the digest of the names of classes and pictures, and of the label files.

        Raises:
            UserError: one of them cannot be read.
        """
        names = self.pictures()
        digests = in_threads(_digest, [label_file(self.root, name) for name in names])
        settings = json_digest([self.names, self.keypoints])
        parts = (part for pair in zip(names, digests, strict=True) for part in pair)
        return texts_digest([settings, *parts])


def _digest(path: str) -> str:
    return small_digest(path, _LARGEST_FILE)


def label_file(root: str, picture: str) -> str:
    """Return the path of a picture's label file.

    It is in `labels` where the picture is in `images`; otherwise, or where only that one is there,
    beside the picture.

    Args:
        root: folder of the data set.
        picture: relative to it, with `/` between folders.
    """
    beside = os.path.join(root, stem_of(picture) + ".txt")
    *folders, name = picture.split("/")
    if "images" not in folders:
        return beside
    place = len(folders) - 1 - folders[::-1].index("images")
    folders[place] = "labels"
    path = os.path.join(root, *folders, stem_of(name) + ".txt")
    return beside if os.path.isfile(beside) and not os.path.isfile(path) else path


def parse_row(row: str, where: str, *, keypoints: bool = False) -> YoloBox:
    """Read a row of a label file: class, centre and size; or class and the corners of a polygon.

    Args:
        row: the text.
        where: it stands, for errors.
        keypoints: points that belong to the object follow on centre and size.

    Returns:
        The box; of a polygon, the one around it.

    Raises:
        UserError: it is none of the two, or not in fractions.
    """
    words = row.split()
    try:
        number, values = float(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise UserError(f"{where}: {short(row)} has a word that is no number") from None
    if not number.is_integer() or number < 0:
        raise UserError(f"{where}: class {short(words[0])}; give the class's number, from 0")
    if keypoints:
        values = values[:4]
    polygon = len(values) >= 6 and len(values) % 2 == 0
    if len(values) != 4 and not polygon:
        raise UserError(
            f"{where}: {len(words)} numbers; write class x_center y_center width height, or class "
            "and the x y of a polygon's corners"
        )
    if any(abs(value) > _FAR for value in values if math.isfinite(value)):
        raise UserError(
            f"{where}: {short(row)} is not in fractions of the picture's width and height; divide "
            "pixels by them"
        )
    if polygon:
        xs, ys = values[0::2], values[1::2]
        return YoloBox(int(number), (min(xs), min(ys), max(xs), max(ys)))
    x, y, width, height = values
    corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return YoloBox(int(number), corners)


def in_pixels(corners: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return corners in pixels; what only rounding puts out of the picture is put back.

    Args:
        corners: x1, y1, x2, y2 in fractions.
        size: (height, width) of the picture.
    """
    height, width = size

    def settled(value: float, most: int) -> float:
        inside = min(max(value, 0.0), float(most))
        return inside if abs(inside - value) <= _SLACK else value

    x1, y1, x2, y2 = corners
    return (
        settled(x1 * width, width),
        settled(y1 * height, height),
        settled(x2 * width, width),
        settled(y2 * height, height),
    )


# --------------------------------------------------------------------------- lists of pictures


def _listed(root: str, source: str) -> Iterator[str]:
    """The pictures of a list, relative to `root`."""
    path = os.path.join(root, source)
    folder = os.path.dirname(source)
    for number, row in read_rows(path):
        name = row.strip()
        found = resolve(root, name, folder)
        if found is None:
            raise UserError(
                f"{path}, line {number}: {short(name)} leads out of {root}; write names "
                "relative to the list"
            )
        yield found


def resolve(root: str, name: str, *folders: str) -> str | None:
    """Return what an entry of somebody's list means, relative to `root`; None if it leads out.

    Entries are relative to the list or to the data's folder. Many begin with folders that were
    around the data where the list was written: these are left out, one after the other, until
    something of that name exists in the folder.

    Args:
        root: folder of the data set.
        name: the entry.
        folders: relative to `root`, that entries may start from.

    Raises:
        UserError: no file can have so long a name.
    """
    if len(name.encode("utf-8", "surrogatepass")) > _LONGEST_NAME:
        raise UserError(
            f"{root}: a list names {short(name)}, of more than {_LONGEST_NAME} bytes; shorten it"
        )
    if os.path.isabs(name):
        name = os.path.relpath(name, os.path.abspath(root))
    plain = name.replace("\\", "/").removeprefix("./")
    starts = [*(os.path.join(folder, plain) for folder in folders), plain]
    said = [found for found in map(inner_or_none, starts) if found]
    steps = [step for step in plain.split("/") if step not in ("", ".", "..")]
    shorter = ("/".join(steps[start:]) for start in range(len(steps)))
    readings = [found for found in (*said, *shorter) if found != "."]
    existing = (found for found in readings if os.path.exists(os.path.join(root, found)))
    # Without one that exists, it is missing from a folder that does, or from where it says.
    beside = (found for found in readings if _has_folder(root, found))
    return next(existing, next(beside, said[0] if said else None))


def _has_folder(root: str, name: str) -> bool:
    folder = os.path.dirname(name)
    return bool(folder) and os.path.isdir(os.path.join(root, folder))
