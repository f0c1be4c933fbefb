# SPDX-License-Identifier: Apache-2.0
"""Annotations of a COCO file in columns: 50 bytes each instead of a kilobyte of Python objects."""

from array import array
from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from .record_builder import Id

Entry = dict[str, Any]
NUMBERS = {int, float}  # as JSON is read; True is no number
_KEYS = ("image_id", "category_id", "bbox", "iscrowd", "ignore")  # what records are made of
_LARGEST_ID = (1 << 63) - 1


class AnnotationTable(Sequence[Entry]):
    """The keys of annotations that records are made of, in the file's order.

    Ordinary annotations stand in columns. One that has another kind of value somewhere, or
    `ignore`, is kept as it is, for whoever checks or reports it.

    Attributes:
        odd: position -> annotation that is kept as it is; its place in the columns means nothing.
    """

    def __init__(self) -> None:
        self.odd: dict[int, Entry] = {}
        self._images, self._categories = array("q"), array("q")
        self._boxes, self._crowd = array("d"), array("b")

    def add(self, entry: Entry) -> None:
        """Add an annotation.

        Args:
            entry: as it was read.
        """
        image_id, category_id = entry.get("image_id"), entry.get("category_id")
        box, crowd = entry.get("bbox"), entry.get("iscrowd", 0)
        if (
            type(image_id) is int
            and type(category_id) is int
            and abs(image_id) <= _LARGEST_ID
            and abs(category_id) <= _LARGEST_ID
            and isinstance(box, list)
            and len(box) == 4
            and NUMBERS.issuperset(map(type, box))
            and crowd in (0, 1)
            and not entry.get("ignore")
        ):
            try:
                numbers = [float(value) for value in box]
            except OverflowError:  # an integer beyond the range of floats
                pass
            else:
                self._append(image_id, category_id, numbers, bool(crowd))
                return
        self.odd[len(self)] = {key: entry[key] for key in _KEYS if key in entry}
        self._append(0, 0, [0.0] * 4, False)

    def _append(self, image_id: int, category_id: int, box: list[float], crowd: bool) -> None:
        self._images.append(image_id)
        self._categories.append(category_id)
        self._boxes.extend(box)
        self._crowd.append(crowd)

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, position: int) -> Entry: ...

    @overload
    def __getitem__(self, position: slice) -> list[Entry]: ...

    def __getitem__(self, position: int | slice) -> Entry | list[Entry]:
        if isinstance(position, slice):
            return [self[at] for at in range(*position.indices(len(self)))]
        at = range(len(self))[position]  # which raises what a list raises
        if at in self.odd:
            return self.odd[at]
        return {
            "image_id": self._images[at],
            "category_id": self._categories[at],
            "bbox": self._boxes[4 * at : 4 * at + 4].tolist(),
            "iscrowd": int(self._crowd[at]),
        }

    @property
    def image_ids(self) -> np.ndarray:
        """(A,) int64."""
        return np.frombuffer(self._images, np.int64)

    @property
    def category_ids(self) -> np.ndarray:
        """(A,) int64."""
        return np.frombuffer(self._categories, np.int64)

    @property
    def boxes(self) -> np.ndarray:
        """(A, 4) float64, x, y, width, height."""
        return np.frombuffer(self._boxes, np.float64).reshape(-1, 4)

    @property
    def crowd(self) -> np.ndarray:
        """(A,) bool."""
        return np.frombuffer(self._crowd, np.int8).astype(bool)

    @property
    def ordinary(self) -> np.ndarray:
        """(A,) bool: which annotations stand in the columns."""
        result = np.ones(len(self), bool)
        result[list(self.odd)] = False
        return result


def place_of(ids: Sequence[Id], wanted: np.ndarray) -> np.ndarray:
    """Return where ids stand in a list.

    Args:
        ids: the list, each once.
        wanted: (A,) int64.

    Returns:
        (A,) int64 positions, -1 for an id that is not in it.
    """
    known = [
        (id_, at) for at, id_ in enumerate(ids) if type(id_) is int and abs(id_) <= _LARGEST_ID
    ]
    if not known:
        return np.full(len(wanted), -1, np.int64)
    table = np.array(sorted(known), np.int64)
    nearest = np.searchsorted(table[:, 0], wanted).clip(max=len(table) - 1)
    return np.where(table[nearest, 0] == wanted, table[nearest, 1], -1)
