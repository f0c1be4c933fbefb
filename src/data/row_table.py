# SPDX-License-Identifier: Apache-2.0
"""Annotations in the order of a file -> boxes by image, without an object for each box."""

import itertools
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from .annotation_table import AnnotationTable, Entry, place_of
from .record_builder import Id, Row, Rows


class RowTable:
    """The boxes of all images, in columns: image, place in the file, corners, label, crowd.

    Args:
        annotations: of the file. Those in columns already that are of a known image and a wanted
            class are taken at once; the others come one by one.
        images: ids of the listed ones.
        labels: category id -> label.

    Attributes:
        taken: (A,) bool: which annotations were taken at once; the others are to be added.
    """

    def __init__(
        self, annotations: Sequence[Entry], images: Iterable[Id], labels: Mapping[Id, int]
    ) -> None:
        self._images = {image_id: number for number, image_id in enumerate(images)}
        self._places, self._corners = array("q"), array("d")  # image and position; xyxy
        self._kinds = array("i")  # label and crowd
        self.taken = np.zeros(len(annotations), bool)
        none = np.zeros(0, np.int64)
        self._columns = [none, none, np.zeros((0, 4)), none.astype(np.int32), none.astype(bool)]
        if isinstance(annotations, AnnotationTable):
            self._take(annotations, labels)

    def _take(self, table: AnnotationTable, labels: Mapping[Id, int]) -> None:
        image = place_of(list(self._images), table.image_ids)
        category = place_of(list(labels), table.category_ids)
        label = np.array([*labels.values(), 0], np.int32)[category]  # -1 is the last one
        self.taken = table.ordinary & (image >= 0) & (label > 0)
        positions = np.flatnonzero(self.taken)
        corners = table.boxes[positions]
        with np.errstate(over="ignore", invalid="ignore"):  # infinite boxes are found later
            corners[:, 2:] += corners[:, :2]
        crowd = table.crowd[positions]
        self._columns = [image[positions], positions, corners, label[positions], crowd]

    def add(self, image_id: Id, position: int, row: Row) -> None:
        """Add an annotation.

        Args:
            image_id: of a listed image.
            position: of the annotation in the file.
            row: its box.
        """
        self._places.extend((self._images[image_id], position))
        self._corners.extend(row[:4])
        self._kinds.extend((row[4], row[5]))

    def by_image(self) -> Iterator[Rows]:
        """Yield the rows of each image, in the file's order."""
        places = np.array(self._places, np.int64).reshape(-1, 2)
        kinds = np.array(self._kinds, np.int32).reshape(-1, 2)
        corners = np.array(self._corners, np.float64).reshape(-1, 4)
        own = [places[:, 0], places[:, 1], corners, kinds[:, 0], kinds[:, 1] > 0]
        columns = [
            np.concatenate([taken, column])
            for taken, column in zip(self._columns, own, strict=True)
        ]
        order = np.lexsort((columns[1], columns[0]))
        image, _, corners, label, crowd = (column[order] for column in columns)
        ends = np.searchsorted(image, np.arange(len(self._images) + 1))
        for start, end in itertools.pairwise(ends.tolist()):
            yield Rows(corners[start:end], label[start:end], crowd[start:end])
