# SPDX-License-Identifier: Apache-2.0
"""A COCO instances file: read once, and checked for what is wanted of it.

Converting, judging and drawing want different things of a file, so reading checks its form alone.
Every check is a small function of its own, which raises the error that names the entry.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..base.errors import UserError
from ..base.file_names import one_form
from ..base.json_numbers import identifier
from ..base.messages import short
from .annotation_files import LARGEST_FILE, read_text
from .annotation_table import NUMBERS, AnnotationTable, Entry
from .coco_stream import stream_coco
from .record_builder import Id, Row

_LISTS = ("images", "annotations", "categories")
_IDS = {"images": ("id",), "categories": ("id",), "annotations": ("image_id", "category_id")}


class ListedImage(NamedTuple):
    """An image as the file lists it.

    Attributes:
        file_name: folders included.
        stated_size: (height, width) in pixels, None where the file gives none.
    """

    file_name: str
    stated_size: tuple[int, int] | None


@dataclass
class CocoFile:
    """A COCO instances file of the right form: lists of objects, whatever is in these.

    Attributes:
        path: where it was read, for errors.
        images, annotations: as in the file.
        categories: with names in Unicode's composed form. Of those with one name, the ones without
            annotations are left out if another one has some.
        lists_classes: a class without objects can be seen in the categories, too.
        naming: how a class without objects is made known, for errors; {} stands for its name.
        findings: (finding, example) of what reading another format into this one has found.
    """

    path: str
    images: list[Entry]
    annotations: Sequence[Entry]
    categories: list[Entry]
    lists_classes: bool = True
    naming: str = 'needs {{"id": ..., "name": "{}"}} there, too'
    findings: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def read(cls, path: str, *, unannotated: bool = False, compact: bool = False) -> "CocoFile":
        """Read a file.

        Args:
            path: the JSON file.
            unannotated: take a file without `annotations`, as test sets have, for one with an empty
                list.
            compact: keep only what records are made of, in a tenth of the memory.

        Raises:
            UserError: it is missing, not UTF-8, not JSON, or something else.
        """
        content = stream_coco(path, LARGEST_FILE) if compact else None
        if content is None:
            content = _read_object(path)
        if unannotated:
            content.setdefault("annotations", [])
        for key in _LISTS:
            _require_objects(content, key, path)
        file = cls(path, **{key: content[key] for key in _LISTS})
        file.categories = _without_unused_twins(file.categories, file.annotations)
        return file

    def content(self) -> dict[str, list[Entry]]:
        """Return the three lists by their names."""
        return {key: list(getattr(self, key)) for key in _LISTS}

    def where(self, key: str, position: int) -> str:
        """Return how errors call an entry.

        Args:
            key: the list's name.
            position: in the list.
        """
        return f"annotation file {self.path}: {key}[{position}]"

    # ----------------------------------------------------------------------- to convert

    def labels(self, class_names: Sequence[str]) -> dict[Id, int]:
        """Return category id -> label 1..C, or 0 for a category that is not wanted.

        Args:
            class_names: the wanted classes without the background, in label order.

        Raises:
            UserError: a category without an id or a name, or two that cannot be told apart.
        """
        label_of = {one_form(name): index for index, name in enumerate(class_names, start=1)}
        labels: dict[Id, int] = {}
        named: dict[str, Id] = {}
        for position, category in enumerate(self.categories):
            where = self.where("categories", position)
            id_, name = _required_id(category, "id", where), _category_name(category, where)
            if id_ in labels:
                raise UserError(f"{where} repeats id {short(id_)}; category ids must be unique")
            if name in named and name in label_of:
                raise _twins(f"{where} repeats the name '{name}'", name, named[name], id_)
            named[name] = id_
            labels[id_] = label_of.get(name, 0)
        return labels

    def class_names(self) -> list[str]:
        """Return the names of the categories, each once, in the file's order.

        Without those that have no annotation and only stand above others, as Roboflow's first.
        """
        used = {identifier(annotation.get("category_id")) for annotation in self.annotations}
        above = [category.get("supercategory") for category in self.categories]
        parents = {name for name in above if isinstance(name, str)}
        kept = [
            category["name"]
            for category, parent in zip(self.categories, above, strict=True)
            if parent not in (None, "", "none")
            or category["name"] not in parents
            or identifier(category.get("id")) in used
        ]
        return list(dict.fromkeys(kept))

    def listed_images(self) -> dict[Id, ListedImage]:
        """Return image id -> what the file says of it, in the file's order.

        Raises:
            UserError: there is none, one without an id or a name, or two with one id.
        """
        if not self.images:
            raise UserError(f"annotation file {self.path} lists no images; give a file that does")
        listed: dict[Id, ListedImage] = {}
        for position, image in enumerate(self.images):
            where = self.where("images", position)
            id_ = _required_id(image, "id", where)
            name = _file_name(image, id_, where)
            if id_ in listed:
                raise UserError(
                    f"{where} repeats image id {short(id_)} (of {short(listed[id_].file_name)}); "
                    "image ids must be unique"
                )
            height, width = _side(image.get("height")), _side(image.get("width"))
            listed[id_] = ListedImage(name, (height, width) if height and width else None)
        return listed

    def id_in_annotation(self, key: str, position: int) -> Id:
        """Return an annotation's image_id or category_id.

        Args:
            key: which of them.
            position: of the annotation.

        Raises:
            UserError: it has none.
        """
        annotation = self.annotations[position]
        value = annotation.get(key)
        if type(value) is int:  # nearly always
            return value
        return _required_id(annotation, key, self.where("annotations", position))

    def row(self, position: int, label: int) -> Row:
        """Return an annotation's box as corners, with its label and whether it is a crowd region.

        Args:
            position: of the annotation.
            label: of its category.

        Raises:
            UserError: it has no box.
        """
        annotation = self.annotations[position]
        box = annotation.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not NUMBERS.issuperset(map(type, box)):
            raise UserError(
                f"{self.where('annotations', position)} has bbox {short(box)}; it must be four "
                "numbers [x, y, w, h]"
            )
        crowd = annotation.get("iscrowd", 0)
        if crowd not in (0, 1):
            raise UserError(
                f"{self.where('annotations', position)} has iscrowd {short(crowd)}; it must be 0 "
                "or 1"
            )
        try:
            x, y, width, height = map(float, box)
        except OverflowError:  # an integer beyond the range of floats: reported like 1e999
            x = y = width = height = float("inf")
        return (x, y, x + width, y + height, label, bool(crowd))

    # ----------------------------------------------------------------------- to judge by

    def check_for_evaluation(self, class_names: Sequence[str]) -> None:
        """Check what judging detections needs; ids become ints or texts, however they are written.

        One category of each name, and annotations of these categories on listed images as
        converting wants them; all other annotations are not looked at.

        Args:
            class_names: the classes to judge.

        Raises:
            UserError: an entry that cannot be used, or no annotation is of a listed image.
        """
        self._settle_ids()
        self._require_text_names()
        for key in ("categories", "images"):
            self._require_unique_ids(key)
        self._require_annotated_images()
        self._require_usable_rows(self._wanted_ids(class_names))

    def _settle_ids(self) -> None:
        for key, fields in _IDS.items():
            for position, entry in enumerate(getattr(self, key)):
                for name in fields:
                    value = entry[name] = identifier(given := entry.get(name))
                    if value is None:
                        raise UserError(
                            f"{self.where(key, position)} has {name} {short(given)}; it must be "
                            "a whole number or a string"
                        )

    def _require_text_names(self) -> None:
        for position, category in enumerate(self.categories):
            if not isinstance(category.get("name", ""), str):
                raise UserError(
                    f"{self.where('categories', position)} has name {short(category['name'])}; it "
                    "must be a string"
                )

    def _require_unique_ids(self, key: str) -> None:
        places: dict[Id, int] = {}
        for position, entry in enumerate(getattr(self, key)):
            first = places.setdefault(entry["id"], position)
            if first != position:
                raise UserError(
                    f"{self.where(key, position)} repeats the id {short(entry['id'])} of "
                    f"{key}[{first}]; give each an id of its own"
                )

    def _require_annotated_images(self) -> None:
        listed = dict.fromkeys(image["id"] for image in self.images)
        wanted = [annotation["image_id"] for annotation in self.annotations]
        if wanted and listed.keys().isdisjoint(wanted):
            raise self.no_image_in_common(wanted[0], next(iter(listed), None))

    def _wanted_ids(self, class_names: Sequence[str]) -> set[Id]:
        """The ids of the categories of these names."""
        names = {one_form(name) for name in class_names}
        wanted: dict[str, Id] = {}
        for category in self.categories:
            name = category.get("name")
            if name in names:
                first = wanted.setdefault(name, category["id"])
                if first != category["id"]:
                    raise _twins(f"annotation file {self.path}", name, first, category["id"])
        return set(wanted.values())

    def _require_usable_rows(self, category_ids: set[Id]) -> None:
        images = {image["id"] for image in self.images}
        for position, annotation in enumerate(self.annotations):
            if annotation["image_id"] in images and annotation["category_id"] in category_ids:
                self.row(position, 0)

    def no_image_in_common(self, annotated: Id, listed: Id | None, hint: str = "") -> UserError:
        """Return the error for annotations of which none belongs to a listed image.

        Args:
            annotated: the image_id of the first annotation.
            listed: the id of the first image, None where there is none.
            hint: what is said in addition.
        """
        shown = "no image is listed" if listed is None else f"id {short(listed)} in images[0]"
        return UserError(
            f"annotation file {self.path}: none of its {len(self.annotations)} annotations belongs "
            f"to a listed image (image_id {short(annotated)} in annotations[0], {shown}{hint}); "
            "make the ids agree"
        )


# --------------------------------------------------------------------------- the file's form


def _read_object(path: str) -> dict[str, Any]:
    content = _parse(path)
    if not isinstance(content, dict):
        raise UserError(
            f"annotation file {path} is not a COCO file: its top level is a "
            f"{type(content).__name__}, not an object"
        )
    return content


def _parse(path: str) -> Any:
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(
            f"annotation file {path} is not valid JSON: line {error.lineno}, column {error.colno}: "
            f"{error.msg}; write or download it again"
        ) from None
    except ValueError:  # Python's limit
        raise UserError(f"annotation file {path} has a number of too many digits") from None
    except RecursionError:
        raise UserError(f"annotation file {path} is not a COCO file: nested too deeply") from None
    except MemoryError:
        raise UserError(f"annotation file {path} does not fit into memory; split it") from None


def _require_objects(content: dict[str, Any], key: str, path: str) -> None:
    """Make sure that a list is there and holds objects."""
    if key not in content:
        raise UserError(
            f"annotation file {path} has no '{key}'; give a COCO instances file with images, "
            "annotations and categories"
        )
    entries = content[key]
    if isinstance(entries, AnnotationTable):
        return
    if not isinstance(entries, list):
        raise UserError(
            f"annotation file {path}: '{key}' is a {type(entries).__name__}, not a list"
        )
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(
                f"annotation file {path}: {key}[{position}] is {short(entry)}, not an object"
            )


def _without_unused_twins(categories: list[Entry], annotations: Iterable[Entry]) -> list[Entry]:
    """Categories without those of a repeated name that no annotation has, where another one has."""
    named = [c for c in categories if isinstance(c.get("name"), str)]
    for category in named:
        category["name"] = one_form(category["name"])
    named = [c for c in named if identifier(c.get("id")) is not None]  # the others are damaged
    times = Counter(category["name"] for category in named)
    if len(times) == len(named):
        return categories
    used = {identifier(annotation.get("category_id")) for annotation in annotations}
    names = {c["name"] for c in named if times[c["name"]] > 1 and identifier(c.get("id")) in used}
    dropped = {id(c) for c in named if c["name"] in names and identifier(c.get("id")) not in used}
    return [category for category in categories if id(category) not in dropped]


# --------------------------------------------------------------------------- single values


def _required_id(entry: Entry, key: str, where: str) -> Id:
    if key not in entry:
        raise UserError(f"{where} has no '{key}'")
    value = identifier(entry[key])
    if value is None:
        raise UserError(f"{where} has {key} {short(entry[key])}; it must be an integer or a string")
    return value


def _category_name(category: Entry, where: str) -> str:
    name = category.get("name")
    if not isinstance(name, str):
        raise UserError(f"{where} has name {short(name)}; a category needs a name")
    return name


def _file_name(image: Entry, id_: Id, where: str) -> str:
    name = image.get("file_name")
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"{where} (id {short(id_)}) has file_name {short(name)}; give a name")
    return name


def _side(value: Any) -> int:
    """A stated height or width, pixels; 0 for what cannot be one."""
    side = identifier(value)
    return side if isinstance(side, int) and 0 < side < 2**31 else 0


def _twins(where: str, name: str, first: Id, second: Id) -> UserError:
    return UserError(
        f"{where}: 2 categories have the name {short(name)} (ids {short(first)} and "
        f"{short(second)}); merge them, or delete the one that has no annotations"
    )
