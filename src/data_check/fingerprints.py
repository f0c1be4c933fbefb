# SPDX-License-Identifier: Apache-2.0
"""A picture in a few bytes, so that pictures can be compared with each other."""

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np

_SIDE = 32  # pixels that the transform is made of
_LOW = 8  # frequencies in each direction that become bits
THUMB = 16  # pixels
_SMALLEST = 32  # pixels of the shorter side, below which an eighth of a JPEG says too little
_DIGEST_BYTES = 16
FLAT = 2.0  # standard deviation in grey levels, below which a thumbnail has no structure


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is kept of a picture.

    Attributes:
        digest: of the file's bytes.
        bits: 64, the perceptual hash: which of the picture's low frequencies are above their
            median. It is nearly the same at another size, quality or brightness.
        thumb: (THUMB * THUMB,) uint8, the picture in grey, without its shape.
        color: (3,) float32, its mean in RGB, 0 to 255; of flat pictures that is all there is. Grey
            where only grey was decoded.
    """

    digest: bytes
    bits: int
    thumb: np.ndarray
    color: np.ndarray


def says_too_little(pixels: np.ndarray) -> bool:
    """Whether a picture has to be decoded whole for a fingerprint.

    Args:
        pixels: as `reading.look_at_image` gives them: (h, w) is an eighth of a JPEG, in grey,
            which says nothing of a flat one.
    """
    if pixels.ndim != 2:
        return False
    return min(pixels.shape) < _SMALLEST or float(_thumbnail(pixels).std()) < FLAT


def fingerprint(data: bytes, pixels: np.ndarray) -> Fingerprint:
    """Return the fingerprint of a picture.

    Args:
        data: the file.
        pixels: (h, w) grey or (H, W, 3) RGB, uint8, of the picture at any size.
    """
    small = cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    color = np.broadcast_to(small.reshape(_SIDE * _SIDE, -1).mean(axis=0, dtype=np.float32), 3)
    if small.ndim == 3:
        small = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    waves = cv2.dct(small.astype(np.float32))[:_LOW, :_LOW].reshape(-1)
    above = waves > np.median(waves[1:])  # the first is the mean brightness
    bits = int.from_bytes(np.packbits(above).tobytes(), "big")
    digest = hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
    return Fingerprint(digest, bits, _thumbnail(small).reshape(-1), color)


def _thumbnail(grey: np.ndarray) -> np.ndarray:
    return cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
