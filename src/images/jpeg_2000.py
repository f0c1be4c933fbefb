# SPDX-License-Identifier: Apache-2.0
"""JPEG 2000 codestreams -> arrays as OpenCV gives them, by Pillow: OpenCV's decoder dies of some
damaged ones."""

import io

import cv2
import numpy as np
from PIL import Image


def decode_codestream(data: bytes, flags: int) -> np.ndarray | None:
    """Decode a codestream (without a file's boxes) as `cv2.imdecode` would.

    Args:
        data: of 1, 3 or 4 components: grey, RGB, RGB with alpha.
        flags: IMREAD_COLOR gives (H, W, 3) uint8 BGR, IMREAD_UNCHANGED BGRA where there is alpha,
            IMREAD_ANYDEPTH (H, W), uint16 for 16 bits.

    Returns:
        None when it is damaged.

    Raises:
        MemoryError: there is too little.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG2000"]) as image:
            samples = np.asarray(image)
    except MemoryError:
        raise
    except Exception:  # whatever damaged bytes provoke
        return None
    if samples.ndim == 2:
        if flags == cv2.IMREAD_ANYDEPTH:
            return samples
        eight = (samples >> 8).astype(np.uint8) if samples.dtype == np.uint16 else samples
        return cv2.cvtColor(eight, cv2.COLOR_GRAY2BGR)
    if flags == cv2.IMREAD_ANYDEPTH:
        return cv2.cvtColor(np.ascontiguousarray(samples[..., :3]), cv2.COLOR_RGB2GRAY)
    if flags == cv2.IMREAD_UNCHANGED and samples.shape[2] == 4:
        return cv2.cvtColor(samples, cv2.COLOR_RGBA2BGRA)
    return cv2.cvtColor(np.ascontiguousarray(samples[..., :3]), cv2.COLOR_RGB2BGR)
