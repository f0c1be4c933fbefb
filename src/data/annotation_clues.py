# SPDX-License-Identifier: Apache-2.0
"""Boxes that are written in another way than they are read: what tells, and when it is said."""

import numpy as np

from .records import AnnotationReport, ImageRecord, box_text

# Part of all boxes that must look so: single ones are slips, not another way of writing.
_SHARE = 0.25
_CONTRADICTIONS = 0.01
_SLACK = 1.0  # pixels that boxes leave their image by without a meaning
_FAR = 1.05  # times the image's side: beyond it also where the file states no size
_ONE = 1.0 + 1e-6


class WritingClues:
    """What boxes tell before the images are looked at.

    Args:
        report: gets what is found.
        corners: boxes are written as corners (not as a corner, width and height).
    """

    def __init__(self, report: AnnotationReport, *, corners: bool) -> None:
        self._report, self._corners = report, corners
        self._read = self._kept = self._fractions_kept = self._reversed = 0

    def look(self, written: ImageRecord, kept: ImageRecord) -> None:
        """Look at an image's boxes as they are written, and without those that are no boxes.

        Args:
            written: the image with all its boxes, (N, 4) xyxy of any floating type.
            kept: the same image without the boxes that `clean_boxes` drops.
        """
        boxes, name = written.boxes, written.file_name
        self._read += len(boxes)
        self._kept += len(kept.boxes)
        if (boxes[:, 2:] <= _ONE).any():
            self._look_for_fractions(boxes, name)
            self._fractions_kept += int(_are_fractions(kept.boxes).sum())
        if self._corners and len(kept.boxes) < len(boxes):
            possible = (np.isfinite(boxes) & (boxes >= 0)).all(axis=1)
            hits = np.flatnonzero(possible & (boxes[:, 2:] < boxes[:, :2]).any(axis=1))
            self._reversed += len(hits)
            if len(hits):
                self._report.add("width_height", f"{name} {box_text(boxes[hits[0]])}", len(hits))

    def _look_for_fractions(self, boxes: np.ndarray, name: str) -> None:
        hits = np.flatnonzero(_are_fractions(boxes))
        if len(hits):
            self._report.add("fractions", f"{name} {box_text(boxes[hits[0]])}", len(hits))

    def tell(self) -> None:
        """Leave in the report what is more than a slip."""
        if self._reversed < _SHARE * self._read or self.only_fractions:
            self._report.discard("width_height")

    @property
    def only_fractions(self) -> bool:
        """Whether there are boxes, and none that is kept is in pixels."""
        found = self._report.counts.get("fractions", 0)
        return bool(found) and self._fractions_kept == self._kept


class FrameClues:
    """What boxes tell beside the real size of their image.

    Args:
        report: gets what is found.
        corners: boxes are written as corners.
    """

    def __init__(self, report: AnnotationReport, *, corners: bool) -> None:
        self._report, self._corners = report, corners
        self._boxes = self._suspects = self._contradictions = 0

    def look(self, record: ImageRecord, height: int, width: int) -> None:
        """Look at the cleaned boxes of an image of this size before they are clipped to it.

        Args:
            record: the image with its boxes.
            height, width: of the image as a viewer shows it, pixels.
        """
        boxes = record.boxes
        self._boxes += len(boxes)
        if not len(boxes):
            return
        right, bottom = boxes[:, 2], boxes[:, 3]
        leaving = (right > width + _SLACK) | (bottom > height + _SLACK)
        if not leaving.any():
            return
        if self._is_turned(record, height, width):
            shown = f"{record.file_name} is shown as {width}x{height}"
            self._report.add("turned", f"{shown}, a box ends at {right.max():g},{bottom.max():g}")
        elif not self._corners:
            as_corner = boxes[:, 2:] - boxes[:, :2]
            possible = (as_corner > boxes[:, :2]).all(axis=1)
            self._contradictions += int((~possible).sum())
            inside = (as_corner <= (width + _SLACK, height + _SLACK)).all(axis=1)
            hits = np.flatnonzero(leaving & possible & inside)
            self._suspects += len(hits)
            if len(hits):
                box = np.concatenate([boxes[hits[0], :2], as_corner[hits[0]]])
                self._report.add("corners", f"{record.file_name} {box_text(box)}", len(hits))

    @staticmethod
    def _is_turned(record: ImageRecord, height: int, width: int) -> bool:
        right, bottom = record.boxes[:, 2:].max(axis=0)
        if height == width or right > height + _SLACK or bottom > width + _SLACK:
            return False
        if record.stated_size is None:
            return bool(right > _FAR * width or bottom > _FAR * height)
        return record.stated_size == (width, height)

    def tell(self) -> None:
        """Leave in the report what is more than a slip."""
        contradicted = self._contradictions > _CONTRADICTIONS * self._suspects
        if contradicted or self._suspects < _SHARE * self._boxes:
            self._report.discard("corners")


def _are_fractions(boxes: np.ndarray) -> np.ndarray:
    """(N,) bool: within 0..1, and not whole numbers."""
    within = ((boxes >= 0) & (boxes <= _ONE)).all(axis=1)
    return within & (boxes != np.floor(boxes)).any(axis=1)
