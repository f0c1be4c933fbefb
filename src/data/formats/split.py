# SPDX-License-Identifier: Apache-2.0
"""A part of a data set in several: shares of its pictures, alike in their classes."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...base.errors import UserError
from ...base.file_names import find_image
from ...base.messages import counted, short_list
from ..coco_file import CocoFile
from .coco import SPLIT_INFO, holding_folder
from .export import coco_content
from .findings import findings_of
from .part import Part


def group_names(names: Sequence[str], separator: str) -> list[str]:
    """Return what pictures belong together by: the file's name up to a separator.

    Args:
        names: of the pictures, folders included.
        separator: that ends the prefix; empty: each picture is a group of its own.

    >>> group_names(["a/cam1_0001.jpg", "a/cam1_0002.jpg"], "_")
    ['cam1', 'cam1']
    """
    if not separator:
        return list(names)
    return [os.path.basename(name).partition(separator)[0] for name in names]


def assign(
    groups: Sequence[str], has_class: np.ndarray, shares: Sequence[float], seed: int
) -> np.ndarray:
    """Return the part of each picture: iterative stratification, by groups.

    The class with the fewest pictures goes first. Its groups, the largest first, go where most of
    its pictures are still wanted; what has no class fills the parts up.

    Args:
        groups: (N,) the group of each picture; a group stays together.
        has_class: (N, C) bool, the classes of each picture.
        shares: (P,) of the pictures that each part gets, positive; they sum up to 1.
        seed: decides among equals.

    Returns:
        (N,) int, the number of each picture's part.
    """
    _, index = np.unique(np.asarray(groups, object).astype(str), return_inverse=True)
    sizes = np.bincount(index).astype(np.float64)
    counts = np.zeros((len(sizes), has_class.shape[1]))
    np.add.at(counts, index, has_class.astype(np.float64))
    part_of = np.full(len(sizes), -1)
    wanted = np.outer(shares, sizes.sum())[:, 0]
    wanted_of = np.outer(shares, counts.sum(axis=0))
    rng = np.random.default_rng(seed)

    def give(group: int, wish: np.ndarray) -> None:
        best = np.lexsort((rng.random(len(wanted)), wanted, wish))[-1]
        part_of[group] = best
        wanted[best] -= sizes[group]
        wanted_of[best] -= counts[group]

    while True:
        left = part_of < 0
        totals = counts[left].sum(axis=0)
        if not totals.any():
            break
        rarest = int(np.where(totals > 0, totals, np.inf).argmin())
        members = np.flatnonzero(left & (counts[:, rarest] > 0))
        for group in _largest_first(members, counts[members, rarest], rng):
            give(group, wanted_of[:, rarest])
    rest = np.flatnonzero(part_of < 0)
    for group in _largest_first(rest, sizes[rest], rng):
        give(group, wanted)
    return part_of[index]


def _largest_first(members: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> list[int]:
    order = np.lexsort((rng.random(len(members)), -sizes))
    return members[order].tolist()


def split_part(
    part: Part,
    shares: Mapping[str, float],
    *,
    group: Callable[[Sequence[str]], Sequence[str]] = list,
    seed: int = 1,
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the contents of the COCO files that a part becomes.

    The pictures stay where they are: names in the files are relative to the data set's folder.

    Args:
        part: what is split.
        shares: name -> share of the pictures, more than 0; they sum up to 1.
        group: returns the group of each of the pictures' names, which stays together.
        seed: decides among equals.

    Returns:
        Name -> content, and lines on what is odd in the annotations.

    Raises:
        UserError: the part cannot be read, or a share would get no picture.
    """
    file = part.read()
    file.labels(())
    for position, annotation in enumerate(file.annotations):
        for key in ("image_id", "category_id"):
            annotation[key] = file.id_in_annotation(key, position)
    content = coco_content(part, file)
    names = [image.file_name for image in file.listed_images().values()]
    groups = group(names)
    parts = assign(groups, _has_class(file), list(shares.values()), seed)
    result = {}
    for number, name in enumerate(shares):
        chosen = [image for image, at in zip(content["images"], parts, strict=True) if at == number]
        if not chosen:
            raise UserError(
                f"{part.anno_path}: {name} would get none of the {counted(len(names), 'picture')}"
                f"{' (groups stay together)' if len(set(groups)) < len(names) else ''}; give it a "
                "larger share"
            )
        ids = {image["id"] for image in chosen}
        rename = _renamer(part, name)
        result[name] = {
            "info": SPLIT_INFO,
            "images": [{**image, "file_name": rename(image["file_name"])} for image in chosen],
            "annotations": [a for a in content["annotations"] if a["image_id"] in ids],
            "categories": content["categories"],
        }
    return result, findings_of(part, file)


def _has_class(file: CocoFile) -> np.ndarray:
    """(images, categories) bool: what is on each picture."""
    rows = {image["id"]: row for row, image in enumerate(file.images)}
    columns = {category["id"]: column for column, category in enumerate(file.categories)}
    result = np.zeros((len(rows), len(columns)), bool)
    for annotation in file.annotations:
        row, column = (rows.get(annotation["image_id"]), columns.get(annotation["category_id"]))
        if row is not None and column is not None:
            result[row, column] = True
    return result


def _renamer(part: Part, name: str) -> Callable[[str], str]:
    """What makes a picture's name relative to the data set's folder."""
    root = os.path.abspath(part.root)

    def rename(old: str) -> str:
        path = find_image(part.image_dir, old)
        inner = os.path.relpath(path, root)
        if inner.startswith("..") or holding_folder(root, name, inner) not in (root, first):
            raise UserError(
                f"image {path} cannot be named from {root}: it is outside, or another picture of "
                "that name is found first; move it"
            )
        return inner.replace(os.sep, "/")

    first = os.path.join(root, name)  # what is said of a picture that is missing
    return rename


def summary(contents: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a line for each part: pictures, boxes, and the boxes of each class.

    Args:
        contents: name -> content of a COCO file.
    """
    lines = []
    for name, content in contents.items():
        counts = dict.fromkeys((c["id"] for c in content["categories"]), 0)
        for annotation in content["annotations"]:
            counts[annotation["category_id"]] = counts.get(annotation["category_id"], 0) + 1
        shown = [f"{c['name']} {counts[c['id']]}" for c in content["categories"]]
        images = counted(len(content["images"]), "image")
        boxes = counted(len(content["annotations"]), "box", "boxes")
        lines.append(f"{name}: {images}, {boxes} ({short_list(shown, 10)})")
    return lines
