# SPDX-License-Identifier: Apache-2.0
"""Several data sets in one: their parts of a name together, their classes by name."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...base.messages import counted
from ..coco_file import CocoFile
from ..records import AnnotationReport
from .export import common_classes, output_name, write_coco
from .part import Part
from .pictures import Picture, apart, new_folder, pictures_of, place


def set_names(folders: Sequence[str]) -> list[str]:
    """Return a name for each data set: its folder's, with a number where two have one.

    Args:
        folders: of the sets.
    """
    names: list[str] = []
    for folder in folders:
        plain = os.path.basename(os.path.abspath(folder)) or "data"
        name, number = plain, 1
        while name in names:
            number += 1
            name = f"{plain}_{number}"
        names.append(name)
    return names


def merge_sets(
    sets: Sequence[Sequence[Part]], folders: Sequence[str], output: str, *, copy: bool = False
) -> tuple[list[str], list[AnnotationReport]]:
    """Write several data sets as one in COCO's layout.

    Parts of a name are put together. A picture is in its part's folder, in a folder called like the
    set that it comes from.

    Args:
        sets: the parts of each data set.
        folders: of the sets.
        output: the folder, new or empty.
        copy: copy pictures also where a second link to them would do.

    Returns:
        A line for each part of the result, and what was found in each part that went in.

    Raises:
        UserError: a part cannot be read, or the result cannot be written.
    """
    files = [[part.read(to_learn=False) for part in parts] for parts in sets]
    names = common_classes([file for of_set in files for file in of_set])
    taken: dict[str, set[str]] = {}
    merged: dict[str, list[Picture]] = {}
    reports = []
    with new_folder(output, "--output") as folder:
        for called, parts, of_set in zip(set_names(folders), sets, files, strict=True):
            for part, file in zip(parts, of_set, strict=True):
                report = AnnotationReport(source=part.anno_path)
                pictures = _named(part, file, names, called, report)
                name = output_name(part, parts)
                known = taken.setdefault(name, set())
                merged.setdefault(name, []).extend(apart(pictures, known, part.name))
                reports.append(report)
        lines = [_write(folder, name, merged[name], names, copy) for name in merged]
    return lines, reports


def _named(
    part: Part, file: CocoFile, names: Sequence[str], called: str, report: AnnotationReport
) -> list[Picture]:
    """A part's pictures, named within the folder of their set."""
    pictures = pictures_of(file, part.image_dir, names, report)
    report.num_images = len(pictures)
    report.num_boxes = sum(len(picture.boxes) for picture in pictures)
    report.num_crowd = sum(box.crowd for picture in pictures for box in picture.boxes)
    return [picture._replace(name=f"{called}/{picture.name}") for picture in pictures]


def _write(
    folder: Path, name: str, pictures: Sequence[Picture], names: Sequence[str], copy: bool
) -> str:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for id_, picture in enumerate(pictures, start=1):
        place(picture.path, folder / name / picture.name, copy=copy)
        height, width = picture.size
        images.append({"id": id_, "file_name": picture.name, "height": height, "width": width})
        for (x1, y1, x2, y2), label, crowd in picture.boxes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": id_,
                    "category_id": label,
                    "bbox": [x1, y1, round(x2 - x1, 6), round(y2 - y1, 6)],
                    "area": round((x2 - x1) * (y2 - y1), 6),
                    "iscrowd": int(crowd),
                }
            )
    categories = [{"id": number, "name": text} for number, text in enumerate(names, start=1)]
    write_coco(
        str(folder / "annotations" / f"instances_{name}.json"),
        {"images": images, "annotations": annotations, "categories": categories},
    )
    boxes, classes = (
        counted(len(annotations), "box", "boxes"),
        counted(len(names), "class", "classes"),
    )
    return f"{name}: {counted(len(images), 'image')}, {boxes} of {classes}"
