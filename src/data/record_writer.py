# SPDX-License-Identifier: Apache-2.0
"""Image records -> MindRecord files: every image checked on the way, its bytes copied untouched."""

import os
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
from mindspore.mindrecord import FileWriter

from ..base.errors import UserError
from ..base.progress import Display, Progress
from ..images.reading import Inspection, inspect_image, read_bytes
from .picture_fit import PictureFitter
from .records import AnnotationReport, ImageRecord
from .source import DataSource

SCHEMA = {
    "image": {"type": "bytes"},
    "image_index": {"type": "int32"},
    # MindRecord has no empty arrays: an image without boxes holds one box of label 0, the
    # background.
    "boxes": {"type": "float32", "shape": [-1, 4]},
    "labels": {"type": "int32", "shape": [-1]},
    "crowd": {"type": "int32", "shape": [-1]},
}
_FILE_BYTES = 1 << 30  # start another file beyond this
_MIN_PAGE, _MAX_PAGE = 1 << 25, 1 << 28  # MindRecord's default and limit; a row fits in a page
_PAGE_RESERVE = 1 << 20  # of a page, for headers and small rows
_BOX_BYTES = 24  # coordinates, label, crowd flag
_CHUNK_IMAGES = 64
_CHUNK_BYTES = 1 << 27
_IMAGES_AHEAD = 96
_BYTES_AHEAD = 1 << 28
_SECONDS_BETWEEN_LINES = 30.0


@dataclass
class Written:
    """What was written.

    Attributes:
        records: in the order of the rows.
        sizes: (height, width) of each image, pixels.
        checksums: CRC-32 of each image's bytes.
        files: names of the files.
    """

    records: list[ImageRecord] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    checksums: list[int] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


def write_records(
    source: DataSource,
    records: Sequence[ImageRecord],
    image_bytes: Sequence[int],
    folder: str,
    *,
    num_workers: int,
    report: AnnotationReport,
) -> Written:
    """Check every image and write it with its boxes into MindRecord files.

    Args:
        source: says what of the images is wanted; its split names the files, which get a number
            appended.
        records: with existing images; boxes are clipped to the real sizes here.
        image_bytes: size of each image's file.
        folder: existing, empty folder.
        num_workers: threads that read and check images.
        report: gets counts, examples and totals.

    Raises:
        UserError: an image is bad, nothing usable is left, or the files cannot be written.
    """
    written = Written()
    rows = zip(image_bytes, records, strict=True)
    largest = max((size + _BOX_BYTES * len(record.labels) for size, record in rows), default=0)
    writer = _Writer(folder, source.split, largest)
    fitter = PictureFitter(source, report)
    progress = Progress(
        Display(), f"{source.split}: converted", len(records), line_seconds=_SECONDS_BETWEEN_LINES
    )
    with ThreadPoolExecutor(max(1, num_workers)) as pool:
        for record, probed in _probe_all(pool, records, image_bytes, source.max_image_pixels):
            progress.advance()
            if probed.problem is not None:
                if not source.skip_bad_images:
                    raise probed.problem
                fitter.leave_out(record)
                continue
            fitted = fitter.fit(record, probed.seen)
            if fitted is not None:
                writer.add(len(written.records), fitted, probed.data)
                written.records.append(fitted)
                written.sizes.append(probed.seen.size)
                # Here, where there is time: the pool's threads are what is waited for.
                written.checksums.append(zlib.crc32(probed.data))
    fitter.tell()
    report.require_usable(written.records)
    written.files = writer.close()
    progress.finish()
    return written


@dataclass(frozen=True, slots=True)
class _Probed:
    """An image's bytes and what was seen of it, or why it cannot be used."""

    data: bytes = b""
    seen: Inspection = Inspection((0, 0))  # noqa: RUF009 (frozen)
    problem: UserError | None = None


def _probe_all(
    pool: ThreadPoolExecutor,
    records: Sequence[ImageRecord],
    image_bytes: Sequence[int],
    max_pixels: int,
) -> Iterator[tuple[ImageRecord, _Probed]]:
    """Yield the images in order.

    The pool works ahead while what it has done is written, but not further than memory allows.
    """

    def probe(record: ImageRecord) -> _Probed:
        try:
            data = read_bytes(record.image_path, max_pixels)
            seen = inspect_image(data, record.image_path, max_pixels)
        except UserError as error:
            return _Probed(problem=error)
        return _Probed(data, seen)

    ahead: deque[tuple[ImageRecord, int, Future[_Probed]]] = deque()
    bytes_ahead = 0
    for record, size in zip(records, image_bytes, strict=True):
        while ahead and (len(ahead) >= _IMAGES_AHEAD or bytes_ahead + size > _BYTES_AHEAD):
            first, done, future = ahead.popleft()
            yield first, future.result()
            bytes_ahead -= done
        ahead.append((record, size, pool.submit(probe, record)))
        bytes_ahead += size
    for first, _, future in ahead:
        yield first, future.result()


class _Writer:
    """Rows into numbered MindRecord files of limited size."""

    def __init__(self, folder: str, stem: str, largest_row: int) -> None:
        self._folder, self._stem = folder, stem
        self._page = _MIN_PAGE  # the same in all files: MindRecord wants that
        while self._page < min(largest_row + _PAGE_RESERVE, _MAX_PAGE):
            self._page *= 2
        self._names: list[str] = []
        self._file: FileWriter | None = None
        self._file_bytes = 0
        self._rows: list[dict[str, object]] = []
        self._row_bytes = 0

    def add(self, index: int, record: ImageRecord, data: bytes) -> None:
        most = self._page - _PAGE_RESERVE
        if len(data) + _BOX_BYTES * len(record.labels) > most:
            raise UserError(
                f"image {record.image_path} has {len(data)} bytes; MindRecord holds at most {most} "
                f"bytes an image, less {_BOX_BYTES} for each of its {len(record.labels)} boxes: "
                "save it smaller"
            )
        if record.labels.size:
            boxes, labels, crowd = record.boxes, record.labels, record.crowd
        else:
            boxes, labels, crowd = np.zeros((1, 4)), np.zeros(1), np.zeros(1)
        row = {
            "image": data,
            "image_index": index,
            "boxes": boxes.astype(np.float32, copy=False),
            "labels": labels.astype(np.int32, copy=False),
            "crowd": crowd.astype(np.int32),
        }
        if self._row_bytes + len(data) > _CHUNK_BYTES or len(self._rows) >= _CHUNK_IMAGES:
            self._flush()
        if self._file is not None and self._file_bytes > _FILE_BYTES:
            self._flush()
            self._commit()
        if self._file is None:
            self._open()
        self._rows.append(row)
        self._row_bytes += len(data)
        self._file_bytes += len(data)

    def close(self) -> list[str]:
        """Write what is left; the names of all files."""
        self._flush()
        self._commit()
        return self._names

    def _open(self) -> None:
        name = f"{self._stem}.mindrecord{len(self._names)}"
        self._names.append(name)
        self._file_bytes = 0
        with writing_to(self._folder):
            self._file = FileWriter(os.path.join(self._folder, name))
            self._file.set_page_size(self._page)
            self._file.add_schema(SCHEMA, "detection")
            self._file.add_index(["image_index"])  # by default of every scalar

    def _flush(self) -> None:
        if self._file is not None and self._rows:
            with writing_to(self._folder):
                self._file.write_raw_data(self._rows)
        self._rows, self._row_bytes = [], 0

    def _commit(self) -> None:
        if self._file is not None:
            with writing_to(self._folder):
                self._file.commit()
        self._file = None


class writing_to:
    """Turns a failed write (disk full, no permission) into one line.

    Args:
        folder: that is written to, for the error.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError | RuntimeError):
            lines = [line.strip() for line in str(error).splitlines()]
            reason = next((line for line in lines if line.startswith("[ERROR]")), lines[0])
            raise UserError(
                f"cannot write MindRecord files to {self._folder}: {reason}; free space there or "
                "set mindrecord_dir to another folder"
            ) from error
