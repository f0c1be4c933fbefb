# SPDX-License-Identifier: Apache-2.0
"""TXT annotation files -> image records."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import ClassVar

from ..base.errors import UserError
from ..base.json_numbers import whole_number
from ..base.messages import one_line, short
from .annotation_files import annotation_digest, read_rows
from .formats.part import Annotations, Records
from .record_builder import RecordBuilder, Row, Rows
from .records import AnnotationReport, ImageRecord

_IMAGE_SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".bmp",
    ".webp",
    ".tif",
    ".tiff",
    ".gif",
    ".jp2",
    ".ppm",
    ".pgm",
    ".avif",
)
_TOKEN = re.compile(r"\S+")


@dataclass(frozen=True)
class TxtAnnotations(Annotations):
    """A TXT file, whose rows number the classes."""

    kind: ClassVar[str] = "txt"
    corners: ClassVar[bool] = True
    anno_path: str
    image_dir: str
    skips_broken: bool = False

    def tolerant(self) -> "TxtAnnotations":
        """Return the same file, of which rows that cannot be used are left out and reported."""
        return replace(self, skips_broken=True)

    def records(
        self, class_names: Sequence[str], *, keep_empty: bool, max_boxes: int, to_learn: bool
    ) -> Records:
        """Read the file; see `Annotations.records`.

        Args:
            class_names: the classes, in the order of their numbers.
            keep_empty: keep images without boxes.
            max_boxes: most boxes of an image; 0 = all.
            to_learn: makes no difference here.
        """
        return read_txt(
            self.anno_path,
            self.image_dir,
            class_names,
            keep_empty=keep_empty,
            max_boxes=max_boxes,
            to_learn=to_learn,
            skips_broken=self.skips_broken,
        )

    def digest(self) -> str:
        """Return the digest of the file.

        Raises:
            UserError: it cannot be read.
        """
        return annotation_digest(self.anno_path)


def read_txt(
    anno_path: str,
    image_dir: str,
    class_names: Sequence[str],
    *,
    keep_empty: bool,
    max_boxes: int = 0,
    to_learn: bool = True,
    skips_broken: bool = False,
) -> tuple[list[ImageRecord], AnnotationReport]:
    """Read a TXT file: one image a row, `folder/name.jpg xmin,ymin,xmax,ymax,class[,iscrowd] ...`.

    Classes are numbered from 1 in the order of `class_names`. File names may hold spaces: the name
    ends at the last word with an image suffix. Blank rows are skipped; a row without boxes is an
    image without objects. The image id is the file's name without folders and suffix if that tells
    all images apart, otherwise the path as written.

    Args:
        anno_path: the TXT file.
        image_dir: folder that the rows' names are relative to.
        class_names: the classes without the background, in label order (label 1 first).
        keep_empty: keep images that have no box (or only crowd regions).
        max_boxes: keep at most this many boxes an image, the largest; 0 = all.
        to_learn: makes no difference here.
        skips_broken: report rows that cannot be used, and take the others.

    Returns:
        Records in the order of the rows, and the report of what was left out.

    Raises:
        UserError: the file is missing, broken or contradicts itself, or nothing usable is left.
    """
    report = AnnotationReport(source=str(anno_path))
    rows: dict[str, tuple[int, list[Row]]] = {}
    for number, line in read_rows(anno_path):
        where = f"{anno_path}, line {number}"
        try:
            name, boxes = _parse_row(line, len(class_names), where)
            if name in rows:
                raise UserError(
                    f"{where}: image '{one_line(name, 200)}' was already given in "
                    f"line {rows[name][0]}; put all its boxes into one row"
                )
        except UserError as error:
            if not skips_broken:
                raise
            report.add("broken_row", str(error))
            continue
        rows[name] = (number, boxes)
    if not rows:
        problem = "no row with an image; give a file that lists images"
        raise report.unusable(problem) if report.counts else UserError(f"{anno_path}: {problem}")
    stems = [PurePosixPath(name.replace("\\", "/")).stem for name in rows]
    ids = stems if len(set(stems)) == len(stems) else list(rows)
    builder = RecordBuilder(
        report, image_dir, keep_empty=keep_empty, max_boxes=max_boxes, corners=True
    )
    for image_id, (name, (_, boxes)) in zip(ids, rows.items(), strict=True):
        builder.add(image_id, name, Rows.of(boxes))
    return builder.finish(), report


def _parse_row(line: str, num_classes: int, where: str) -> tuple[str, list[Row]]:
    """Split a row into the file name and its boxes."""
    tokens = list(_TOKEN.finditer(line))
    named = [i for i, t in enumerate(tokens) if t.group().lower().endswith(_IMAGE_SUFFIXES)]
    if named:
        last = named[-1]
    else:  # an unusual suffix: the name is what comes before the first word with a comma
        fields = [i for i, t in enumerate(tokens) if "," in t.group()]
        last = (fields[0] if fields else len(tokens)) - 1
    if last < 0:
        raise UserError(
            f"{where}: starts with {short(tokens[0].group())}, not with an image's file name"
        )
    name = line[tokens[0].start() : tokens[last].end()]
    boxes = [_parse_box(t.group(), num_classes, where) for t in tokens[last + 1 :]]
    return name, boxes


def _parse_box(text: str, num_classes: int, where: str) -> Row:
    fields = text.split(",")
    if len(fields) not in (5, 6):
        raise UserError(
            f"{where}: box {short(text)} has {len(fields)} fields; write xmin,ymin,xmax,ymax,class "
            "or xmin,ymin,xmax,ymax,class,iscrowd"
        )
    try:
        x1, y1, x2, y2 = (float(value) for value in fields[:4])
    except ValueError:
        raise UserError(
            f"{where}: box {short(text)} has a coordinate that is not a number; write "
            "xmin,ymin,xmax,ymax"
        ) from None
    label = _whole(fields[4])
    if label is None:
        raise UserError(
            f"{where}: box {short(text)} has class {short(fields[4])}; give the class's number, 1 "
            f"to {num_classes}"
        )
    if not 1 <= label <= num_classes:
        raise UserError(
            f"{where}: box {short(text)} has class {short(label)}; classes are numbered 1 to "
            f"{num_classes} in the order of coco_classes (0 is the background)"
        )
    crowd = _whole(fields[5]) if len(fields) == 6 else 0
    if crowd not in (0, 1):
        raise UserError(
            f"{where}: box {short(text)} has iscrowd {short(fields[5])}; it must be 0 or 1"
        )
    return (x1, y1, x2, y2, label, crowd == 1)


def _whole(text: str) -> int | None:
    """A whole number as a program of tables may have written it, 1 or 1.0; None for others."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return whole_number(float(text))
    except ValueError:
        return None
