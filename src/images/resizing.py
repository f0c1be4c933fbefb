# SPDX-License-Identifier: Apache-2.0
"""Bilinear resizing with the arithmetic of OpenCV, torchvision or detectron2.

They agree on what bilinear means only when a picture grows, and then up to rounding: OpenCV gives
whole levels, torchvision floats. When it shrinks, detectron2 (by Pillow) averages all pixels that
fall into one; the others read four, whatever lies between.
"""

import cv2
import numpy as np

from .geometry import DETECTRON2, TORCHVISION, Size

_STRIP = 32  # rows at a time, which stay in the processor's cache


def resize(rgb: np.ndarray, size: Size, like: str) -> np.ndarray:
    """Resize a picture.

    Args:
        rgb: (H, W, 3) uint8.
        size: height and width that it gets.
        like: "opencv" (also mmdetection's), "torchvision" or "detectron2".

    Returns:
        (h, w, 3): uint8, float32 of 0..255 for "torchvision". A picture that has the size already
        stays as it is, with every arithmetic.
    """
    if rgb.shape[:2] == tuple(size):
        return rgb
    if like == TORCHVISION:
        return _in_floats(rgb, size)
    if like == DETECTRON2:
        from PIL import Image  # only now: most programs resize by OpenCV

        picture = Image.fromarray(np.ascontiguousarray(rgb))
        # Columns first. At once, Pillow from 13.0 on begins with the rows of some pictures.
        for part in ((size[1], rgb.shape[0]), (size[1], size[0])):
            picture = picture.resize(part, Image.Resampling.BILINEAR)
        return np.array(picture)
    return cv2.resize(rgb, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def _in_floats(rgb: np.ndarray, size: Size) -> np.ndarray:
    """As PyTorch's `interpolate(mode="bilinear", align_corners=False)`, without antialiasing.

    OpenCV's floats do not do: they are up to 0.05 levels away in pictures of 4000 pixels, where
    the positions that PyTorch reads at, in float32, are 0.0002 pixels off the exact ones.
    """
    rows, row_weight = _source(rgb.shape[0], size[0])
    columns, column_weight = _source(rgb.shape[1], size[1])
    column_weight = np.repeat(column_weight, 3)
    needed, place = np.unique(rows, return_inverse=True)
    upper, lower = place.reshape(rows.shape)  # NumPy 2.0 returned it flat
    wide = np.empty((len(needed), 3 * size[1]), np.float32)  # resized horizontally
    for start in range(0, len(needed), _STRIP):
        strip = rgb[needed[start : start + _STRIP]]
        left, right = (strip.take(c, axis=1).reshape(len(strip), -1) for c in columns)
        _blend(left.astype(np.float32), right, column_weight, wide[start : start + _STRIP])
    result = np.empty((size[0], 3 * size[1]), np.float32)
    for start in range(0, size[0], _STRIP):
        part = np.s_[start : start + _STRIP]
        _blend(wide[upper[part]], wide[lower[part]], row_weight[part, None], result[part])
    return result.reshape(*size, 3)


def _blend(first: np.ndarray, second: np.ndarray, weight: np.ndarray, out: np.ndarray) -> None:
    """Write first + (second - first) * weight to `out`."""
    np.subtract(second, first, out=out)
    out *= weight
    out += first


def _source(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Say what each new pixel is made of: (2, new) int two pixels, (new,) the second one's weight.

    The position is PyTorch's: a float32 scale, multiplied and subtracted from in one rounding.
    """
    scale = np.float64(np.float32(old) / np.float32(new))
    position = (scale * (np.arange(new) + 0.5) - 0.5).astype(np.float32)
    position = np.maximum(position, np.float32(0))
    first = np.minimum(position.astype(np.intp), old - 1)
    weight = np.minimum(position - first.astype(np.float32), np.float32(1))
    return np.stack([first, np.minimum(first + 1, old - 1)]), weight
