# SPDX-License-Identifier: Apache-2.0
"""Videos, cameras and streams: frames in, an mp4 out.

A file must begin like a video. FFmpeg, which reads it, goes by the content and not by the name, and
what looks like a playlist would let it open other files and addresses.
"""

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import cv2
import numpy as np

from ..base.errors import UserError
from ..base.foreign_files import open_regular
from .listing import Video
from .reading import DEFAULT_MAX_PIXELS, silence_opencv

_USUAL_RATE, _HIGHEST_RATE = 25.0, 1000.0  # frames a second
_MOST_FRAMES = 10**9
_WAIT_SECONDS = 10  # for a stream to be opened, and for each of its frames
_START_BYTES = 512
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_STARTS = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG video
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF
    b"FLV\x01",
    b"OggS",
)


class VideoError(UserError):
    """A video that cannot be read."""


class Frame(NamedTuple):
    """A frame.

    Attributes:
        number: from 0, of all frames, the skipped ones included.
        seconds: since the first one; of a camera or stream by the clock.
        rgb: (H, W, 3) uint8, turned as the file says.
    """

    number: int
    seconds: float
    rgb: np.ndarray


class VideoReader:
    """The frames of a video, a camera or a stream.

    Args:
        video: where they come from.
        max_pixels: larger frames are refused.
        step: every how-manieth frame is read; of the others no pixels are made.
        most: frames to read; 0 for all.

    Attributes:
        rate: frames that are read of each second of the video.
        total: how many will be read; None where that is not known.

    Raises:
        VideoError: it cannot be opened, is no video, or is too large.
    """

    def __init__(
        self, video: Video, max_pixels: int = DEFAULT_MAX_PIXELS, *, step: int = 1, most: int = 0
    ) -> None:
        self.video = video
        self._max_pixels, self._step, self._most = max_pixels, step, most
        self._capture = _open(video)
        width, height, rate, count = (
            self._capture.get(key)
            for key in (
                cv2.CAP_PROP_FRAME_WIDTH,
                cv2.CAP_PROP_FRAME_HEIGHT,
                cv2.CAP_PROP_FPS,
                cv2.CAP_PROP_FRAME_COUNT,
            )
        )
        self._check_pixels(int(height), int(width))
        rate = rate if math.isfinite(rate) and 0 < rate <= _HIGHEST_RATE else _USUAL_RATE
        self.rate = rate / step
        self._said = int(count) if not video.is_live and 0 < count < _MOST_FRAMES else None
        self.total = None if self._said is None else -(-self._said // step)
        if most:
            self.total = most if self.total is None else min(most, self.total)
        self.read = 0
        self._seen = 0

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; once.

        Raises:
            VideoError: a frame is too large.
        """
        start = time.monotonic()
        number = -1
        while not self._most or self.read < self._most:
            if not self._capture.grab():
                return
            number += 1
            self._seen = number + 1
            if number % self._step:
                continue
            if self.video.is_live:
                seconds = time.monotonic() - start
            else:
                seconds = max(self._capture.get(cv2.CAP_PROP_POS_MSEC), 0.0) / 1000
            there, bgr = self._capture.retrieve()
            if not there or bgr is None:
                continue
            self._check_pixels(*bgr.shape[:2])
            self.read += 1
            yield Frame(number, round(seconds, 3), cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))

    @property
    def lost(self) -> int:
        """Frames that the file speaks of, and does not have; a few are usual and count as none."""
        if self._said is None or (self._most and self.read >= self._most):
            return 0
        missing = self._said - self._seen
        return missing if missing > max(2, self._said // 20) else 0

    def close(self) -> None:
        """Let go of the file or the camera."""
        self._capture.release()

    def _check_pixels(self, height: int, width: int) -> None:
        if height * width > self._max_pixels:
            raise VideoError(
                f"video {self.video.name}: its frames have {width}x{height} pixels, more than "
                f"max_image_pixels {self._max_pixels}"
            )


def _open(video: Video) -> cv2.VideoCapture:
    silence_opencv()
    # Of libraries that OpenCV calls, whose lines would stand among ours.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    wait = 1000 * _WAIT_SECONDS
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, wait, cv2.CAP_PROP_READ_TIMEOUT_MSEC, wait]
    try:
        if isinstance(video.source, int):
            capture = cv2.VideoCapture(video.source)
        elif isinstance(video.source, Path):
            _check_start(video.source, video.name)
            # An absolute path is no address and no pattern of names.
            path = os.path.abspath(video.source)
            if not _is_utf8(path):
                raise VideoError(
                    f"video {video.name} cannot be opened: its path is not UTF-8; rename it"
                )
            capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
        else:
            capture = cv2.VideoCapture(video.source, cv2.CAP_FFMPEG, limits)
    except (cv2.error, UnicodeError) as error:
        raise VideoError(f"video {video.name} cannot be opened: {error}") from None
    if not capture.isOpened():
        reason = (
            "is there, and may this user read it?"
            if video.is_live
            else "it is damaged, or of a kind that OpenCV's FFmpeg does not read"
        )
        raise VideoError(f"video {video.name} cannot be opened: {reason}")
    return capture


def _is_utf8(path: str) -> bool:
    """Whether OpenCV can be given a path: of others it crashes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_start(path: Path, name: str) -> None:
    """Refuse a file that does not begin like a video."""
    try:
        with open_regular(path) as file:
            start = file.read(_START_BYTES)
    except OSError as error:
        raise VideoError(f"video {name} cannot be read: {error.strerror}") from None
    known = (
        start[4:8] in _BOXES
        or (start[:4] == b"RIFF" and start[8:12] == b"AVI ")
        or start.startswith(_STARTS)
        # A transport stream has a G every 188 bytes; those of camcorders put a time before each.
        or start[:189:188] == b"GG"
        or start[4:197:192] == b"GG"
    )
    if not known:
        raise VideoError(f"video {name} cannot be read: it does not begin like a video")


class VideoWriter:
    """An mp4 file (MPEG-4 Part 2), opened with its first frame.

    Args:
        path: ends with .mp4.
        rate: frames a second.

    Raises:
        UserError: the path is not UTF-8; on writing, when the file cannot be made.
    """

    def __init__(self, path: str | os.PathLike[str], rate: float) -> None:
        self._path, self._rate = os.fspath(path), rate
        if not _is_utf8(os.path.abspath(self._path)):
            raise UserError(f"{self._path} cannot be written: its path is not UTF-8; name another")
        self._writer: cv2.VideoWriter | None = None
        self._size, self._count = (0, 0), 0

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.release()
            if error is None:
                self._check_written()

    def _check_written(self) -> None:
        """OpenCV does not say that a disk is full: the file then has no end, or fewer frames."""
        capture = cv2.VideoCapture(os.path.abspath(self._path), cv2.CAP_FFMPEG)
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if count != self._count:
            raise UserError(
                f"{self._path} cannot be written: {count} of {self._count} frames are in it; "
                "is the disk full?"
            )

    def write(self, rgb: np.ndarray) -> None:
        """Add a frame.

        Args:
            rgb: (H, W, 3) uint8; resized where a stream has changed its size. Of an odd height or
                width, which the format does not have, the last row or column is left out.
        """
        rgb = rgb[: max(2, rgb.shape[0] // 2 * 2), : max(2, rgb.shape[1] // 2 * 2)]
        if self._writer is None:
            self._size = rgb.shape[1], rgb.shape[0]
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(self._path, cv2.CAP_FFMPEG, code, self._rate, self._size)
            if not self._writer.isOpened():
                raise UserError(
                    f"{self._path} cannot be written: OpenCV makes no mp4 of "
                    f"{self._size[0]}x{self._size[1]} pixels there"
                )
        elif (rgb.shape[1], rgb.shape[0]) != self._size:
            rgb = cv2.resize(rgb, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        self._count += 1
