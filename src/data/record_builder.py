# SPDX-License-Identifier: Apache-2.0
"""The images of an annotation file with their boxes -> cleaned records, and what looks wrong."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..base.file_names import find_image
from ..base.messages import short
from .annotation_clues import WritingClues
from .records import AnnotationReport, ImageRecord, clean_boxes, limit_boxes

Id = int | str
Row = tuple[float, float, float, float, int, bool]  # x1, y1, x2, y2, label, crowd


@dataclass(frozen=True, slots=True)
class Rows:
    """Boxes of an image, not checked yet.

    Attributes:
        corners: (N, 4) float64 xyxy in pixels.
        labels: (N,) int32, 1..C.
        crowd: (N,) bool.
    """

    corners: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Rows":
        """Return rows as arrays.

        Args:
            rows: one a box.
        """
        return cls(
            corners=np.array([row[:4] for row in rows], np.float64).reshape(-1, 4),
            labels=np.array([row[4] for row in rows], np.int32),
            crowd=np.array([row[5] for row in rows], bool),
        )


class RecordBuilder:
    """Takes the images of one annotation file, one after the other.

    Args:
        report: gets what is found.
        image_dir: folder that the images' names are relative to.
        keep_empty: keep images that have no box (or only crowd regions).
        max_boxes: keep at most this many boxes an image, the largest; 0 = all.
        corners: boxes are written as corners (not as a corner, width and height).
    """

    def __init__(
        self,
        report: AnnotationReport,
        image_dir: str,
        *,
        keep_empty: bool,
        max_boxes: int,
        corners: bool,
    ) -> None:
        self._report, self._image_dir = report, image_dir
        self._keep_empty, self._max_boxes = keep_empty, max_boxes
        self._root = os.path.join(os.path.abspath(image_dir), "")
        self._records: list[ImageRecord] = []
        self._clues = WritingClues(report, corners=corners)
        self._ids: dict[str, Id] = {}  # path -> first id

    def add(
        self, image_id: Id, file_name: str, rows: Rows, stated_size: tuple[int, int] | None = None
    ) -> None:
        """Add an image with all its boxes.

        Args:
            image_id: the id in the annotation file.
            file_name: as it is written there, folders included.
            rows: its boxes.
            stated_size: (height, width) that the file gives, pixels; None where it gives none.
        """
        record = ImageRecord(
            image_id=image_id,
            file_name=file_name,
            image_path=find_image(self._image_dir, file_name),
            boxes=rows.corners,
            labels=rows.labels,
            crowd=rows.crowd,
            stated_size=stated_size,
        )
        self._look_at_path(record)
        self._report.num_read += len(rows.labels)
        cleaned = clean_boxes(record, self._report)
        self._clues.look(record, cleaned)
        if cleaned.is_empty and not self._keep_empty:
            self._report.add("empty_image", file_name)
            return
        self._records.append(limit_boxes(cleaned, self._max_boxes, self._report))

    def finish(self) -> list[ImageRecord]:
        """Return the records.

        Raises:
            UserError: nothing usable is left.
        """
        self._clues.tell()
        self._report.require_usable(self._records)
        if self._clues.only_fractions:
            raise self._report.unusable("no box is in pixels")
        return self._records

    def _look_at_path(self, record: ImageRecord) -> None:
        first = self._ids.setdefault(record.image_path, record.image_id)
        if first != record.image_id:
            ids = f"ids {short(first)} and {short(record.image_id)}"
            self._report.add("same_picture", f"{record.file_name} ({ids})")
        if not record.image_path.startswith(self._root):
            self._report.add("outside_folder", record.file_name)
