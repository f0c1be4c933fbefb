# SPDX-License-Identifier: Apache-2.0
"""Pictures with their boxes on the way into another format, and their files with them."""

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...base.errors import UserError
from ...base.file_names import find_image
from ...base.files import make_folder, temporary_folder
from ...base.foreign_files import is_regular_file
from ...base.messages import short
from ...images.headers import IMAGE_SUFFIXES
from ..coco_file import CocoFile, Id
from ..records import AnnotationReport
from .folder import inner_name, is_hidden, shown_sizes, stem_of

_WHOLE = "data"  # what is being written, within the temporary folder


Corners = tuple[float, float, float, float]


class Box(NamedTuple):
    """A box of a picture.

    Attributes:
        corners: x1, y1, x2, y2 in pixels, float64.
        label: number of its class, from 1.
        crowd: objects in it are neither learned nor counted.
    """

    corners: Corners
    label: int
    crowd: bool


class Picture(NamedTuple):
    """A picture on the way into another format.

    Attributes:
        path: of its file.
        name: that it gets, with `/` between folders: unique, also without its ending.
        size: (height, width) in pixels as a viewer shows it.
        boxes: those that are rectangles.
    """

    path: str
    name: str
    size: tuple[int, int]
    boxes: tuple[Box, ...]


def class_names(file: CocoFile) -> list[str]:
    """Return the classes of a file, in its order.

    Args:
        file: any.

    Raises:
        UserError: a name that other formats cannot have.
    """
    file.labels(())  # which looks at ids and names
    names = file.class_names()
    for name in names:
        if not name.isprintable() or not name.strip():
            raise UserError(f"{file.path}: the class {short(name)} has no name that can be written")
    return names


def pictures_of(
    file: CocoFile, image_dir: str, names: Sequence[str], report: AnnotationReport
) -> list[Picture]:
    """Return the pictures of a part with their boxes, in the file's order.

    Args:
        file: its annotations.
        image_dir: folder that the pictures' names are relative to.
        names: the classes, by number from 1.
        report: gets what cannot be taken along.

    Raises:
        UserError: a picture is missing, cannot be read or lies outside the folder.
    """
    for finding, example in file.findings:
        report.add(finding, example)
    images = file.listed_images()
    boxes = _boxes(file, images.keys(), names, report)
    inner = [inner_name(image.file_name, file.path) for image in images.values()]
    paths = [find_image(image_dir, name) for name in inner]
    missing = [path for path in paths if not is_regular_file(path)]
    if missing:
        raise UserError(
            f"{len(missing)} of the {len(paths)} images that {file.path} names do not exist, "
            f"first: {missing[0]}; add them, or take them out of the annotations"
        )
    sizes = shown_sizes(paths)
    result = []
    for id_, path, name, size in zip(images, paths, _shortened(inner), sizes, strict=True):
        if size is None:
            raise UserError(f"image {path} cannot be read; replace it, or take it out")
        result.append(Picture(path, name, size, tuple(boxes.get(id_, ()))))
    return result


def _boxes(
    file: CocoFile, known: Collection[Id], names: Sequence[str], report: AnnotationReport
) -> dict[Id, list[Box]]:
    """Image id -> its boxes that are rectangles."""
    labels = file.labels(names)
    boxes: dict[Id, list[Box]] = {}
    for position in range(len(file.annotations)):
        image_id = file.id_in_annotation("image_id", position)
        category_id = file.id_in_annotation("category_id", position)
        *corners, label, crowd = file.row(position, labels.get(category_id, 0))
        report.num_read += 1
        x1, y1, x2, y2 = corners
        if image_id not in known:
            report.add("unknown_image", f"image_id {short(image_id)}")
        elif not label:
            report.add("other_class", f"category_id {short(category_id)}")
        elif not np.isfinite(corners).all():
            report.add("non_finite", f"{file.where('annotations', position)}")
        elif x2 <= x1 or y2 <= y1:
            report.add("degenerate", f"{file.where('annotations', position)}")
        else:
            boxes.setdefault(image_id, []).append(Box((x1, y1, x2, y2), label, crowd))
    return boxes


def _shortened(names: Sequence[str]) -> list[str]:
    """Names without the folders that all of them have, each unique without its ending."""
    common = os.path.commonpath([os.path.dirname(name) for name in names]) if names else ""
    taken: set[str] = set()
    numbers: dict[str, int] = {}  # the last one behind a stem; those below are taken
    result = []
    for name in names:
        inner = os.path.relpath(name, common) if common else name
        stem, ending = os.path.splitext(_as_readers_see(inner))
        free = stem
        while free in taken:
            numbers[stem] = numbers.get(stem, 1) + 1
            free = f"{stem}_{numbers[stem]}"
        taken.add(free)
        result.append(free + ending)
    return result


def _as_readers_see(name: str) -> str:
    """A name that readers of folders do not skip: not hidden, with a picture's ending."""
    steps = [f"_{step}" if is_hidden(step) else step for step in name.split("/")]
    ending = "" if steps[-1].lower().endswith(IMAGE_SUFFIXES) else ".jpg"
    return "/".join(steps) + ending


def apart(pictures: Sequence[Picture], taken: set[str], folder: str) -> list[Picture]:
    """Return pictures under names that no other part has taken: in a folder where they have to be.

    Args:
        pictures: of a part.
        taken: names without endings of the parts before; gets those of this one.
        folder: that the pictures get whose names are taken.
    """
    result = []
    for picture in pictures:
        name = picture.name
        while stem_of(name) in taken:
            name = f"{folder}/{name}"
        taken.add(stem_of(name))
        result.append(picture._replace(name=name))
    return result


# --------------------------------------------------------------------------- files


@contextlib.contextmanager
def new_folder(path: str, key: str) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` after the block, and not before.

    Args:
        path: must not exist, or be an empty folder.
        key: the setting that named it, for errors.

    Raises:
        UserError: something is there already, or it cannot be written.
    """
    _require_free(path, key)
    target = os.path.abspath(path)
    make_folder(os.path.dirname(target), key)
    try:
        with temporary_folder(target) as folder:
            whole = folder / _WHOLE
            whole.mkdir()
            yield whole
            os.rename(whole, target)  # which an empty folder does not hinder
    except OSError as error:
        reason = error.strerror
        raise UserError(f"{path}: cannot be written ({reason}); set {key} to another") from None


def _require_free(path: str, key: str) -> None:
    if os.path.lexists(path) and not (os.path.isdir(path) and not os.listdir(path)):
        raise UserError(f"{path} exists already; set {key} to a new folder")


def place(source: str, target: Path, *, copy: bool) -> None:
    """Make a picture known under another name too: by a second link to it, or as a copy.

    Args:
        source: its file.
        target: the other name; its folder is made when missing.
        copy: copy it also where a link would do.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if not copy:
        try:
            os.link(os.path.realpath(source), target)
            return
        except OSError:  # another file system, or somebody else's file
            pass
    shutil.copyfile(source, target)
