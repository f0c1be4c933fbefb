# SPDX-License-Identifier: Apache-2.0
"""Image records -> MindRecord files: every image checked on the way, its bytes copied untouched."""

import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from mindspore.mindrecord import FileWriter

from src.errors import UserError
from src.image_reading import Inspection, inspect_image, read_bytes
from src.records import AnnotationReport, ImageRecord, fit_boxes, limit_boxes

SCHEMA = {
    "image": {"type": "bytes"},
    "image_index": {"type": "int32"},
    "image_id": {"type": "string"},
    # MindRecord has no empty arrays: an image without boxes holds one box of label 0, the
    # background.
    "boxes": {"type": "float32", "shape": [-1, 4]},
    "labels": {"type": "int32", "shape": [-1]},
    "crowd": {"type": "int32", "shape": [-1]},
}
_FILE_BYTES = 1 << 30  # start another file beyond this
_MIN_PAGE, _MAX_PAGE = (
    1 << 25,
    1 << 28,
)  # MindRecord's default and limit; one row must fit in a page
_PAGE_RESERVE = 1 << 20  # of a page, for boxes and headers
_CHUNK_IMAGES = 64
_IMAGES_AHEAD = 96
_CHUNK_BYTES = 1 << 27
_SECONDS_BETWEEN_LINES = 30.0


def write_records(
    records: Sequence[ImageRecord],
    folder: str,
    *,
    stem: str,
    keep_empty: bool,
    max_boxes: int,
    skip_bad_images: bool,
    largest_image: int,
    max_pixels: int,
    num_workers: int,
    report: AnnotationReport,
) -> tuple[list[ImageRecord], np.ndarray, list[str]]:
    """Check every image and write it with its boxes into MindRecord files.

    Args:
        records: with existing images; boxes are clipped to the real sizes here.
        folder: existing, empty folder.
        stem: name of the files, which get a number appended.
        keep_empty, max_boxes, skip_bad_images: as in `DataSource`.
        largest_image: size of the largest image file in bytes.
        max_pixels: of an image; larger ones are bad.
        num_workers: threads that read and check images.
        report: gets counts, examples and totals.

    Returns:
        The records as written, their sizes (N, 2) int32 (height, width), and the names of the
        files.

    Raises:
        UserError: an image is bad, nothing is left, or the files cannot be written.
    """
    kept: list[ImageRecord] = []
    sizes: list[tuple[int, int]] = []
    writer = _Writer(folder, stem, largest_image)
    progress = Progress(len(records), f"{stem}: checking and converting images")
    with ThreadPoolExecutor(max(1, num_workers)) as pool:
        for record, (data, seen, problem) in _probe_all(pool, records, max_pixels):
            progress.advance()
            if problem is not None:
                if not skip_bad_images:
                    raise problem
                report.add("bad_image", record.file_name)
                continue
            _report_oddities(record, seen, report)
            record = fit_boxes(record, *seen.size, report)
            if record.is_empty and not keep_empty:
                report.add("empty_image", record.file_name)
                continue
            record = limit_boxes(record, max_boxes, report)
            writer.add(len(kept), record, data)
            kept.append(record)
            sizes.append(seen.size)
    if not kept:
        raise UserError(
            f"{report.source}: no usable image is left; "
            + "; ".join(line.strip() for line in report.lines()[1:])
        )
    names = writer.close()
    progress.finish()
    report.set_totals(kept)
    return kept, np.array(sizes, np.int32).reshape(-1, 2), names


def _probe_all(
    pool: ThreadPoolExecutor, records: Sequence[ImageRecord], max_pixels: int
) -> Iterator[tuple]:
    """Yield (record, (bytes, `Inspection`, problem)) in order, some images in memory at a time."""

    def probe(record: ImageRecord):
        try:
            data = read_bytes(record.image_path, max_pixels)
            return data, inspect_image(data, record.image_path, max_pixels), None
        except UserError as error:
            return b"", Inspection((0, 0)), error

    # The pool works ahead while what it has done is written, but not further than memory allows.
    ahead: deque = deque()
    for record in records:
        ahead.append((record, pool.submit(probe, record)))
        if len(ahead) >= _IMAGES_AHEAD:
            first, future = ahead.popleft()
            yield first, future.result()
    while ahead:
        first, future = ahead.popleft()
        yield first, future.result()


def _report_oddities(record: ImageRecord, seen: Inspection, report: AnnotationReport) -> None:
    size = seen.size
    if record.stated_size not in (None, size):
        stated_height, stated_width = record.stated_size
        report.add(
            "size_mismatch",
            f"{record.file_name} is {size[1]}x{size[0]}, stated {stated_width}x{stated_height}",
        )
    if seen.narrow:
        report.add("narrow", f"{record.file_name} has {seen.narrow}")
    if seen.zeros:
        report.add("zero_end", f"{record.file_name}, {seen.zeros} bytes of 0")


class _Writer:
    """Rows into numbered MindRecord files of limited size."""

    def __init__(self, folder: str, stem: str, largest_image: int) -> None:
        self._folder, self._stem = folder, stem
        self._page = _MIN_PAGE  # the same in all files: MindRecord wants that
        while self._page < min(largest_image + _PAGE_RESERVE, _MAX_PAGE):
            self._page *= 2
        self._names: list[str] = []
        self._file = None
        self._file_bytes = 0
        self._rows: list[dict] = []
        self._row_bytes = 0

    def add(self, index: int, record: ImageRecord, data: bytes) -> None:
        if len(data) > self._page - _PAGE_RESERVE:
            raise UserError(
                f"image {record.image_path} has {len(data)} bytes; MindRecord holds at most "
                f"{self._page - _PAGE_RESERVE} bytes an image: save it smaller"
            )
        if record.labels.size:
            boxes, labels, crowd = record.boxes, record.labels, record.crowd
        else:
            boxes, labels, crowd = np.zeros((1, 4)), np.zeros(1), np.zeros(1)
        row = {
            "image": data,
            "image_index": index,
            "image_id": str(record.image_id),
            "boxes": boxes.astype(np.float32),
            "labels": labels.astype(np.int32),
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

    def _flush(self) -> None:
        if self._rows:
            with writing_to(self._folder):
                self._file.write_raw_data(self._rows)
        self._rows, self._row_bytes = [], 0

    def _commit(self) -> None:
        if self._file is not None:
            with writing_to(self._folder):
                self._file.commit()
        self._file = None


class writing_to:
    """Turns a failed write (disk full, no permission) into one line."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, OSError | RuntimeError):
            lines = [line.strip() for line in str(error).splitlines()]
            reason = next((line for line in lines if line.startswith("[ERROR]")), lines[0])
            raise UserError(
                f"cannot write MindRecord files to {self._folder}: {reason}; free space there or "
                "set mindrecord_dir to another folder"
            ) from error


class Progress:
    """Images a second and time left, on the standard output.

    On a terminal one line that updates itself, elsewhere a line now and then.
    """

    def __init__(self, total: int, title: str, stream=None) -> None:
        self._total, self._title = total, title
        self._stream = stream if stream is not None else sys.stdout
        self._terminal = self._stream.isatty()
        self._done = 0
        self._start = self._shown = time.monotonic()

    def advance(self) -> None:
        """One more image is done."""
        self._done += 1
        now = time.monotonic()
        if now - self._shown >= (0.2 if self._terminal else _SECONDS_BETWEEN_LINES):
            self._shown = now
            self._show(now, end="\r" if self._terminal else "\n")

    def finish(self) -> None:
        """Show the last line."""
        self._show(time.monotonic(), end="\n")

    def _show(self, now: float, end: str) -> None:
        seconds = max(now - self._start, 1e-9)
        rate = self._done / seconds
        left = (self._total - self._done) / max(rate, 1e-9)
        done = self._done >= self._total
        rest = f"{seconds:.1f} s" if done else f"{_clock(left)} left"
        text = f"{self._title}: {self._done}/{self._total}, {rate:.0f} images/s, {rest}"
        self._stream.write(f"{text:<78}{end}" if self._terminal else text + end)
        self._stream.flush()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
