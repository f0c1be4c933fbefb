# SPDX-License-Identifier: Apache-2.0
"""Small pictures for the page: of what was found, of pictures that are alike, of the data."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..base.errors import UserError
from ..base.file_names import find_image
from ..base.messages import one_line
from ..data.records import FINDINGS, ImageRecord
from ..images.reading import read_image
from ..pages.thumbnails import Thumbnail, thumbnail
from ..pictures.drawing import Boxes, class_color, draw_boxes
from ..pictures.fonts import class_labels
from .findings import Duplicates, Findings
from .pictures import Split

_SIDE, _SMALL_SIDE = 320, 220  # pixels of a thumbnail's longer side; without boxes
_MOST_GROUPS, _MOST_MEMBERS = 20, 4
_SAMPLES = 8
_CUTS = re.compile("[ ,]")  # where a file's name may end in an example, or begin
_NUMBER = r"(-?[\d.]+(?:e[+-]?\d+)?)"
_BOX = re.compile(rf"\[{_NUMBER}, {_NUMBER}, {_NUMBER}, {_NUMBER}\]$")


class Example(NamedTuple):
    """A picture with its caption.

    Attributes:
        caption: below it.
        picture: None where it cannot be shown.
    """

    caption: str
    picture: Thumbnail | None


class Finding(NamedTuple):
    """What was found in a split, with its first examples.

    Attributes:
        split: `train` or `val`.
        number: how many.
        text: what they are.
        examples: the first ones.
    """

    split: str
    number: int
    text: str
    examples: list[Example]


class Gallery:
    """Draws small pictures of a data set.

    Args:
        class_names: of the labels from 1 on.
        max_pixels: larger pictures are not shown.
    """

    def __init__(self, class_names: Sequence[str], max_pixels: int) -> None:
        self._names, self._max_pixels = list(class_names), max_pixels
        self._colors = {name: class_color(i) for i, name in enumerate(class_names)}
        self._labels = class_labels(tuple(class_names))

    def show(
        self, path: str, record: ImageRecord | None = None, marked: np.ndarray | None = None
    ) -> Thumbnail | None:
        """Return a small picture; None where it cannot be read.

        Args:
            path: of the picture.
            record: whose boxes are drawn in the colours of their classes.
            marked: (N, 4) boxes that are drawn as dashes.
        """
        try:
            rgb = read_image(path, self._max_pixels)
        except UserError:
            return None
        if record is not None or marked is not None:
            boxes = Boxes()
            if record is not None:
                names = [self._names[label - 1] for label in record.labels]
                boxes = Boxes(record.boxes, names)
            true = None if marked is None else Boxes(marked)
            scale = min(1.0, _SIDE / max(rgb.shape[:2]))
            drawn = draw_boxes(
                rgb, boxes, true, colors=self._colors, labels=self._labels, scale=scale
            )
            rgb = np.asarray(drawn.convert("RGB"))
        return thumbnail(rgb, _SMALL_SIDE if record is None else _SIDE)


def finding_examples(found: Findings, gallery: Gallery) -> list[Finding]:
    """Return what the annotations' reports say, with pictures.

    Args:
        found: in the data.
        gallery: draws them.
    """
    return [one for split in found.splits for one in _of_split(split, gallery)]


def _of_split(split: Split, gallery: Gallery) -> Iterator[Finding]:
    report = split.report
    texts = {text for examples in report.examples.values() for text in examples}
    named = _named_records(split, texts)
    for name in FINDINGS:
        if report.counts.get(name):
            examples = [
                _example(text, named.get(text), split, gallery)
                for text in report.examples.get(name, [])
            ]
            yield Finding(split.name, report.counts[name], report.meaning(name), examples)


def _named_records(split: Split, texts: set[str]) -> dict[str, ImageRecord]:
    """The records whose pictures the examples name: each begins with a file name, or ends so."""
    if not texts:
        return {}
    by_name = {one_line(record.file_name): record for record in (*split.printed, *split.records)}
    named = {}
    for text in texts:
        cuts = [match.start() for match in _CUTS.finditer(text)]
        parts = [text, *(text[:cut] for cut in reversed(cuts)), *(text[cut + 1 :] for cut in cuts)]
        record = next((by_name[part] for part in parts if part in by_name), None)
        if record is not None:
            named[text] = record
    return named


def _example(text: str, record: ImageRecord | None, split: Split, gallery: Gallery) -> Example:
    found = _BOX.search(text)
    marked = np.array([[float(v) for v in found.groups()]]) if found else None
    if record is not None:
        return Example(text, gallery.show(record.image_path, record, marked))
    # Of a picture that was left out, nothing but its name is known.
    return Example(text, gallery.show(find_image(split.source.image_dir, text)))


def duplicate_examples(found: Findings, gallery: Gallery) -> list[tuple[Duplicates, list[Example]]]:
    """Return the first groups of pictures that are alike, with the pictures.

    Args:
        found: in the data.
        gallery: draws them.
    """
    return [
        (
            group,
            [
                Example(f"{m.split}: {one_line(m.file_name, 80)}", gallery.show(m.image_path))
                for m in group.members[:_MOST_MEMBERS]
            ],
        )
        for group in found.duplicates[:_MOST_GROUPS]
    ]


def sample_examples(found: Findings, gallery: Gallery) -> list[Example]:
    """Return a few training pictures with their boxes, evenly spread.

    Args:
        found: in the data.
        gallery: draws them.
    """
    records = found.splits[0].records
    chosen = np.unique(np.linspace(0, len(records) - 1, min(len(records), _SAMPLES)).astype(int))
    return [
        Example(one_line(records[i].file_name, 80), gallery.show(records[i].image_path, records[i]))
        for i in chosen.tolist()
    ]
