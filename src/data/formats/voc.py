# SPDX-License-Identifier: Apache-2.0
"""VOC's annotations, an XML file a picture: VOC's own folders, and what tools make of them."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ...base.digests import texts_digest
from ...base.errors import UserError
from ...base.messages import short, short_list
from ...images.headers import IMAGE_SUFFIXES
from ..annotation_files import read_rows
from ..coco_file import CocoFile
from .folder import (
    files_in,
    folder_called,
    folders_in,
    has_file,
    in_threads,
    inner_name,
    inner_or_none,
    picture_ids,
    pictures_in,
    read_small_text,
    readings,
    small_digest,
    stem_of,
    without_ending,
)
from .part import PART_NAMES, WHOLE, CocoBuilder, Part, ReadOptions
from .voc_xml import PIXELS, VocFile, read_voc_file

XML = ".xml"
LISTS = os.path.join("ImageSets", "Main")
LABEL_MAP = "labelmap.txt"  # CVAT's
_PICTURES = ("jpegimages", "images", "image", "imgs", "img")
_CLASS_LIST = re.compile(r".+_(train|val|trainval|test)")  # cat_train.txt: which have a cat
_IN_CLASS_LIST = ("-1", "0", "1")
_LARGEST_FILE = 1 << 24  # bytes
_NAMING = "needs the line {}::: in labelmap.txt"


@dataclass(frozen=True)
class VocPart(Part):
    """Pictures with an XML file each.

    Attributes:
        annotations: folder of the XML files.
        list_path: file with the pictures' names, empty where all with an XML file belong to it.
        deep: folders in the folders are looked into.
        reading: how the files are meant.
    """

    kind: ClassVar[str] = "voc"
    corners: ClassVar[bool] = True
    annotations: str
    list_path: str
    deep: bool
    reading: ReadOptions

    def options(self) -> dict[str, Any]:
        """What of the configuration decides on the records."""
        return {
            "voc_difficult": self.reading.voc_difficult,
            "voc_corners": self.reading.voc_corners,
        }

    def read(self, *, to_learn: bool = True) -> CocoFile:
        """Read the XML files of all pictures.

        Args:
            to_learn: makes no difference here.

        Raises:
            UserError: one of them cannot be read.
        """
        stems = self._stems()
        paths = [self._xml_of(stem) for stem in stems]
        read = list(readings(_read_if_there, paths, skips_broken=self.skips_broken))
        found = pictures_in(self.image_dir, deep=self.deep)
        pictures = {stem_of(name): name for name in reversed(found)}
        known = self._known_names()
        used = {item.name for file in read if isinstance(file, VocFile) for item in file.objects}
        names_in_order = [*known, *sorted(used - set(known))]
        builder = CocoBuilder(self.anno_path, names_in_order, _NAMING, lists_classes=bool(known))
        names = [_picture(pictures, *pair) for pair in zip(stems, read, strict=True)]
        for name, id_, file in zip(names, picture_ids(names), read, strict=True):
            if isinstance(file, UserError):
                builder.found("broken_file", str(file))
                continue
            builder.image(id_, name, file.size if file else None)
            if file is None:
                builder.found("no_labels", name)
            else:
                self._add_boxes(builder, file)
        if not self.list_path:
            for name in sorted(set(pictures.values()) - set(names)):
                builder.found("unlabelled", name)
        return builder.finish()

    def _add_boxes(self, builder: CocoBuilder, file: VocFile) -> None:
        meant = self.reading.voc_corners
        kind = file.corner_kind() if meant == "auto" else meant
        first = 1.0 if kind == PIXELS else 0.0
        for name, (xmin, ymin, xmax, ymax), difficult in file.objects:
            # The last pixel belongs to the object: its far edge has the next number, from 0.
            crowd = difficult and self.reading.voc_difficult == "ignore"
            builder.box((xmin - first, ymin - first, xmax, ymax), name, crowd=crowd)

    def digest(self) -> str:
        """Return the digest of the list, of the names of the classes and of the XML files.

        Raises:
            UserError: one of them cannot be read.
        """
        stems = self._stems()
        digests = in_threads(_digest, [self._xml_of(stem) for stem in stems])
        label_map = _digest(os.path.join(self.root, LABEL_MAP))
        pairs = zip(stems, digests, strict=True)
        return texts_digest([label_map, *(part for pair in pairs for part in pair)])

    def _xml_of(self, stem: str) -> str:
        return os.path.join(self.annotations, stem + XML)

    def _stems(self) -> list[str]:
        """The pictures' names without their endings, as in the list, or as there are XML files."""
        if not self.list_path:
            return [stem_of(name) for name in files_in(self.annotations, [XML], deep=self.deep)]
        stems = list(_listed(self.list_path, self.annotations))
        if not stems:
            raise UserError(f"{self.list_path}: no picture is listed; write a name on each line")
        twice = [stem for stem, times in Counter(stems).items() if times > 1]
        if twice:
            raise UserError(f"{self.list_path}: {short(twice[0])} is listed twice; take one out")
        return stems

    def _known_names(self) -> list[str]:
        """The classes that CVAT's list of labels has, in its order."""
        path = os.path.join(self.root, LABEL_MAP)
        if not os.path.isfile(path):
            return []
        rows = read_small_text(path, _LARGEST_FILE).splitlines()
        names = [row.partition(":")[0].strip() for row in rows if not row.startswith("#")]
        return list(dict.fromkeys(name for name in names if name not in ("", "background")))


def _listed(path: str, annotations: str) -> Iterator[str]:
    """The names in a list, as the XML files in `annotations` have them."""
    for number, row in read_rows(path):
        given = name = row.strip()
        words = name.rsplit(None, 1)
        if len(words) == 2 and words[1] in _IN_CLASS_LIST:
            name = words[0]
        if len(name) > 1 and name[0] == name[-1] == '"':
            name = name[1:-1]
        stem = without_ending(name, (*IMAGE_SUFFIXES, XML))
        # The picture of the XML file cat.jpg.xml is cat.jpg.png, and its name cat.jpg.
        as_they_are = [other for other in (name, given) if other != stem]
        found = next((other for other in as_they_are if _has(annotations, other + XML)), stem)
        yield inner_name(found, f"{path}, line {number}")


def _has(folder: str, name: str) -> bool:
    inner = inner_or_none(name)
    return inner is not None and os.path.isfile(os.path.join(folder, inner))


def _read_if_there(path: str) -> VocFile | None:
    return read_voc_file(path) if os.path.isfile(path) else None


def _digest(path: str) -> str:
    return small_digest(path, _LARGEST_FILE)


def _picture(pictures: dict[str, str], stem: str, file: VocFile | UserError | None) -> str:
    """The picture of an XML file: the one called like it, else the one that it names."""
    if stem in pictures:
        return pictures[stem]
    folder = stem.rpartition("/")[0]
    stated = file.file_name if isinstance(file, VocFile) else ""
    named = f"{folder}/{stated}" if folder else stated
    if stated and pictures.get(stem_of(named)) == named:
        return named
    ending = os.path.splitext(stated)[1]
    return stem + (ending if ending.lower() in IMAGE_SUFFIXES else ".jpg")


# --------------------------------------------------------------------------- layouts


def voc_parts(root: str, reading: ReadOptions) -> list[Part]:
    """Return the parts of a data set of VOC's kind, none if it is of another.

    Args:
        root: the folder.
        reading: how the files are meant.

    Raises:
        UserError: it holds several sets.
    """
    own = _with_folders(root, reading)
    if own:
        return own
    inner = {name: _with_folders(os.path.join(root, name), reading) for name in folders_in(root)}
    sets = {name: parts for name, parts in inner.items() if parts}
    roles = [name for names in PART_NAMES.values() for name in names]
    if len(sets) == 1 and next(iter(sets)).lower() not in roles:  # VOCdevkit/VOC2007
        return next(iter(sets.values()))
    if sets and all(name.lower() in roles for name in sets):
        return [_renamed(parts, name, root) for name, parts in sets.items()]
    if sets:
        raise UserError(
            f"{root} holds several data sets ({short_list(list(sets))}); give one of them as "
            "coco_root, or make one of them with the command merge"
        )
    return _beside_pictures(root, reading)


def _renamed(parts: Sequence[Part], name: str, root: str) -> Part:
    """The part of a folder that is called as a part: of all its pictures."""
    part = parts[0]
    assert isinstance(part, VocPart)
    return VocPart(
        name,
        root,
        part.annotations,
        part.image_dir,
        part.layout,
        part.annotations,
        "",
        True,
        part.reading,
    )


def _with_folders(root: str, reading: ReadOptions) -> list[Part]:
    """The parts of `Annotations`, `JPEGImages` and `ImageSets/Main`."""
    folder = folder_called(root, "annotations")
    if folder is None or not _has_xml(folder):
        return []
    pictures = folder_called(root, *_PICTURES) or root
    layout = _layout(root, pictures)
    lists = os.path.join(root, LISTS)
    names = [stem_of(name) for name in files_in(lists, [".txt"], deep=False)]
    parts = [name for name in names if not _CLASS_LIST.fullmatch(name)]
    paths = {name: os.path.join(lists, f"{name}.txt") for name in parts} or {WHOLE: ""}
    return [
        VocPart(name, root, path or folder, pictures, layout, folder, path, True, reading)
        for name, path in paths.items()
    ]


def _has_xml(folder: str) -> bool:
    inner = (os.path.join(folder, name) for name in folders_in(folder))
    return has_file(folder, XML) or any(has_file(name, XML) for name in inner)


def _layout(root: str, pictures: str) -> str:
    if os.path.isfile(os.path.join(root, LABEL_MAP)):
        return "VOC, as CVAT exports it"
    if os.path.basename(pictures) == "images":
        return "VOC, as Label Studio exports it"
    return "VOC"


def _beside_pictures(root: str, reading: ReadOptions) -> list[Part]:
    """The parts of folders in which the XML files are beside their pictures."""
    folders = {name: os.path.join(root, name) for name in folders_in(root)}
    found = {name: path for name, path in folders.items() if has_file(path, XML)}
    layout = "VOC, as Roboflow exports it"
    if not found and has_file(root, XML):
        found, layout = {WHOLE: root}, "VOC, XML files beside the pictures"
    return [
        VocPart(name, root, path, path, layout, path, "", False, reading)
        for name, path in found.items()
    ]
