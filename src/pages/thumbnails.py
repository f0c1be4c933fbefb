# SPDX-License-Identifier: Apache-2.0
"""Pictures made small enough to stand in a page."""

import base64
from typing import NamedTuple

import cv2
import numpy as np

LONGEST_SIDE = 480  # pixels
_QUALITY = 80  # of JPEG


class Thumbnail(NamedTuple):
    """A small picture.

    Attributes:
        uri: a `data:` address with the JPEG in it.
        width, height: in its own pixels.
    """

    uri: str
    width: int
    height: int


def thumbnail(rgb: np.ndarray, longest_side: int = LONGEST_SIDE) -> Thumbnail:
    """Shrink a picture and write it as JPEG; a small one keeps its size.

    Args:
        rgb: (H, W, 3) uint8.
        longest_side: pixels that are left of the longer side.

    Raises:
        ValueError: it cannot be written as JPEG.
    """
    height, width = rgb.shape[:2]
    scale = min(1.0, longest_side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA) if scale < 1.0 else rgb
    bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise ValueError(f"a picture of {width}x{height} pixels does not become a JPEG")
    encoded = base64.b64encode(data.tobytes()).decode("ascii")
    return Thumbnail(f"data:image/jpeg;base64,{encoded}", *size)
