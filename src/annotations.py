# SPDX-License-Identifier: Apache-2.0
"""COCO JSON and TXT annotation files -> image records, with every check on what they say.

Both readers give equal records for equal content. They look at annotation files only; the images
are opened when records are converted (`src.mindrecord`), which is also when boxes are clipped to
the real size.
"""

import difflib
import json
import os
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from src.errors import UserError
from src.records import (
    AnnotationReport,
    ImageRecord,
    clean_boxes,
    fit_boxes,
    limit_boxes,
)

__all__ = [
    "AnnotationReport",
    "ImageRecord",
    "clean_boxes",
    "fit_boxes",
    "limit_boxes",
    "load_coco",
    "read_coco",
    "read_txt",
]

_IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".jp2",
    ".ppm", ".pgm", ".avif",
)  # fmt: skip
_TOKEN = re.compile(r"\S+")


def read_coco(
    anno_path: str,
    image_dir: str,
    class_names: Sequence[str],
    *,
    keep_empty: bool,
    max_boxes: int = 0,
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

    Returns:
        Records in the order of the file's images, and the report of what was left out.

    Raises:
        UserError: the file is missing, broken, contradicts itself, lacks a class, or leaves no
            image.
    """
    data = load_coco(anno_path)
    labels_by_category = _category_labels(data["categories"], class_names, anno_path)
    images = _coco_images(data["images"], anno_path)
    report = AnnotationReport(source=str(anno_path))
    boxes_by_image = _coco_boxes(data["annotations"], images, labels_by_category, anno_path, report)
    records = []
    for image_id, (file_name, stated_size) in images.items():
        rows = boxes_by_image.get(image_id, [])
        record = _make_record(image_id, file_name, image_dir, rows, stated_size)
        _append(records, record, report, keep_empty, max_boxes)
    return _finish(records, report, anno_path)


def read_txt(
    anno_path: str,
    image_dir: str,
    class_names: Sequence[str],
    *,
    keep_empty: bool,
    max_boxes: int = 0,
) -> tuple[list[ImageRecord], AnnotationReport]:
    """Read a TXT file: one image a row, `folder/name.jpg xmin,ymin,xmax,ymax,class[,iscrowd] ...`.

    Classes are numbered from 1 in the order of `class_names`. File names may hold spaces: the name
    ends at the last word with an image suffix. Blank rows are skipped; a row without boxes is an
    image without objects. The image id is the file's name without folders and suffix if that tells
    all images apart, otherwise the path as written.

    Args, returns and errors are those of `read_coco`.
    """
    report = AnnotationReport(source=str(anno_path))
    rows: dict[str, tuple[int, list[tuple]]] = {}
    for number, line in enumerate(_read_text(anno_path).split("\n"), start=1):
        if not line.strip():
            continue
        name, boxes = _parse_txt_row(line, len(class_names), f"{anno_path}, line {number}")
        if name in rows:
            raise UserError(
                f"{anno_path}, line {number}: image '{name}' was already given in line "
                f"{rows[name][0]}; put all its boxes into one row"
            )
        rows[name] = (number, boxes)
    if not rows:
        raise UserError(f"{anno_path}: no row with an image; give a file that lists images")
    stems = [PurePosixPath(name.replace("\\", "/")).stem for name in rows]
    ids = stems if len(set(stems)) == len(stems) else list(rows)
    records = []
    for image_id, (name, (_, boxes)) in zip(ids, rows.items(), strict=True):
        record = _make_record(image_id, name, image_dir, boxes, None)
        _append(records, record, report, keep_empty, max_boxes)
    return _finish(records, report, anno_path)


# --------------------------------------------------------------------------- shared


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8-sig") as stream:
            return stream.read()
    except FileNotFoundError:
        raise UserError(f"annotation file {path} does not exist; check the data settings") from None
    except IsADirectoryError:
        raise UserError(f"annotation file {path} is a folder; give the file inside it") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"annotation file {path} is not UTF-8 text (byte {error.start}); convert it to UTF-8"
        ) from None
    except OSError as error:
        raise UserError(f"annotation file {path} cannot be read: {error.strerror}") from None


def _make_record(image_id, file_name, image_dir, rows, stated_size) -> ImageRecord:
    """`rows`: tuples (x1, y1, x2, y2, label, crowd) of Python numbers."""
    table = np.array([row[:4] for row in rows], np.float64).reshape(-1, 4)
    return ImageRecord(
        image_id=image_id,
        file_name=file_name,
        image_path=os.path.abspath(os.path.join(image_dir, file_name)),
        boxes=table,
        labels=np.array([row[4] for row in rows], np.int32),
        crowd=np.array([row[5] for row in rows], bool),
        stated_size=stated_size,
    )


def _append(records, record, report, keep_empty, max_boxes) -> None:
    record = clean_boxes(record, report)
    if record.is_empty and not keep_empty:
        report.add("empty_image", record.file_name)
        return
    records.append(limit_boxes(record, max_boxes, report))


def _finish(records, report, anno_path) -> tuple[list[ImageRecord], AnnotationReport]:
    if not records:
        raise UserError(
            f"{anno_path}: none of its images has a usable box of the configured classes; check "
            "coco_classes against the file, or set skip_empty_images to False"
        )
    report.set_totals(records)
    return records, report


# --------------------------------------------------------------------------- COCO


def load_coco(path: str, *, unannotated: bool = False) -> dict:
    """Read a COCO instances file: an object with lists of images, annotations and categories.

    Args:
        path: the file.
        unannotated: take a file without `annotations`, as test sets have, for one with an empty
            list.

    Raises:
        UserError: the file is missing, not UTF-8, not JSON, or something else.
    """
    try:
        data = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(
            f"annotation file {path} is not valid JSON: line {error.lineno}, column {error.colno}: "
            f"{error.msg}; write or download it again"
        ) from None
    except ValueError:  # Python's limit
        raise UserError(f"annotation file {path} has a number of too many digits") from None
    except RecursionError:
        raise UserError(f"annotation file {path} is not a COCO file: nested too deeply") from None
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
                    f"annotation file {path}: {key}[{position}] is {_short(entry)}, not an object"
                )
    return data


def check_coco(data: dict, class_names: Sequence[str], path: str) -> None:
    """Check what evaluation needs of the entries of what `load_coco` returned.

    One category of each name, and annotations of these categories on listed images as `read_coco`
    wants them; all others are not looked at.

    Raises:
        UserError: an entry that cannot be used.
    """
    names = [category.get("name") for category in data["categories"]]
    for name in class_names:
        if names.count(name) > 1:
            raise UserError(
                f"annotation file {path}: {names.count(name)} categories have the name '{name}'; "
                "merge them"
            )
    images = {image["id"] for image in data["images"]}
    wanted = {c["id"] for c, name in zip(data["categories"], names, strict=True)
              if name in class_names}  # fmt: skip
    for position, annotation in enumerate(data["annotations"]):
        if annotation["image_id"] in images and annotation["category_id"] in wanted:
            _coco_row(annotation, 0, f"annotation file {path}: annotations[{position}]")


def _category_labels(categories, class_names, path) -> dict[object, int]:
    """Category id -> label 1..C, or 0 for a category that is not wanted."""
    labels = {name: index for index, name in enumerate(class_names, start=1)}
    result: dict[object, int] = {}
    seen: set[str] = set()
    for position, category in enumerate(categories):
        where = f"annotation file {path}: categories[{position}]"
        category_id = _identifier(category, "id", where)
        name = category.get("name")
        if not isinstance(name, str):
            raise UserError(f"{where} has name {_short(name)}; a category needs a name")
        if category_id in result:
            raise UserError(f"{where} repeats id {category_id!r}; category ids must be unique")
        if name in seen and name in labels:
            raise UserError(f"{where} repeats the name '{name}'; merge the two categories")
        seen.add(name)
        result[category_id] = labels.get(name, 0)
    missing = [name for name in class_names if name not in seen]
    if missing:
        near = difflib.get_close_matches(missing[0], sorted(seen), n=1, cutoff=0.5)
        known = ", ".join(sorted(seen)[:10]) + (", ..." if len(seen) > 10 else "")
        hint = f"did you mean '{near[0]}'?" if near else f"the file has: {known or 'no category'}"
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UserError(
            f"class '{missing[0]}'{more} of coco_classes is not among the categories of {path}; "
            f"{hint}"
        )
    return result


def _coco_images(images, path) -> dict[object, tuple[str, tuple[int, int] | None]]:
    """Image id -> (file name, stated size)."""
    if not images:
        raise UserError(f"annotation file {path} lists no images; give a file that does")
    result = {}
    for position, image in enumerate(images):
        where = f"annotation file {path}: images[{position}]"
        image_id = _identifier(image, "id", where)
        name = image.get("file_name")
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"{where} (id {image_id!r}) has file_name {_short(name)}; give a name")
        if image_id in result:
            raise UserError(
                f"{where} repeats image id {image_id!r} (of '{result[image_id][0]}'); "
                "image ids must be unique"
            )
        size = (image.get("height"), image.get("width"))
        stated = size if all(isinstance(side, int) and side > 0 for side in size) else None
        result[image_id] = (name, stated)
    return result


def _coco_boxes(annotations, images, labels_by_category, path, report) -> dict[object, list[tuple]]:
    """Image id -> rows (x1, y1, x2, y2, label, crowd)."""
    result: dict[object, list[tuple]] = {}
    unknown = 0
    for position, annotation in enumerate(annotations):
        where = f"annotation file {path}: annotations[{position}]"
        image_id = _identifier(annotation, "image_id", where)
        category_id = _identifier(annotation, "category_id", where)
        if category_id not in labels_by_category:
            raise UserError(
                f"{where} (image {image_id!r}) has category_id {category_id!r}, which no category "
                "has; add the category or correct the id"
            )
        row = _coco_row(annotation, labels_by_category[category_id], where)
        if image_id not in images:
            unknown += 1
            report.add("unknown_image", f"image_id {image_id!r}")
        elif row[4] == 0:
            report.add("other_class", f"category_id {category_id!r}")
        else:
            result.setdefault(image_id, []).append(row)
    if unknown and unknown == len(annotations):
        first, listed = annotations[0]["image_id"], next(iter(images))
        raise UserError(
            f"annotation file {path}: none of its {unknown} annotations belongs to a listed image "
            f"(image_id {first!r} in annotations[0], id {listed!r} in images[0]); make the ids "
            "agree"
        )
    return result


def _coco_row(annotation, label, where) -> tuple:
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(v) for v in box):
        raise UserError(f"{where} has bbox {_short(box)}; it must be four numbers [x, y, w, h]")
    crowd = annotation.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise UserError(f"{where} has iscrowd {_short(crowd)}; it must be 0 or 1")
    try:
        x, y, width, height = (float(value) for value in box)
    except OverflowError:  # an integer beyond the range of floats: reported like 1e999
        x = y = width = height = float("inf")
    return (x, y, x + width, y + height, label, bool(crowd))


def _identifier(entry: dict, key: str, where: str) -> int | str:
    if key not in entry:
        raise UserError(f"{where} has no '{key}'")
    value = entry[key]
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise UserError(f"{where} has {key} {_short(value)}; it must be an integer or a string")
    return value


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


# --------------------------------------------------------------------------- TXT


def _parse_txt_row(line: str, num_classes: int, where: str) -> tuple[str, list[tuple]]:
    """Split a row into the file name and its boxes (x1, y1, x2, y2, label, crowd)."""
    tokens = list(_TOKEN.finditer(line))
    named = [i for i, t in enumerate(tokens) if t.group().lower().endswith(_IMAGE_SUFFIXES)]
    if named:
        last = named[-1]
    else:  # an unusual suffix: the name is what comes before the first word with a comma
        fields = [i for i, t in enumerate(tokens) if "," in t.group()]
        last = (fields[0] if fields else len(tokens)) - 1
    if last < 0:
        raise UserError(
            f"{where}: starts with '{tokens[0].group()}', not with an image's file name"
        )
    name = line[tokens[0].start() : tokens[last].end()]
    boxes = [_parse_txt_box(t.group(), num_classes, where) for t in tokens[last + 1 :]]
    return name, boxes


def _parse_txt_box(text: str, num_classes: int, where: str) -> tuple:
    fields = text.split(",")
    if len(fields) not in (5, 6):
        raise UserError(
            f"{where}: box '{text}' has {len(fields)} fields; write xmin,ymin,xmax,ymax,class or "
            "xmin,ymin,xmax,ymax,class,iscrowd"
        )
    try:
        x1, y1, x2, y2 = (float(value) for value in fields[:4])
    except ValueError:
        raise UserError(
            f"{where}: box '{text}' has a coordinate that is not a number; write "
            "xmin,ymin,xmax,ymax"
        ) from None
    try:
        label = int(fields[4])
    except ValueError:
        raise UserError(
            f"{where}: box '{text}' has class '{fields[4]}'; give the class's number, 1 to "
            f"{num_classes}"
        ) from None
    if not 1 <= label <= num_classes:
        raise UserError(
            f"{where}: box '{text}' has class {label}; classes are numbered 1 to {num_classes} in "
            "the order of coco_classes (0 is the background)"
        )
    crowd = fields[5] if len(fields) == 6 else "0"
    if crowd not in ("0", "1"):
        raise UserError(f"{where}: box '{text}' has iscrowd '{crowd}'; it must be 0 or 1")
    return (x1, y1, x2, y2, label, crowd == "1")
