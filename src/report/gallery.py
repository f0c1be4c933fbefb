# SPDX-License-Identifier: Apache-2.0
"""Pictures of the validation split with true boxes and detections, for the page's gallery.

Boxes come from `evaluation_report.json`, pictures from the run's data; either may be a stranger's.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..base.errors import UserError
from ..base.file_names import find_image
from ..base.messages import counted, one_line
from ..evaluation.analysis.picture_schema import Verdict
from ..images.reading import read_image
from ..pages.thumbnails import Thumbnail, thumbnail
from . import checked
from .evaluation import KINDS

MOST_PICTURES = 48
LOWEST_SCORE = 0.05  # where the slider begins
VERDICTS: tuple[Verdict, ...] = (
    "correct",
    "classification",
    "localisation",
    "both",
    "duplicate",
    "background",
    "ignored",
)
KINDS_SHOWN = (  # (what a box is, its meaning)
    ("correct", "on an object of its class"),
    *((kind, meaning) for kind, meaning in KINDS.items() if kind != "missed"),
    ("ignored", "on a crowd region, which counts neither way"),
    ("missed", "a true box that no detection with such a score found"),
    ("truth", "the other true boxes"),
)
_MOST_BOXES = 150  # of a picture, true ones and detections each
_MOST_BYTES = 3_300_000  # of all pictures: a page has at most 5 MB
_MOST_PIXELS = 600_000_000  # that are decoded: some seconds
_GROUPS = (("worst", "most errors"), ("best", "fewest errors"))


class Box(NamedTuple):
    """A box on a picture.

    Attributes:
        kind: "truth", "crowd", or the verdict on a detection.
        label: its class, a position in `Gallery.labels`.
        score: of a detection; of a true box that of the detection that found it, -1 without one.
        x, y, width, height: in pixels of the picture.
        about: what it is, in words.
    """

    kind: str
    label: int
    score: float
    x: float
    y: float
    width: float
    height: float
    about: str


class Shot(NamedTuple):
    """A picture with its boxes.

    Attributes:
        name: of its file.
        group: "worst" or "best".
        image: the small picture.
        width, height: of the picture itself, pixels.
        boxes: true ones first.
        note: how many boxes are not drawn, if any.
    """

    name: str
    group: str
    image: Thumbnail
    width: int
    height: int
    boxes: Sequence[Box]
    note: str


@dataclass
class Gallery:
    """The pictures of a page.

    Attributes:
        shots: pictures.
        labels: names of the classes that occur.
        threshold: score from which on boxes are shown at first.
        groups: (name, meaning) of the pictures' groups.
        notes: what is not shown.
    """

    threshold: float
    shots: list[Shot] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    groups: Sequence[tuple[str, str]] = _GROUPS
    notes: list[str] = field(default_factory=list)


def make_gallery(
    report: Mapping[str, Any],
    find: Callable[[str], str],
    *,
    threshold: float | None,
    max_pixels: int,
    most_pictures: int = MOST_PICTURES,
) -> Gallery | None:
    """Make the gallery of an evaluation; None of one that names no pictures.

    Pictures are left out when the page would become too large.

    Args:
        report: the content of `evaluation_report.json`, unchecked.
        find: file name of a picture -> its path, or a `UserError`.
        threshold: score from which on boxes are shown at first; None: 0.5.
        max_pixels: larger pictures are left out.
        most_pictures: so many at most.
    """
    entries = list(_entries(checked.mapping(report.get("pictures"))))
    if not entries or most_pictures < 1:
        return None
    gallery = Gallery(0.5 if threshold is None else min(max(threshold, 0.0), 1.0))
    places: dict[str, int] = {}
    size = pixels = missing = 0
    for group, entry in entries[:most_pictures]:
        name = entry.get("file_name")
        try:
            rgb = read_image(find(name if isinstance(name, str) else ""), max_pixels)
        except UserError as error:
            missing += 1
            if missing == 1:
                gallery.notes.append(one_line(error))
            continue
        height, width = rgb.shape[:2]
        image = thumbnail(rgb)
        size, pixels = size + len(image.uri), pixels + height * width
        if size > _MOST_BYTES or pixels > _MOST_PIXELS:
            gallery.notes.append(f"{counted(len(gallery.shots), 'picture')}: enough for one page")
            break
        boxes, note = _boxes(entry, places)
        shown = checked.text(name)
        gallery.shots.append(Shot(shown, group, image, width, height, boxes, note))
    if missing > 1:
        gallery.notes.append(
            f"{counted(missing, 'picture')} cannot be shown; above is why of the first one"
        )
    gallery.labels = list(places)
    return gallery


def _entries(pictures: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The worst and the best in turns, each picture once."""
    lists = [checked.mappings(pictures.get(group), MOST_PICTURES) for group, _ in _GROUPS]
    seen = set()
    for place in range(max(map(len, lists))):
        for (group, _), entries in zip(_GROUPS, lists, strict=True):
            if place < len(entries):
                key = checked.text(entries[place].get("image_id"))
                if key not in seen:
                    seen.add(key)
                    yield group, entries[place]


def _boxes(entry: Mapping[str, Any], places: dict[str, int]) -> tuple[list[Box], str]:
    """The boxes of a picture, and a note on those that are too many."""
    truth = checked.mappings(entry.get("truth"))
    found = checked.mappings(entry.get("detections"))
    boxes = [_true_box(item, places) for item in truth[:_MOST_BOXES]]
    boxes += [_detected_box(item, places) for item in found[:_MOST_BOXES]]
    over = max(len(truth) - _MOST_BOXES, 0) + max(len(found) - _MOST_BOXES, 0)
    note = f"{counted(over, 'more box', 'more boxes')} not drawn" if over else ""
    return [box for box in boxes if box is not None], note


def _true_box(item: Mapping[str, Any], places: dict[str, int]) -> Box | None:
    name, found_at = checked.text(item.get("label"), 60), checked.number(item.get("found_at"))
    if item.get("crowd") is True:
        return _box(item, "crowd", name, -1.0, f"{name}, a crowd region", places)
    about = "never found" if found_at is None else f"found with score {found_at:.2f}"
    score = -1.0 if found_at is None else found_at
    return _box(item, "truth", name, score, f"true {name}, {about}", places)


def _detected_box(item: Mapping[str, Any], places: dict[str, int]) -> Box | None:
    name, verdict = checked.text(item.get("label"), 60), item.get("verdict")
    score, iou = checked.number(item.get("score")), checked.number(item.get("iou"))
    if verdict not in VERDICTS or score is None or score < LOWEST_SCORE:
        return None
    truth = checked.text(item.get("truth"), 60)
    on = f", IoU {iou or 0.0:.2f} with {truth}" if truth else ""
    return _box(item, verdict, name, score, f"{name} {score:.2f}, {verdict}{on}", places)


def _box(
    item: Mapping[str, Any], kind: str, name: str, score: float, about: str, places: dict[str, int]
) -> Box | None:
    corners = [checked.number(value) for value in checked.items(item.get("bbox"), 5)]
    x, y, width, height = corners if len(corners) == 4 else [None] * 4
    if x is None or y is None or width is None or height is None or width < 0 or height < 0:
        return None
    label = places.setdefault(name, len(places))
    return Box(
        kind, label, score, round(x, 1), round(y, 1), round(width, 1), round(height, 1), about
    )


def find_within(folder: str, name: str) -> str:
    """Return the path of a picture in a folder.

    Args:
        folder: of the pictures.
        name: as the annotations have it.

    Raises:
        UserError: there is no name, or it leads out of the folder.
    """
    root = os.path.abspath(folder)
    path = find_image(folder, name) if name else root
    if path == root or os.path.commonpath([root, path]) != root:
        raise UserError(f"image {name or '(without a name)'} is not in {folder}")
    return path
