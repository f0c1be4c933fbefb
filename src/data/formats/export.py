# SPDX-License-Identifier: Apache-2.0
"""Parts of a data set written in another format: a COCO file, VOC's folders or YOLO's."""

import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from ...base.errors import UserError
from ...base.files import write_text_atomic
from ...base.messages import short
from ..coco_file import CocoFile
from ..records import AnnotationReport
from .folder import shown_sizes, stem_of
from .part import WHOLE, Part, role_of
from .pictures import Corners, Picture, apart, class_names, new_folder, pictures_of, place
from .voc import LABEL_MAP, LISTS, XML
from .voc_xml import EDGES, PIXELS
from .yolo import label_file

_DIGITS = 6  # after the point, of pixels in VOC and COCO files
_FRACTION_DIGITS = 9  # of fractions in YOLO's: a millionth of a pixel
_EVALUATED = ("val", "test")  # the parts that data.yaml has keys for, besides train
_DATABASE = {EDGES: "Unknown", PIXELS: "VOC"}  # as `VocFile.corner_kind` reads it


def common_classes(files: Sequence[CocoFile]) -> list[str]:
    """Return the classes of all files, each once, in the order in which they come.

    Args:
        files: of the parts.
    """
    return list(dict.fromkeys(name for file in files for name in class_names(file)))


def output_name(part: Part, parts: Sequence[Part]) -> str:
    """Return what a part is called in other formats: train, val or test where it is one of them.

    Args:
        part: one of the parts.
        parts: all of them.
    """
    role = role_of(part.name)
    if len(parts) == 1 and part.name in (WHOLE, "default"):
        return "train"
    alike = [other for other in parts if role_of(other.name) == role]
    return role if len(alike) == 1 else part.name


# --------------------------------------------------------------------------- COCO


def coco_content(part: Part, file: CocoFile) -> dict[str, list[dict[str, Any]]]:
    """Return the content of a COCO file for a part.

    A part that comes from a COCO file keeps its entries as they are. Of others, ids are numbers
    from 1, and sizes that are not stated are those of the pictures. Boxes with NaN or infinity,
    which JSON does not have, are dropped.

    Args:
        part: where it comes from.
        file: its annotations; gets what was found.

    Raises:
        UserError: an annotation without a usable area has no box either.
    """
    _drop_non_finite(file)
    if part.kind == "coco":
        return file.content()
    numbers = {image["id"]: number for number, image in enumerate(file.images, start=1)}
    unknown = [image for image in file.images if "height" not in image]
    paths = [os.path.join(part.image_dir, image["file_name"]) for image in unknown]
    for image, size in zip(unknown, shown_sizes(paths), strict=True):
        if size is not None:
            image["height"], image["width"] = size
    for image in file.images:
        image["id"] = numbers[image["id"]]
    for annotation in file.annotations:
        annotation["image_id"] = numbers[annotation["image_id"]]
        annotation["bbox"] = [round(value, _DIGITS) for value in annotation["bbox"]]
        annotation["area"] = round(annotation["area"], _DIGITS)
    return file.content()


def _drop_non_finite(file: CocoFile) -> None:
    kept = []
    for position, annotation in enumerate(file.annotations):
        if not _is_finite(annotation.get("area")):
            *corners, _, _ = file.row(position, 0)
            x1, y1, x2, y2 = corners
            annotation["area"] = (x2 - x1) * (y2 - y1)
        box = annotation.get("bbox")
        values = [*(box if isinstance(box, list) else ()), annotation.get("area")]
        if all(map(_is_finite, values)):
            kept.append(annotation)
        else:
            file.findings.append(("non_finite", file.where("annotations", position)))
    file.annotations = kept


def _is_finite(value: object) -> bool:
    """Whether JSON has a value, which may be no number, and floats do."""
    try:
        return not isinstance(value, int | float) or math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats
        return False


def write_coco(path: str, content: dict[str, Any]) -> None:
    """Write a COCO file, whole or not at all.

    Args:
        path: the file.
        content: its lists.

    Raises:
        UserError: it cannot be written, or has a number that JSON does not have.
    """
    try:
        write_text_atomic(path, json.dumps(content, allow_nan=False))
    except ValueError:
        raise UserError(
            f"{path}: not written: NaN or infinity is among the numbers, which JSON does not have; "
            "correct the annotations"
        ) from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); give another file"
        ) from None


# --------------------------------------------------------------------------- folders

Write = Callable[[Path, str, Sequence[Picture], Sequence[str]], None]


def export_folder(
    parts: Sequence[Part],
    files: Sequence[CocoFile],
    output: str,
    kind: str,
    *,
    copy: bool = False,
    corners: str = EDGES,
) -> list[AnnotationReport]:
    """Write parts as a folder of VOC's or YOLO's, with their pictures.

    Args:
        parts: what is written.
        files: their annotations.
        output: the folder, new or empty.
        kind: "voc" or "yolo".
        copy: copy pictures also where a second link to them would do.
        corners: what VOC's corners are to be: "edges" or "pixels".

    Returns:
        What was found in each part.

    Raises:
        UserError: a part cannot be written in this format.
    """
    names, taken = common_classes(files), set[str]()
    reports = []
    with new_folder(output, "--to") as folder:
        for part, file in zip(parts, files, strict=True):
            report = AnnotationReport(source=part.anno_path)
            called = output_name(part, parts)
            pictures = pictures_of(file, part.image_dir, names, report)
            if kind == "voc":
                pictures = apart(pictures, taken, called)
                _write_voc(folder, called, pictures, names, corners)
                inside = folder / "JPEGImages"
            else:
                _write_yolo(folder, called, pictures, report)
                inside = folder / "images" / called
            for picture in pictures:
                place(picture.path, inside / picture.name, copy=copy)
            report.num_images = len(pictures)
            report.num_boxes = sum(len(picture.boxes) for picture in pictures)
            report.num_crowd = sum(box.crowd for picture in pictures for box in picture.boxes)
            reports.append(report)
        if kind == "voc":
            _write_label_map(folder, names)
        else:
            _write_data_yaml(folder, [output_name(part, parts) for part in parts], names)
    return reports


def _write_voc(
    folder: Path, part: str, pictures: Sequence[Picture], names: Sequence[str], corners: str
) -> None:
    """Write a part's XML files and its list."""
    for picture in pictures:
        path = folder / "Annotations" / (stem_of(picture.name) + XML)
        path.parent.mkdir(parents=True, exist_ok=True)
        ElementTree.ElementTree(_voc_tree(picture, names, corners)).write(path, encoding="utf-8")
    lists = folder / LISTS
    lists.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{_row(stem_of(picture.name))}\n" for picture in pictures)
    (lists / f"{part}.txt").write_text(rows, encoding="utf-8")


def _row(name: str) -> str:
    """A name as a list has it: in quotes where it has a space, as CVAT writes it, or has some."""
    if not name.isprintable():
        raise UserError(f"image {short(name)}: a list has one name a line; rename it")
    return f'"{name}"' if " " in name or '"' in (name[0], name[-1]) else name


def _voc_tree(picture: Picture, names: Sequence[str], corners: str) -> ElementTree.Element:
    root = ElementTree.Element("annotation")

    def add(parent: ElementTree.Element, tag: str, text: object = "") -> ElementTree.Element:
        child = ElementTree.SubElement(parent, tag)
        child.text = str(text)
        if not child.text.isprintable():
            raise UserError(f"image {picture.path}: {short(child.text)} cannot stand in XML")
        return child

    add(root, "folder", "JPEGImages")
    add(root, "filename", os.path.basename(picture.name))
    add(add(root, "source"), "database", _DATABASE[corners])
    height, width = picture.size
    size = add(root, "size")
    for tag, value in (("width", width), ("height", height), ("depth", 3)):
        add(size, tag, value)
    add(root, "segmented", 0)
    first = 1.0 if corners == PIXELS else 0.0
    for box in picture.boxes:
        item = add(root, "object")
        add(item, "name", names[box.label - 1])
        add(item, "pose", "Unspecified")
        add(item, "truncated", 0)
        add(item, "difficult", int(box.crowd))
        x1, y1, x2, y2 = box.corners
        frame = add(item, "bndbox")
        edges = {"xmin": x1 + first, "ymin": y1 + first, "xmax": x2, "ymax": y2}
        for tag, edge in edges.items():
            add(frame, tag, plain(edge, _DIGITS))
    ElementTree.indent(root)
    return root


def _write_label_map(folder: Path, names: Sequence[str]) -> None:
    """Write the classes in their order, as CVAT does; a name with a colon has no place there."""
    rows = [f"{name}:::" for name in names if ":" not in name and not name.startswith("#")]
    text = "\n".join(["# label:color_rgb:parts:actions", "background:::", *rows, ""])
    (folder / LABEL_MAP).write_text(text, encoding="utf-8")


def _write_yolo(
    folder: Path, part: str, pictures: Sequence[Picture], report: AnnotationReport
) -> None:
    """Write a part's label files; a picture without objects has an empty one."""
    root = str(folder)
    paths = [Path(label_file(root, f"images/{part}/{picture.name}")) for picture in pictures]
    for picture, path in zip(pictures, paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = []
        for box in picture.boxes:
            inside = _inside(box.corners, picture.size)
            finding = "crowd_lost" if box.crowd else "" if inside else "outside"
            if finding or inside is None:
                report.add(finding, picture.name)
                continue
            if inside != box.corners:
                report.add("clipped", picture.name)
            rows.append(f"{box.label - 1} {_fractions(inside, picture.size)}\n")
        path.write_text("".join(rows), encoding="utf-8")


def _inside(corners: Corners, size: tuple[int, int]) -> Corners | None:
    """The part of a box within its picture, which YOLO's readers demand; None if none is."""
    height, width = size
    x1, y1, x2, y2 = corners
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None


def _fractions(corners: Sequence[float], size: tuple[int, int]) -> str:
    height, width = size
    x1, y1, x2, y2 = corners
    values = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height
    return " ".join(plain(value, _FRACTION_DIGITS) for value in values)


def _write_data_yaml(folder: Path, parts: Sequence[str], names: Sequence[str]) -> None:
    """Write Ultralytics' description; it has no `path`, so the folder may be moved."""
    folders: dict[str, list[str]] = {"train": []}
    for part in parts:
        role = role_of(part)
        key = role if role in _EVALUATED else "train"
        folders.setdefault(key, []).append(f"images/{part}")
    content: dict[str, Any] = {
        key: inner[0] if len(inner) == 1 else inner for key, inner in folders.items()
    }
    content["names"] = dict(enumerate(names))
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def plain(value: float, digits: int) -> str:
    """Return a number as people write it: 12.5, 3, 0.000001.

    Args:
        value: finite.
        digits: after the point, at most.

    >>> plain(260.0, 6), plain(-0.0000001, 6)
    ('260', '0')
    """
    text = f"{value:.{digits}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
