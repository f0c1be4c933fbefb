# SPDX-License-Identifier: Apache-2.0
"""Records and the pictures that they are of: boxes fitted to real sizes, and what looks wrong."""

from ..base.messages import counted
from ..images.reading import Inspection
from .annotation_clues import FrameClues
from .records import AnnotationReport, ImageRecord, fit_boxes, limit_boxes
from .source import DataSource


class PictureFitter:
    """Takes the records of a split with what was seen of their pictures, one after the other.

    Args:
        source: says what of the images is wanted.
        report: gets what is found.
    """

    def __init__(self, source: DataSource, report: AnnotationReport) -> None:
        self._source, self._report = source, report
        self._clues = FrameClues(report, corners=source.corners)

    def leave_out(self, record: ImageRecord) -> None:
        """Take note of a picture that is missing or cannot be decoded.

        Args:
            record: of the picture.
        """
        self._report.add("bad_image", record.file_name)

    def fit(self, record: ImageRecord, seen: Inspection) -> ImageRecord | None:
        """Return the record with its boxes within the picture; None for one that is left out.

        Args:
            record: as it was read.
            seen: of its picture.
        """
        self._report_oddities(record, seen)
        self._clues.look(record, *seen.size)
        record = fit_boxes(record, *seen.size, self._report)
        if record.is_empty and not self._source.keep_empty:
            self._report.add("empty_image", record.file_name)
            return None
        return limit_boxes(record, self._source.max_boxes, self._report)

    def tell(self) -> None:
        """Leave in the report what is more than a slip; after the last record."""
        self._clues.tell()

    def _report_oddities(self, record: ImageRecord, seen: Inspection) -> None:
        size = seen.size
        if record.stated_size not in (None, size):
            stated_height, stated_width = record.stated_size
            self._report.add(
                "size_mismatch",
                f"{record.file_name} is {size[1]}x{size[0]}, stated {stated_width}x{stated_height}",
            )
        if seen.narrow:
            self._report.add("narrow", f"{record.file_name} has {seen.narrow}")
        if seen.zeros:
            self._report.add("zero_end", f"{record.file_name}, {counted(seen.zeros, 'byte')} of 0")
