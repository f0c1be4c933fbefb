# SPDX-License-Identifier: Apache-2.0
"""A part of a data set, such as its training pictures with their boxes, in whatever format."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from ...base.file_names import one_form
from ..coco_annotations import records_of
from ..coco_file import CocoFile, Entry
from ..records import AnnotationReport, ImageRecord

Records = tuple[list[ImageRecord], AnnotationReport]

# What the parts of a data set are called, the usual names first.
PART_NAMES = {
    "train": ("train", "train2017", "train2014", "training", "trainval"),
    "val": ("val", "val2017", "val2014", "valid", "validation"),
    "test": ("test", "test2017", "testing"),
}
_USED_FOR = {"train": PART_NAMES["train"], "val": PART_NAMES["val"] + PART_NAMES["test"]}
WHOLE = "all"  # the name of a part that has none


class Annotations(ABC):
    """Annotations that become records.

    Attributes:
        kind: of data set.
        corners: boxes are written as corners (not as a corner, width and height).
        anno_path: the file or folder that stands for them.
        image_dir: folder that the pictures' names are relative to.
    """

    kind: ClassVar[str]
    corners: ClassVar[bool]
    anno_path: str
    image_dir: str

    @abstractmethod
    def records(
        self, class_names: Sequence[str], *, keep_empty: bool, max_boxes: int, to_learn: bool
    ) -> Records:
        """Read them; `coco_annotations.read_coco` says what the arguments and errors are.

        Args:
            class_names: the wanted classes.
            keep_empty: keep images without boxes.
            max_boxes: most boxes of an image; 0 = all.
            to_learn: classes without a category are an error.
        """

    @abstractmethod
    def digest(self) -> str:
        """Return the digest of their content.

        Raises:
            UserError: they cannot be read.
        """

    @abstractmethod
    def tolerant(self) -> "Annotations":
        """Return the same annotations, of which files, rows and entries that cannot be used are
        left out and reported, for a look at all that is wrong."""

    def options(self) -> dict[str, Any]:
        """What of the configuration, besides the keys of every data set, decides on the records."""
        return {}


@dataclass(frozen=True)
class Part(Annotations):
    """Annotations that name their classes.

    Attributes:
        name: of the part, as its file or folder is called.
        root: folder of the data set.
        anno_path, image_dir: see `Annotations`.
        layout: what wrote the data set, in words.
        skips_broken: see `Annotations.tolerant`.
    """

    name: str
    root: str
    anno_path: str
    image_dir: str
    layout: str
    skips_broken: bool = field(default=False, kw_only=True)

    def tolerant(self) -> "Part":
        """Return the same part, of which what cannot be used is left out and reported."""
        return replace(self, skips_broken=True)

    @abstractmethod
    def read(self, *, to_learn: bool = True) -> CocoFile:
        """Return the annotations as a COCO file has them.

        Args:
            to_learn: a part without any annotations is an error.

        Raises:
            UserError: they cannot be read.
        """

    def read_for_records(self, *, to_learn: bool = True) -> CocoFile:
        """Return what of the annotations records are made of, which may take less memory.

        Args:
            to_learn: a part without any annotations is an error.

        Raises:
            UserError: they cannot be read.
        """
        return self.read(to_learn=to_learn)

    def classes(self) -> CocoFile:
        """Return what names the classes: the categories, and what else had to be read for them.

        Raises:
            UserError: they cannot be read.
        """
        return self.read_for_records()

    def records(
        self, class_names: Sequence[str], *, keep_empty: bool, max_boxes: int, to_learn: bool
    ) -> Records:
        """Read the annotations; see `Annotations.records`.

        Args:
            class_names: the wanted classes.
            keep_empty: keep images without boxes.
            max_boxes: most boxes of an image; 0 = all.
            to_learn: classes without a category are an error.
        """
        return records_of(
            self.read_for_records(to_learn=to_learn),
            self.image_dir,
            class_names,
            keep_empty=keep_empty,
            max_boxes=max_boxes,
            to_learn=to_learn,
            corners=self.corners,
            skips_broken=self.skips_broken,
        )


@dataclass(frozen=True)
class ReadOptions:
    """How annotations are meant, and which of them.

    Attributes:
        voc_difficult: "ignore" or "keep".
        voc_corners: "auto", "pixels" or "edges".
        splits: the files that the command `split` has written are parts, too.
    """

    voc_difficult: str = "ignore"
    voc_corners: str = "auto"
    splits: bool = True


class CocoBuilder:
    """Puts the pictures and boxes of another format together as a COCO file.

    Args:
        path: what stands for the annotations, for errors.
        names: the classes that are known beforehand, in their order.
        naming: how a class without objects is made known; {} stands for its name.
        lists_classes: the format says which classes there are, not only which ones are used.
    """

    def __init__(
        self, path: str, names: Sequence[str], naming: str, *, lists_classes: bool = True
    ) -> None:
        self._annotations: list[Entry] = []
        self._file = CocoFile(path, [], self._annotations, [], lists_classes, naming)
        self._ids: dict[str, int] = {}
        for name in names:
            self._category(name)

    def _category(self, name: str) -> int:
        name = one_form(name)
        if name not in self._ids:
            self._ids[name] = len(self._ids) + 1
            self._file.categories.append({"id": self._ids[name], "name": name})
        return self._ids[name]

    def image(self, id_: str, name: str, size: tuple[int, int] | None) -> None:
        """Add a picture.

        Args:
            id_: its own.
            name: of its file, relative to the folder of pictures.
            size: (height, width) in pixels, None where it is not known.
        """
        image: Entry = {"id": id_, "file_name": name}
        if size is not None:
            image["height"], image["width"] = size
        self._file.images.append(image)

    def box(self, corners: Sequence[float], name: str, *, crowd: bool = False) -> None:
        """Add a box to the picture that was added last.

        Args:
            corners: x1, y1, x2, y2 in pixels.
            name: of its class.
            crowd: objects in it are neither learned nor counted.
        """
        x1, y1, x2, y2 = corners
        entry: Entry = {
            "id": len(self._annotations) + 1,
            "image_id": self._file.images[-1]["id"],
            "category_id": self._category(name),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": int(crowd),
        }
        self._annotations.append(entry)

    def found(self, finding: str, example: str) -> None:
        """Note something for the report.

        Args:
            finding: a key of `records.FINDINGS`.
            example: in words.
        """
        self._file.findings.append((finding, example))

    def finish(self) -> CocoFile:
        """Return the file."""
        return self._file


# --------------------------------------------------------------------------- choosing


def role_of(name: str) -> str:
    """Return "train", "val" or "test" for a part of such a name, and other names as they are.

    Args:
        name: of a part.
    """
    lower = name.lower()
    return next((role for role, names in PART_NAMES.items() if lower in names), name)


def in_usual_order(parts: Sequence[Part]) -> list[Part]:
    """Return parts with those to train on first, then those to evaluate on, then all others.

    Args:
        parts: in whatever order.
    """
    usual = [name for names in PART_NAMES.values() for name in names]
    place = {name: number for number, name in enumerate(usual)}
    return sorted(parts, key=lambda part: (place.get(part.name.lower(), len(usual)), part.name))


def choose_part(parts: Sequence[Part], split: str, data_type: str) -> Part | None:
    """Return the part that a split takes, None if none is meant.

    Args:
        parts: of a data set.
        split: "train" or "val".
        data_type: the name that the configuration gives it. One of the usual names stands for all
            of them; a path stands for its last part too.
    """
    last = data_type.rpartition("/")[2].lower()
    usual = _USED_FOR[split] if last in _USED_FOR[split] else ()
    by_name = {part.name.lower(): part for part in reversed(parts)}
    for name in (data_type.lower(), last, *usual):
        if name in by_name:
            return by_name[name]
    # A part that is all there is serves both, unless it is called what the other split takes.
    other = _USED_FOR["val" if split == "train" else "train"]
    only = parts[0] if len(parts) == 1 and usual else None
    return only if only and only.name.lower() not in other else None


def only_trains(parts: Sequence[Part], data_type: str) -> bool:
    """Say whether a validation part was looked for by a usual name, and parts to train on are all.

    Args:
        parts: of a data set.
        data_type: the name that the configuration gives the validation part.
    """
    usual = data_type.rpartition("/")[2].lower() in _USED_FOR["val"]
    return bool(parts) and usual and all(role_of(part.name) == "train" for part in parts)
