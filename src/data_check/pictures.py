# SPDX-License-Identifier: Apache-2.0
"""The splits of a data set, with all of their pictures looked at once."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from ..base.errors import UserError
from ..base.progress import Display, Progress
from ..data.picture_fit import PictureFitter
from ..data.records import AnnotationReport, ImageRecord
from ..data.source import DataSource
from ..images.reading import Inspection, decode_image, look_at_image, read_bytes
from .fingerprints import Fingerprint, fingerprint, says_too_little

_CHUNK = 256  # pictures that wait for each other: bounds what is kept of those that are ahead


@dataclass
class Split:
    """A split that was looked at.

    Attributes:
        source: where it is.
        report: what reading and looking found.
        records: that are left, their boxes within their pictures.
        sizes: (N, 2) int height and width of their pictures, pixels as a viewer shows them.
        looked_at: how many pictures were opened; the others count as their file states them.
        num_listed: pictures that reading gave.
        prints: of the pictures that were opened and decode.
        printed: which records these are of, as they were read.
    """

    source: DataSource
    report: AnnotationReport
    records: list[ImageRecord] = field(default_factory=list)
    sizes: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    looked_at: int = 0
    num_listed: int = 0
    prints: list[Fingerprint] = field(default_factory=list)
    printed: list[ImageRecord] = field(default_factory=list)

    @property
    def name(self) -> str:
        """`train` or `val`."""
        return self.source.split


def look_at_split(source: DataSource, *, most_pictures: int | None, workers: int) -> Split:
    """Read a split's annotations and look at its pictures.

    Args:
        source: where it is.
        most_pictures: how many are opened, evenly spread; None: all. The others are taken for as
            large as their annotations say, and are left out where these do not say it.
        workers: threads that read and decode.

    Raises:
        UserError: nothing usable is in it.
    """
    records, report = source.read(max_boxes=0)
    split = Split(source, report, num_listed=len(records))
    fitter = PictureFitter(source, report)
    wanted = _spread(len(records), most_pictures)
    split.looked_at = int(wanted.sum())
    sizes = []
    for record, seen in _look(records, wanted, source, workers):
        if seen is None and record.stated_size is None:
            continue
        if isinstance(seen, UserError):
            fitter.leave_out(record)
            continue
        if seen is None:
            inspection = Inspection(record.stated_size or (0, 0))
        else:
            inspection, print_ = seen
            split.prints.append(print_)
            split.printed.append(record)
        fitted = fitter.fit(record, inspection)
        if fitted is not None:
            split.records.append(fitted)
            sizes.append(inspection.size)
    fitter.tell()
    report.require_usable(split.records)
    split.sizes = np.array(sizes, np.int64).reshape(-1, 2)
    return split


def _spread(count: int, most: int | None) -> np.ndarray:
    """(count,) bool: at most `most` are True, evenly spread."""
    chosen = np.zeros(count, bool)
    if most is None or most >= count:
        chosen[:] = True
    else:
        chosen[np.linspace(0, count - 1, most).astype(int)] = True
    return chosen


_Seen = tuple[Inspection, Fingerprint] | UserError | None


def _look(
    records: Sequence[ImageRecord], wanted: np.ndarray, source: DataSource, workers: int
) -> Iterator[tuple[ImageRecord, _Seen]]:
    """Yield the records in order, with what was seen of their picture, or why it cannot be."""
    most = source.max_image_pixels

    def look(record: ImageRecord, is_wanted: bool) -> _Seen:
        if not is_wanted:
            return None
        try:
            data = read_bytes(record.image_path, most)
            seen, pixels = look_at_image(data, record.image_path, most)
            if says_too_little(pixels):
                pixels = decode_image(data, record.image_path, most)
        except UserError as error:
            return error
        return seen, fingerprint(data, pixels)

    progress = Progress(Display(), f"{source.split}: looked at", len(records))
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(records), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            yield from zip(
                records[chunk], pool.map(look, records[chunk], wanted[chunk].tolist()), strict=True
            )
            progress.advance(len(records[chunk]))
    progress.finish()
