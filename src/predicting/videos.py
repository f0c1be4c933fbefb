# SPDX-License-Identifier: Apache-2.0
"""A detector over a video, a camera or a stream: an annotated mp4, and a JSON row a frame."""

import contextlib
import json
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import numpy as np

from ..base.errors import UserError
from ..base.files import replacing
from ..base.messages import counted, one_line
from ..base.progress import Display, Progress
from ..images.listing import Video
from ..images.videos import VideoError, VideoReader, VideoWriter
from .entries import detections_of, drawn, written_name
from .finding import Finder, Numbered
from .options import Options
from .result_files import CropWriter, ResultWriter, writing

_LARGEST_FRAME = 8_000_000  # pixels that are drawn: 4K


def video_files(name: str) -> tuple[str, str]:
    """Return the names of a video's own result files: the rows, and what is drawn.

    Args:
        name: of its results.
    """
    return f"{name}.jsonl", f"{name}.mp4"


class VideoRun:
    """Looks at videos, one after the other.

    Args:
        finder: finds objects in frames.
        class_names: of labels 1..C.
        max_pixels: larger frames are refused.
        options: what is wanted.
        output: the folder of the results.
        writers: of the formats that all inputs share.
        display: where progress is shown.
    """

    def __init__(
        self,
        finder: Finder,
        class_names: Sequence[str],
        max_pixels: int,
        options: Options,
        output: Path,
        writers: Sequence[ResultWriter],
        display: Display,
    ) -> None:
        self._finder, self._class_names, self._max_pixels = finder, class_names, max_pixels
        self._options, self._output = options, output
        self._writers, self._display = writers, display
        self._crops = CropWriter(output, class_names) if options.crops else None

    def look_at(self, video: Video, name: str) -> bool:
        """Look at one; its result files are whole, also where Ctrl-C ends it early.

        Args:
            video: to look at.
            name: of its results.

        Returns:
            False where Ctrl-C has ended a video, which for a camera or a stream is the usual end.

        Raises:
            VideoError: it cannot be read.
            UserError: results cannot be written.
        """
        options = self._options
        reader = VideoReader(
            video, self._max_pixels, step=options.frame_step, most=options.max_frames
        )
        rows, mp4 = (self._output / file for file in video_files(name))
        progress = Progress(self._display, video.name, reader.total, unit="frames")
        with contextlib.closing(reader), interrupt_noted() as interrupted:
            with contextlib.ExitStack() as stack:
                file = stack.enter_context(writing(rows))
                pictures = stack.enter_context(_writer(mp4, reader.rate)) if options.draws else None
                for row, rgb in self._rows(reader, interrupted):
                    file.write(json.dumps(row) + "\n")
                    size = {"width": rgb.shape[1], "height": rgb.shape[0]}
                    entry = {"file": written_name(video.name), **size, **row}
                    if pictures is not None:
                        picture = drawn(entry, rgb, self._class_names, _LARGEST_FRAME)
                        pictures.write(np.asarray(picture))
                    self._write_shared(entry, rgb, f"{name}/{row['frame']:06d}")
                    progress.advance()
                if not progress.done:
                    raise VideoError(f"video {video.name}: there is no frame that can be read")
            progress.finish()
            self._say_end(reader, video, progress.done, rows, mp4 if options.draws else None)
        return video.is_live or not interrupted.is_set()

    def _rows(
        self, reader: VideoReader, interrupted: threading.Event
    ) -> Iterator[tuple[dict[str, object], np.ndarray]]:
        """Yield what a row of the file says of each frame, and its pixels."""
        seconds: dict[int, float] = {}

        def pictures() -> Iterator[Numbered]:
            for frame in reader:
                seconds[frame.number] = frame.seconds
                yield frame.number, frame.rgb
                if interrupted.is_set():
                    return

        for number, rgb, found in self._finder.find(pictures()):
            detections = detections_of(found, self._class_names, self._options.min_score)
            row = {"frame": number, "seconds": seconds.pop(number), "detections": detections}
            yield row, rgb

    def _write_shared(self, entry: dict[str, object], rgb: np.ndarray, name: str) -> None:
        for writer in self._writers:
            writer.add(entry, name)
        if self._crops is not None:
            self._crops.add(entry, name, rgb)

    def _say_end(
        self, reader: VideoReader, video: Video, frames: int, rows: Path, mp4: Path | None
    ) -> None:
        where = rows if mp4 is None else f"{mp4}, {rows}"
        self._display.say(one_line(f"{video.name}: {counted(frames, 'frame')} -> {where}"))
        if reader.lost:
            self._display.say(
                f"note: {video.name} speaks of {counted(reader.lost, 'more frame')}, which cannot "
                "be read; is it whole?"
            )


@contextlib.contextmanager
def _writer(mp4: Path, rate: float) -> Iterator[VideoWriter]:
    """Yield the writer of a video that is at `mp4` after the block, whole."""
    try:
        with replacing(mp4) as temporary, VideoWriter(temporary, rate) as writer:
            yield writer
    except OSError as error:
        raise UserError(f"{mp4} cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def interrupt_noted() -> Iterator[threading.Event]:
    """Yield what the first Ctrl-C of the block sets; a second one interrupts as always."""
    noted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield noted  # others get no signals
        return
    before = signal.getsignal(signal.SIGINT)

    def note(_number: int, _frame: FrameType | None) -> None:
        noted.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
