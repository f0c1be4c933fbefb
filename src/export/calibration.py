# SPDX-License-Identifier: Apache-2.0
"""The pictures that 8-bit values are fitted to, as inputs of a canvas."""

from collections.abc import Iterator

import numpy as np

from ..images.geometry import Size
from ..images.listing import find_images
from ..images.ops import InputFormat, preprocess_image
from ..images.reading import read_image
from .onnx_form import OnnxForm

Picture = tuple[np.ndarray, np.ndarray, np.ndarray]


def calibration_pictures(form: OnnxForm, target: InputFormat, canvas: Size) -> Iterator[Picture]:
    """Yield a folder's pictures of a canvas.

    Args:
        form: names the folder and the most pictures that are looked at.
        target: how an image file becomes an input.
        canvas: height and width; pictures that go onto another one are left out.

    Yields:
        pixels (H, W, 3) uint8 RGB, image (3, H, W) float32 and image_meta (4,) float32.
    """
    paths, _ = find_images([form.calibration], option="--calibration")
    for path in paths[: form.calibration_images]:
        image, meta = preprocess_image(read_image(str(path)), target)
        if image.shape[1:] == tuple(canvas):
            yield _pixels(image, target), image, meta


def _pixels(image: np.ndarray, target: InputFormat) -> np.ndarray:
    """Return the (H, W, 3) uint8 RGB pixels that a network's input (3, H, W) was made of."""
    values = image.transpose(1, 2, 0) * np.array(target.std) + np.array(target.mean)
    rgb = values if target.channel_order == "rgb" else values[..., ::-1]
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
