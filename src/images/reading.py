# SPDX-License-Identifier: Apache-2.0
"""Image files -> RGB pictures, of bounded size, in bounded memory, whole or not at all."""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from ..base.errors import UserError
from ..base.foreign_files import NotAFileError, open_regular
from .headers import CODESTREAM, ImageHeader, ImageProblem, for_decoder, read_header
from .jpeg_2000 import decode_codestream

DEFAULT_MAX_PIXELS = 200_000_000
# Bytes that decoding may take for every pixel of the limit: 1.4 GB with the default.
_MEMORY_A_PIXEL = 7
_FILE_BYTES_A_PIXEL = 4  # of a file, for every pixel of the limit
# How often a decoder may go over a picture as large as the limit (progressive JPEG: 10 times).
_PASSES = 20
_LARGE = 1 << 28  # bytes; pictures that take more are decoded one at a time
_STRIP = 1 << 22  # pixels that are changed at once
_WHITE = 255.0
_REMEDY = "replace the file, remove it from the annotations, or set skip_bad_images to True"
_NARROW = {8: 255, 10: 1023, 12: 4095, 14: 16_383}  # largest values of so many bits

# The eight EXIF orientations as moves of an array; a viewer applies one of them.
_ORIENTATIONS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda a: a,
    lambda a: a[:, ::-1],
    lambda a: a[::-1, ::-1],
    lambda a: a[::-1],
    lambda a: a.swapaxes(0, 1),
    lambda a: a.swapaxes(0, 1)[:, ::-1],
    lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    lambda a: a.swapaxes(0, 1)[::-1],
)
_one_large_picture = threading.Lock()


class ImageError(UserError):
    """An image that cannot be used.

    Args:
        name: the file.
        reason: why, as the rest of a sentence.
        remedy: what to do about it.
    """

    def __init__(self, name: str, reason: str, remedy: str = _REMEDY) -> None:
        super().__init__(f"image {name} {reason}; {remedy}")
        self._name, self._reason = name, reason

    def without_remedy(self) -> UserError:
        """The same where there are no annotations and no settings to change."""
        return UserError(f"image {self._name} {self._reason}")


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was seen of an image that decodes.

    Attributes:
        size: (height, width) in pixels as a viewer shows it.
        narrow: in words, if it has 16 bits and uses far fewer, so that it comes out (nearly) black.
        zeros: bytes of 0 at its end, if it is of a kind that cannot tell them from black.
    """

    size: tuple[int, int]
    narrow: str = ""
    zeros: int = 0


# --------------------------------------------------------------------------- bytes


def read_image(path: str, max_pixels: int = DEFAULT_MAX_PIXELS) -> np.ndarray:
    """Read an image file; see `decode_image`.

    Args:
        path: of the file.
        max_pixels: larger images are refused.
    """
    return decode_image(read_bytes(path, max_pixels), path, max_pixels)


def read_bytes(path: str | os.PathLike[str], max_pixels: int = DEFAULT_MAX_PIXELS) -> bytes:
    """The bytes of an image file.

    Args:
        path: of the file.
        max_pixels: of an image; a file of more than four bytes for each is refused.

    Raises:
        ImageError: it is missing, cannot be read, is no regular file (which might never end), or
            is larger than an image of `max_pixels` needs to be.
    """
    limit = _FILE_BYTES_A_PIXEL * max_pixels
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > limit:
                raise ImageError(
                    str(path),
                    f"has {size} bytes, more than {_FILE_BYTES_A_PIXEL} for each pixel of "
                    f"max_image_pixels {max_pixels}",
                )
            return stream.read(size)
    except FileNotFoundError:
        raise ImageError(
            str(path),
            "does not exist",
            "add it, remove it from the annotations, or set skip_bad_images to True",
        ) from None
    except NotAFileError:
        raise ImageError(str(path), "cannot be read: it is no regular file") from None
    except OSError as error:
        raise ImageError(str(path), f"cannot be read: {error.strerror}") from None


# --------------------------------------------------------------------------- decoding


def decode_image(
    data: bytes | np.ndarray, name: str, max_pixels: int = DEFAULT_MAX_PIXELS
) -> np.ndarray:
    """Decode an encoded image to what a viewer shows.

    Grayscale, CMYK and 16-bit images become 8-bit RGB, EXIF rotation is applied, and transparent
    images are shown on white (their hidden colours are arbitrary, mostly black).

    Args:
        data: the file's bytes.
        name: the file's name, for the error.
        max_pixels: larger images are refused by their header, before anything is decoded.

    Returns:
        (H, W, 3) uint8 RGB, contiguous.

    Raises:
        ImageError: not a picture of a known kind, a truncated one, or one that is too large.
    """
    data = data.tobytes() if isinstance(data, np.ndarray) else data
    header = _checked_header(data, name, max_pixels)
    data = for_decoder(data, header)
    with _memory_for(header, data, name):
        return _decode(data, header, name)


def probe_image(data: bytes, name: str, max_pixels: int = DEFAULT_MAX_PIXELS) -> tuple[int, int]:
    """Check that an encoded image decodes, and get its size as a viewer shows it.

    Args:
        data: the file's bytes.
        name: the file's name, for the error.
        max_pixels: larger images are refused by their header.

    Returns:
        (height, width) in pixels, the shape of `decode_image`'s result.

    Raises:
        ImageError: as `decode_image`.
    """
    return inspect_image(data, name, max_pixels).size


def inspect_image(data: bytes, name: str, max_pixels: int = DEFAULT_MAX_PIXELS) -> Inspection:
    """Check that an encoded image decodes, and look for signs that it is not what was meant.

    Args:
        data: the file's bytes.
        name: the file's name, for the error.
        max_pixels: larger images are refused by their header.

    Raises:
        ImageError: as `decode_image`.
    """
    return look_at_image(data, name, max_pixels)[0]


def look_at_image(
    data: bytes, name: str, max_pixels: int = DEFAULT_MAX_PIXELS
) -> tuple[Inspection, np.ndarray]:
    """`inspect_image`, with the pixels that it has decoded.

    A JPEG is decoded at an eighth of its size (three times as fast). That says whether EXIF turns
    it; the exact size comes from its header.

    Args:
        data, name, max_pixels: as for `inspect_image`.

    Returns:
        What was seen, and (h, w) grey of an eighth of the size, or (H, W, 3) RGB; uint8.

    Raises:
        ImageError: as `decode_image`.
    """
    header = _checked_header(data, name, max_pixels)
    data = for_decoder(data, header)
    with _memory_for(header, data, name):
        pixels = _imdecode(data, cv2.IMREAD_REDUCED_GRAYSCALE_8) if header.kind == "JPEG" else None
        size = None if pixels is None else _jpeg_size(pixels, header)
        if pixels is None or size is None:
            pixels = _decode(data, header, name)
            size = pixels.shape[0], pixels.shape[1]
        return Inspection(size, narrow_depth(data, header), _zeros_at_the_end(data, header)), pixels


def narrow_depth(data: bytes, header: ImageHeader | None = None) -> str:
    """Say in words that an image of 16 bits uses far fewer, as 12-bit cameras and detectors write.

    Such an image comes out (nearly) black: of 16 bits, the higher eight are taken.

    Args:
        data: of an image that decodes.
        header: its header, if it has been read.

    Returns:
        "" for any other image.
    """
    header = read_header(data) if header is None else header
    if header.bits != 16:
        return ""
    stored = _imdecode(data, cv2.IMREAD_ANYDEPTH)
    highest = 0 if stored is None or stored.dtype != np.uint16 else int(stored.max())
    for bits, most in _NARROW.items():
        if 0 < highest <= most:
            return (
                f"values up to {highest} of 65535, like {bits} bits: {highest >> 8} of 255 for the "
                "network"
            )
    return ""


def _checked_header(data: bytes, name: str, max_pixels: int) -> ImageHeader:
    """The header of an image that may be decoded."""
    try:
        header = read_header(data)
    except ImageProblem as problem:
        raise _undecodable(data, name, str(problem)) from None
    what = f"is a {header.kind} of {header.width}x{header.height} pixels"
    if header.pixels > max_pixels:
        raise ImageError(
            name,
            f"{what}, more than max_image_pixels {max_pixels}",
            "cut it up or make it smaller, or set max_image_pixels higher",
        )
    needed = int(header.memory * header.pixels) + len(data)
    if needed > _MEMORY_A_PIXEL * max_pixels:
        raise ImageError(
            name,
            f"{what} that takes {needed / 1e9:.1f} GB to decode, more than {_MEMORY_A_PIXEL} bytes "
            f"for each pixel of max_image_pixels {max_pixels}",
            "save it as JPEG or PNG with 8 bits, or set max_image_pixels higher",
        )
    if header.passes * header.pixels > _PASSES * max_pixels:
        raise ImageError(
            name,
            f"{what} in {header.passes} scans, which would take too long to decode",
            "save it anew",
        )
    return header


def _undecodable(data: bytes, name: str, reason: str) -> ImageError:
    return ImageError(name, f"cannot be decoded ({len(data)} bytes): {reason}")


@contextlib.contextmanager
def _memory_for(header: ImageHeader, data: bytes, name: str) -> Iterator[None]:
    """Threads decode large pictures one at a time, so that memory is that of one."""
    needed = header.memory * header.pixels + len(data)
    turn = _one_large_picture if needed > _LARGE else contextlib.nullcontext()
    try:
        with turn:
            yield
    except MemoryError:
        raise ImageError(
            name,
            f"is a {header.kind} of {header.width}x{header.height} pixels, for which there is not "
            f"enough memory (up to {needed / 1e6:.0f} MB)",
            "free some, or make it smaller",
        ) from None


def _decode(data: bytes, header: ImageHeader, name: str) -> np.ndarray:
    picture = _imdecode(data, cv2.IMREAD_COLOR)
    if picture is None or picture.dtype != np.uint8 or picture.ndim != 3:
        raise _undecodable(data, name, f"its {header.kind} data is damaged, or of an unusual kind")
    if picture.shape[0] * picture.shape[1] != header.pixels:
        raise _undecodable(data, name, f"its {header.kind} header contradicts its data")
    if header.transparent:
        _put_on_white(data, header, picture)
    if header.pixels <= _STRIP:
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    for rows in row_strips(picture):
        picture[rows] = cv2.cvtColor(picture[rows], cv2.COLOR_BGR2RGB)
    return picture


def _imdecode(data: bytes, flags: int) -> np.ndarray | None:
    if data.startswith(CODESTREAM):
        return decode_codestream(data, flags)
    silence_opencv()
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError("no memory left for a picture") from None
        return None


@functools.cache
def silence_opencv() -> None:
    """Keep OpenCV's own lines about damaged pictures from the log: an error says it already."""
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.setLogLevel(0)


def _jpeg_size(small: np.ndarray, header: ImageHeader) -> tuple[int, int] | None:
    """(height, width) after EXIF rotation; None if an eighth of the picture cannot tell."""
    height, width = header.height, header.width
    upright = small.shape == (-(-height // 8), -(-width // 8))
    turned = small.shape == (-(-width // 8), -(-height // 8))
    if upright and (height == width or not turned):
        return height, width
    return (width, height) if turned and not upright else None


def _zeros_at_the_end(data: bytes, header: ImageHeader) -> int:
    """Bytes of 0 at the end of an image whose samples lie in the file as they are.

    An interrupted copy may leave a page or more of them; so does a black border.
    """
    if not header.raw or not data.endswith(bytes(4096)):
        return 0
    return len(data) - len(data.rstrip(b"\0"))


# --------------------------------------------------------------------------- transparency


def _put_on_white(data: bytes, header: ImageHeader, picture: np.ndarray) -> None:
    """Show a transparent image on white, in `picture` (H, W, 3) uint8 BGR itself.

    OpenCV gives the alpha channel only without EXIF rotation, so the rotation is found by comparing
    with `picture`, which is rotated but has lost its alpha.
    """
    stored = _imdecode(data, cv2.IMREAD_UNCHANGED)
    if stored is None or stored.ndim != 3 or stored.shape[2] != 4:
        return
    if stored.dtype not in (np.uint8, np.uint16):
        return
    moves = [move(stored) for move in _ORIENTATIONS]
    moves = [moved for moved in moves if moved.shape[:2] == picture.shape[:2]]
    stored = next((moved for moved in moves if _same_colours(moved, picture)), moves[0])
    for rows in row_strips(picture):
        block = _eight_bits(stored[rows])
        alpha = block[..., 3:].astype(np.float32) / 255.0
        colour = block[..., :3].astype(np.float32)
        if not header.premultiplied:
            colour *= alpha
        shown = colour + _WHITE * (1.0 - alpha) + 0.5
        picture[rows] = np.minimum(shown, _WHITE).astype(np.uint8)


def _same_colours(stored: np.ndarray, picture: np.ndarray) -> bool:
    return all(
        np.array_equal(_eight_bits(stored[rows])[..., :3], picture[rows])
        for rows in row_strips(picture)
    )


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    return (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels


def row_strips(picture: np.ndarray) -> Iterator[slice]:
    """Return slices of a picture's rows, each a few million pixels.

    Args:
        picture: (H, W, ...), of any type; W is at least 1.
    """
    height, width = picture.shape[:2]
    step = max(1, _STRIP // width)
    return (slice(top, top + step) for top in range(0, height, step))
