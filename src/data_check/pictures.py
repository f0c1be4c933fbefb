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
from ..images.reading import DEFAULT_MAX_PIXELS, Inspection, decode_image, look_at_image, read_bytes
from .duplicates import find_groups
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
    paths = [r.image_path if w else None for r, w in zip(records, wanted, strict=True)]
    pictures = _look(paths, source.max_image_pixels, workers, f"{source.split}: looked at")
    for record, seen in zip(records, pictures, strict=True):
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


def alike_pictures(
    paths: Sequence[str], *, workers: int, most_pixels: int = DEFAULT_MAX_PIXELS
) -> tuple[list[tuple[int, ...]], int]:
    """Return the positions of pictures that are alike, by groups, and how many were looked at.

    Args:
        paths: of the pictures; one that cannot be read is like no other.
        workers: threads that read and decode.
        most_pixels: larger pictures are not read.
    """
    prints, positions = [], []
    for position, seen in enumerate(_look(paths, most_pixels, workers, "looked at")):
        if isinstance(seen, tuple):
            prints.append(seen[1])
            positions.append(position)
    groups = [tuple(positions[i] for i in group.members) for group in find_groups(prints)]
    return groups, len(prints)


def _look(
    paths: Sequence[str | None], most_pixels: int, workers: int, title: str
) -> Iterator[_Seen]:
    """Yield what was seen of each picture, or why it cannot be; None where no path is given."""

    def look(path: str | None) -> _Seen:
        if path is None:
            return None
        try:
            data = read_bytes(path, most_pixels)
            seen, pixels = look_at_image(data, path, most_pixels)
            if says_too_little(pixels):
                pixels = decode_image(data, path, most_pixels)
        except UserError as error:
            return error
        return seen, fingerprint(data, pixels)

    progress = Progress(Display(), title, len(paths))
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(paths), _CHUNK):
            chunk = paths[start : start + _CHUNK]
            yield from pool.map(look, chunk)
            progress.advance(len(chunk))
    progress.finish()
