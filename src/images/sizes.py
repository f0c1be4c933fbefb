# SPDX-License-Identifier: Apache-2.0
"""The size of a picture as a viewer shows it, without decoding it where its header is enough."""

import os

from .headers import ImageProblem, read_header
from .reading import DEFAULT_MAX_PIXELS, ImageError, probe_image, read_bytes

# What a file has in it that may say that the picture is to be turned.
_MARKS = {"JPEG": b"Exif\0", "PNG": b"eXIf", "WebP": b"EXIF", "TIFF": b""}


def shown_size(
    path: str | os.PathLike[str], max_pixels: int = DEFAULT_MAX_PIXELS
) -> tuple[int, int]:
    """Return (height, width) of an image file in pixels, after EXIF has turned it.

    Args:
        path: of the file.
        max_pixels: larger images are refused where they have to be decoded.

    Raises:
        ImageError: it is missing, no picture, or cut off.
    """
    name = os.fspath(path)
    data = read_bytes(name, max_pixels)
    try:
        header = read_header(data)
    except ImageProblem as problem:
        raise ImageError(name, f"cannot be decoded: {problem}") from None
    mark = _MARKS.get(header.kind)
    if mark is None or header.height == header.width or mark not in data:
        return header.height, header.width
    return probe_image(data, name, max_pixels)
