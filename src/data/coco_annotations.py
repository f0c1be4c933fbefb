# SPDX-License-Identifier: Apache-2.0
"""COCO annotation files -> image records."""

import difflib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..base.errors import UserError
from ..base.file_names import one_form
from ..base.json_numbers import identifier
from ..base.messages import short, short_list
from .annotation_files import read_text
from .record_builder import RecordBuilder, Row
from .records import AnnotationReport, ImageRecord

_MOST_COMPARED, _LONGEST_COMPARED = 2000, 100  # names and their letters, in search of a like one
_LIKELY = 0.8  # as like as names of one class are, where one of two must be meant
_LONGEST_NUMBER = 20  # digits of an id that is written as a text

Id = int | str


def read_coco(
    anno_path: str,
    image_dir: str,
    class_names: Sequence[str],
    *,
    keep_empty: bool,
    max_boxes: int = 0,
    to_learn: bool = True,
) -> tuple[list[ImageRecord], AnnotationReport]:
    """Read a COCO instances file.

    Categories are matched by name, so ids may be anything and the file may hold more classes than
    wanted. A missing `iscrowd` is 0.

    Args:
        anno_path: the JSON file.
        image_dir: folder that `file_name` is relative to.
        class_names: the wanted classes without the background, in label order (label 1 first).
        keep_empty: keep images that have no box (or only crowd regions).
        max_boxes: keep at most this many boxes an image, the largest; 0 = all.
        to_learn: the file must have annotations and a category of every class. Otherwise a class
            without objects may have no category, and a test set no annotations.

    Returns:
        Records in the order of the file's images, and the report of what was left out.

    Raises:
        UserError: the file is missing, broken, contradicts itself, lacks a class, or leaves
            nothing usable.
    """
    data = load_coco(anno_path, unannotated=not to_learn)
    report = AnnotationReport(source=str(anno_path))
    labels = _category_labels(data["categories"], class_names, anno_path)
    _report_absent(labels, data["categories"], class_names, report, to_learn)
    images = _coco_images(data["images"], anno_path)
    boxes_by_image = _coco_boxes(data["annotations"], images, labels, report)
    builder = RecordBuilder(
        report, image_dir, keep_empty=keep_empty, max_boxes=max_boxes, corners=False
    )
    for image_id, (file_name, stated_size) in images.items():
        builder.add(image_id, file_name, boxes_by_image.get(image_id, []), stated_size)
    return builder.finish(), report


def load_coco(path: str, *, unannotated: bool = False) -> dict[str, Any]:
    """Read a COCO instances file: an object with lists of images, annotations and categories.

    The names of categories come in Unicode's composed form. Of categories with one name, those
    without annotations are left out if another one has some.

    Args:
        path: the file.
        unannotated: take a file without `annotations`, as test sets have, for one with an empty
            list.

    Raises:
        UserError: the file is missing, not UTF-8, not JSON, or something else.
    """
    data = _parse(path)
    if not isinstance(data, dict):
        raise UserError(
            f"annotation file {path} is not a COCO file: its top level is a "
            f"{type(data).__name__}, not an object"
        )
    if unannotated:
        data.setdefault("annotations", [])
    for key in ("images", "annotations", "categories"):
        if key not in data:
            raise UserError(
                f"annotation file {path} has no '{key}'; give a COCO instances file with images, "
                "annotations and categories"
            )
        if not isinstance(data[key], list):
            raise UserError(
                f"annotation file {path}: '{key}' is a {type(data[key]).__name__}, not a list"
            )
        for position, entry in enumerate(data[key]):
            if not isinstance(entry, dict):
                raise UserError(
                    f"annotation file {path}: {key}[{position}] is {short(entry)}, not an object"
                )
    data["categories"] = _without_unused_twins(data["categories"], data["annotations"])
    return data


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


def _without_unused_twins(categories: list[dict], annotations: list[dict]) -> list[dict]:
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


def check_coco(data: Mapping[str, Any], class_names: Sequence[str], path: str) -> None:
    """Check what evaluation needs of the entries of what `load_coco` returned.

    One category of each name, and annotations of these categories on listed images as `read_coco`
    wants them; all others are not looked at. Ids must have been checked.

    Raises:
        UserError: an entry that cannot be used.
    """
    wanted_names = {one_form(name) for name in class_names}
    wanted: dict[str, Id] = {}
    for category in data["categories"]:
        name = category.get("name")
        if isinstance(name, str) and name in wanted_names:
            first = wanted.setdefault(name, category["id"])
            if first != category["id"]:
                raise _twins(f"annotation file {path}", name, first, category["id"])
    images, ids = {image["id"] for image in data["images"]}, set(wanted.values())
    for position, annotation in enumerate(data["annotations"]):
        if annotation["image_id"] in images and annotation["category_id"] in ids:
            _coco_row(annotation, 0, position, path)


def _twins(where: str, name: str, first: Id, second: Id) -> UserError:
    return UserError(
        f"{where}: 2 categories have the name {short(name)} (ids {short(first)} and "
        f"{short(second)}); merge them, or delete the one that has no annotations"
    )


# --------------------------------------------------------------------------- categories


def _category_labels(categories, class_names, path) -> dict[Id, int]:
    """Category id -> label 1..C, or 0 for a category that is not wanted."""
    labels = {one_form(name): index for index, name in enumerate(class_names, start=1)}
    result: dict[Id, int] = {}
    seen: dict[str, Id] = {}
    for position, category in enumerate(categories):
        where = f"annotation file {path}: categories[{position}]"
        category_id = _identifier(category, "id", where)
        name = category.get("name")
        if not isinstance(name, str):
            raise UserError(f"{where} has name {short(name)}; a category needs a name")
        if category_id in result:
            raise UserError(f"{where} repeats id {short(category_id)}; category ids must be unique")
        if name in seen and name in labels:
            raise _twins(f"{where} repeats the name '{name}'", name, seen[name], category_id)
        seen[name] = category_id
        result[category_id] = labels.get(name, 0)
    return result


def _report_absent(labels, categories, class_names, report, to_learn) -> None:
    """Refuse a file that lacks a class, or report it if that can be.

    Args:
        labels: category id -> label.
    """
    known = set(labels.values())
    absent = [name for label, name in enumerate(class_names, start=1) if label not in known]
    if not absent:
        return
    names = [c["name"] for c in categories]
    wanted = {one_form(name) for name in class_names}
    others = [name for name in names if name not in wanted]
    if not to_learn and len(absent) < len(class_names):
        likely = next(filter(None, (like_name(name, others, _LIKELY) for name in absent)), None)
        if likely is None:
            for name in absent:
                report.add("missing_class", name)
            return
    near = like_name(absent[0], others or names, 0.5)
    hint = f"did you mean {short(near)}?" if near else f"the file has: {short_list(names, 10)}"
    more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
    raise UserError(
        f"class '{absent[0]}'{more} of coco_classes is not among the categories of "
        f"{report.source}; {hint if names else 'the file has no category'} (a class without "
        f'objects needs {{"id": ..., "name": "{absent[0]}"}} there, too)'
    )


def like_name(name: str, names: Collection[str], cutoff: float) -> str | None:
    """Return the name that is most like another one, None if none is.

    Args:
        cutoff: least likeness, 0..1 (see `difflib`).
    """
    if len(name) > _LONGEST_COMPARED:
        return None
    comparable = [other for other in names if len(other) <= _LONGEST_COMPARED][:_MOST_COMPARED]
    return next(iter(difflib.get_close_matches(name, comparable, 1, cutoff)), None)


# --------------------------------------------------------------------------- images, annotations


def _coco_images(images, path) -> dict[Id, tuple[str, tuple[int, int] | None]]:
    """Image id -> (file name, stated size)."""
    if not images:
        raise UserError(f"annotation file {path} lists no images; give a file that does")
    result: dict[Id, tuple[str, tuple[int, int] | None]] = {}
    for position, image in enumerate(images):
        where = f"annotation file {path}: images[{position}]"
        image_id = _identifier(image, "id", where)
        name = image.get("file_name")
        if not isinstance(name, str) or not name.strip():
            raise UserError(
                f"{where} (id {short(image_id)}) has file_name {short(name)}; give a name"
            )
        if image_id in result:
            raise UserError(
                f"{where} repeats image id {short(image_id)} (of {short(result[image_id][0])}); "
                "image ids must be unique"
            )
        height, width = _side(image.get("height")), _side(image.get("width"))
        result[image_id] = (name, (height, width) if height and width else None)
    return result


def _side(value: Any) -> int:
    """A stated height or width, pixels; 0 for what cannot be one."""
    side = identifier(value)
    return side if isinstance(side, int) and 0 < side < 2**31 else 0


def _coco_boxes(annotations, images, labels, report) -> dict[Id, list[Row]]:
    """Image id -> rows."""
    path = report.source
    result: dict[Id, list[Row]] = {}
    known = 0
    for position, annotation in enumerate(annotations):
        image_id = _identifier_of(annotation, "image_id", position, path)
        category_id = _identifier_of(annotation, "category_id", position, path)
        label = labels.get(category_id)
        if label is None:
            raise _unknown_category(position, image_id, category_id, labels, path)
        row = _coco_row(annotation, label, position, path)
        if image_id not in images:
            mixed = _other_kind(image_id) in images
            report.add("mixed_ids" if mixed else "unknown_image", f"image_id {short(image_id)}")
            continue
        known += 1
        if label == 0:
            report.add("other_class", f"category_id {short(category_id)}")
            continue
        result.setdefault(image_id, []).append(row)
        if annotation.get("ignore") and not row[5]:
            report.add("ignore", f"annotations[{position}] on {images[image_id][0]}")
    if annotations and not known:
        first, listed = annotations[0]["image_id"], next(iter(images))
        kinds = "; one is a text and the other a number" if type(first) is not type(listed) else ""
        raise UserError(
            f"annotation file {path}: none of its {len(annotations)} annotations belongs to a "
            f"listed image (image_id {short(first)} in annotations[0], id {short(listed)} in "
            f"images[0]{kinds}); make the ids agree"
        )
    return result


def _unknown_category(position, image_id, category_id, labels, path) -> UserError:
    alike = _other_kind(category_id) in labels
    return UserError(
        f"annotation file {path}: annotations[{position}] (image {short(image_id)}) has "
        f"category_id {short(category_id)}, which no category has; "
        + (
            f"the category's id is {short(_other_kind(category_id))}: write both as a number"
            if alike
            else "add the category or correct the id"
        )
    )


def _other_kind(id_: Id) -> Id | None:
    """The number that a text shows, or the text that shows a number; None if there is none."""
    if isinstance(id_, int):
        return str(id_)
    number = id_.removeprefix("-")
    return int(id_) if len(number) <= _LONGEST_NUMBER and number.isdecimal() else None


def _coco_row(annotation, label, position, path) -> Row:
    """An annotation's box as corners.

    Raises:
        UserError: it has none.
    """
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise UserError(
            f"annotation file {path}: annotations[{position}] has bbox {short(box)}; it must be "
            "four numbers [x, y, w, h]"
        )
    crowd = annotation.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise UserError(
            f"annotation file {path}: annotations[{position}] has iscrowd {short(crowd)}; it must "
            "be 0 or 1"
        )
    try:
        x, y, width, height = map(float, box)
    except OverflowError:  # an integer beyond the range of floats: reported like 1e999
        x = y = width = height = float("inf")
    return (x, y, x + width, y + height, label, bool(crowd))


def _identifier_of(annotation: dict, key: str, position: int, path: str) -> Id:
    value = annotation.get(key)
    if type(value) is int:  # nearly always
        return value
    return _identifier(annotation, key, f"annotation file {path}: annotations[{position}]")


def _identifier(entry: dict, key: str, where: str) -> Id:
    if key not in entry:
        raise UserError(f"{where} has no '{key}'")
    value = identifier(entry[key])
    if value is None:
        raise UserError(f"{where} has {key} {short(entry[key])}; it must be an integer or a string")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
