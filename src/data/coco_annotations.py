# SPDX-License-Identifier: Apache-2.0
"""COCO annotation files -> image records.

The images are opened when records are converted (`mindrecord`), which is also when boxes are
clipped to the real size.
"""

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from ..base.errors import UserError
from ..base.file_names import one_form
from ..base.messages import short, short_list
from .coco_file import CocoFile, Id, ListedImage
from .record_builder import RecordBuilder, Row, Rows
from .records import AnnotationReport, ImageRecord
from .row_table import RowTable

_MOST_COMPARED, _LONGEST_COMPARED = 2000, 100  # names and their letters, in search of a like one
_LIKELY = 0.8  # as like as names of one class are, where one of two must be meant
_LONGEST_NUMBER = 20  # digits of an id that is written as a text


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
    file = CocoFile.read(str(anno_path), unannotated=not to_learn, compact=True)
    return records_of(
        file, image_dir, class_names, keep_empty=keep_empty, max_boxes=max_boxes, to_learn=to_learn
    )


def records_of(
    file: CocoFile,
    image_dir: str,
    class_names: Sequence[str],
    *,
    keep_empty: bool,
    max_boxes: int = 0,
    to_learn: bool = True,
    corners: bool = False,
    skips_broken: bool = False,
) -> tuple[list[ImageRecord], AnnotationReport]:
    """Make records of the content of a COCO file; arguments and errors as of `read_coco`.

    Args:
        file: the content, from whichever format.
        image_dir: folder that `file_name` is relative to.
        class_names: the wanted classes without the background, in label order (label 1 first).
        keep_empty: keep images that have no box (or only crowd regions).
        max_boxes: keep at most this many boxes an image, the largest; 0 = all.
        to_learn: there must be annotations, and a category of every class.
        corners: boxes were written as corners where they come from.
        skips_broken: report annotations that cannot be used, and take the others.
    """
    report = AnnotationReport(source=file.path)
    for finding, example in file.findings:
        report.add(finding, example)
    if not file.images and report.broken:
        raise report.unusable("no usable image is left")
    labels = file.labels(class_names)
    _report_absent(file, labels, class_names, report, to_learn and file.lists_classes)
    images = file.listed_images()
    rows = _rows_by_image(file, images, labels, report, skips_broken)
    builder = RecordBuilder(
        report, image_dir, keep_empty=keep_empty, max_boxes=max_boxes, corners=corners
    )
    for (image_id, image), own in zip(images.items(), rows, strict=True):
        builder.add(image_id, image.file_name, own, image.stated_size)
    return builder.finish(), report


# --------------------------------------------------------------------------- classes


def _report_absent(
    file: CocoFile,
    labels: Mapping[Id, int],
    class_names: Sequence[str],
    report: AnnotationReport,
    to_learn: bool,
) -> None:
    """Refuse a file that lacks a class, or report it if that can be."""
    known = set(labels.values())
    absent = [name for label, name in enumerate(class_names, start=1) if label not in known]
    if not absent:
        return
    names = [category["name"] for category in file.categories]
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
        f"{file.path}; {hint if names else 'the file has no category'} (a class without "
        f"objects {file.naming.format(absent[0])})"
    )


def like_name(name: str, names: Collection[str], cutoff: float) -> str | None:
    """Return the name that is most like another one, None if none is.

    Args:
        name: the one that was not found.
        names: those that there are.
        cutoff: least likeness, 0..1 (see `difflib`).
    """
    if len(name) > _LONGEST_COMPARED:
        return None
    comparable = [other for other in names if len(other) <= _LONGEST_COMPARED][:_MOST_COMPARED]
    return next(iter(difflib.get_close_matches(name, comparable, 1, cutoff)), None)


# --------------------------------------------------------------------------- boxes


def _rows_by_image(
    file: CocoFile,
    images: Mapping[Id, ListedImage],
    labels: Mapping[Id, int],
    report: AnnotationReport,
    skips_broken: bool,
) -> Iterator[Rows]:
    """The rows of each of the images."""
    table = RowTable(file.annotations, images, labels)
    known = int(table.taken.sum())
    for position in np.flatnonzero(~table.taken).tolist():
        try:
            image_id, category_id, row = _entry(file, position, labels)
        except UserError as error:
            if not skips_broken:
                raise
            report.add("broken_row", str(error))
            continue
        label = row[4]
        if image_id not in images:
            mixed = _other_kind(image_id) in images
            report.add("mixed_ids" if mixed else "unknown_image", f"image_id {short(image_id)}")
            continue
        known += 1
        if label == 0:
            report.add("other_class", f"category_id {short(category_id)}")
            continue
        table.add(image_id, position, row)
        if file.annotations[position].get("ignore") and not row[5]:
            report.add("ignore", f"annotations[{position}] on {images[image_id].file_name}")
    if not known and len(file.annotations) > report.counts.get("broken_row", 0):
        raise _no_image_in_common(file, next(iter(images)))
    return table.by_image()


def _entry(file: CocoFile, position: int, labels: Mapping[Id, int]) -> tuple[Id, Id, Row]:
    """The image's id, the category's id and the row of an annotation.

    Raises:
        UserError: it has none that can be used.
    """
    image_id = file.id_in_annotation("image_id", position)
    category_id = file.id_in_annotation("category_id", position)
    label = labels.get(category_id)
    if label is None:
        raise _unknown_category(file, position, image_id, category_id, labels)
    return image_id, category_id, file.row(position, label)


def _no_image_in_common(file: CocoFile, listed: Id) -> UserError:
    first = file.annotations[0].get("image_id", "")
    mixed = type(first) is not type(listed)
    kinds = "; one is a text and the other a number" if mixed else ""
    return file.no_image_in_common(first, listed, kinds)


def _unknown_category(
    file: CocoFile, position: int, image_id: Id, category_id: Id, labels: Mapping[Id, int]
) -> UserError:
    alike = _other_kind(category_id)
    return UserError(
        f"{file.where('annotations', position)} (image {short(image_id)}) has category_id "
        f"{short(category_id)}, which no category has; "
        + (
            f"the category's id is {short(alike)}: write both as a number"
            if alike in labels
            else "add the category or correct the id"
        )
    )


def _other_kind(id_: Id) -> Id | None:
    """The number that a text shows, or the text that shows a number; None if there is none."""
    if isinstance(id_, int):
        return str(id_)
    number = id_.removeprefix("-")
    return int(id_) if len(number) <= _LONGEST_NUMBER and number.isdecimal() else None
