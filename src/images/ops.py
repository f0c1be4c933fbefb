# SPDX-License-Identifier: Apache-2.0
"""RGB pictures -> network inputs, and the same moves for boxes.

`preprocess_image` is the single place of resizing, normalising and padding: training, evaluation
and prediction all go through the functions it is made of.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np

from .geometry import OPENCV, ResizeRule, ResizeSettings, Size
from .reading import row_strips
from .resizing import resize

LEGACY, MODERN = "legacy", "modern"

# Pixels. Below this, float32 rounding of later moves could make a box's side 0, and its logarithm
# infinite.
_THINNEST_BOX = 0.01


# --------------------------------------------------------------------------- network input


class InputSettings(ResizeSettings, Protocol):
    """The keys of the configuration that `InputFormat` takes; see default_config.yaml."""

    pixel_mean: Sequence[float]
    pixel_std: Sequence[float]
    channel_order: str
    pad_before_normalize: bool


@dataclass(frozen=True)
class InputFormat:
    """What the network's input looks like.

    Attributes:
        rule: at which scale a picture enters, and on which canvas: scaled by one factor into its
            top left corner (or stretched), the rest padded.
        mean, std: three numbers each in 0..255 units, in the order of the channels that enter the
            network.
        channel_order: "rgb" or "bgr", the order of the channels that enter the network.
        pad_before_normalize: True: padding is a black pixel and normalised like one. False: padding
            is 0.
    """

    rule: ResizeRule
    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    std: tuple[float, ...] = (58.395, 57.12, 57.375)
    channel_order: str = "rgb"
    pad_before_normalize: bool = False
    # (3, 256) float32: value of an 8-bit pixel in each channel that enters the network
    table: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        mean, std = (np.array(v, np.float64).reshape(3, 1) for v in (self.mean, self.std))
        table = (np.arange(256)[None] - mean) / std
        object.__setattr__(self, "table", table.astype(np.float32))

    @classmethod
    def from_config(cls, config: InputSettings) -> "InputFormat":
        """Take the format from the configuration.

        Args:
            config: its keys of the size and of the values of the network's input.
        """
        return cls(
            rule=ResizeRule.from_config(config),
            mean=tuple(float(v) for v in config.pixel_mean),
            std=tuple(float(v) for v in config.pixel_std),
            channel_order=config.channel_order,
            pad_before_normalize=bool(config.pad_before_normalize),
        )


def resize_image(rgb: np.ndarray, size: Size, like: str = OPENCV) -> tuple[np.ndarray, np.ndarray]:
    """Resize an image, bilinear.

    Args:
        rgb: (H, W, 3) uint8.
        size: the height and width that it gets, of `ResizeRule.size_on`.
        like: whose arithmetic, see `resizing.resize`.

    Returns:
        The resized image (h, w, 3), uint8 or float32 of 0..255, and meta (4,) float32: h, w, h/H,
        w/W (network pixels per image pixel; these are the factors that the image was really scaled
        by, after rounding to whole pixels).
    """
    height, width = rgb.shape[:2]
    meta = (*size, size[0] / height, size[1] / width)
    return resize(rgb, size, like), np.array(meta, np.float32)


def normalize_and_pad(rgb: np.ndarray, target: InputFormat, canvas: Size) -> np.ndarray:
    """Bring an image's values into the network's range, and fill the canvas up.

    Args:
        rgb: (h, w, 3) uint8 or float32 of 0..255, at most as large as the canvas.
        target: the values and the order of the channels.
        canvas: height and width of the network's input.

    Returns:
        (3, H, W) float32 network input.
    """
    height, width = rgb.shape[:2]
    result = np.empty((3, *canvas), np.float32)
    if (height, width) != canvas:
        padding = target.table[:, 0] if target.pad_before_normalize else np.zeros(3, np.float32)
        result[:, height:] = padding[:, None, None]
        result[:, :height, width:] = padding[:, None, None]
    planes = cv2.split(rgb if target.channel_order == "rgb" else rgb[..., ::-1])
    for channel, plane in enumerate(planes):
        part = result[channel, :height, :width]
        if plane.dtype == np.uint8:
            part[:] = cv2.LUT(plane, target.table[channel])
        else:
            np.subtract(plane, np.float32(target.mean[channel]), out=part)
            part /= np.float32(target.std[channel])
    return result


def preprocess_image(
    rgb: np.ndarray,
    config: InputSettings | InputFormat,
    canvas: int | None = None,
    *,
    mirrored: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """An image as evaluation and prediction feed it to the network.

    Args:
        rgb: (H, W, 3) uint8.
        config: the configuration, or an `InputFormat`.
        canvas: number of the canvas; None: the one that the rule chooses.
        mirrored: left to right.

    Returns:
        image (3, H, W) float32 of the canvas' size; meta (4,) float32: valid height and width in
        network pixels, then the vertical and horizontal scale (network pixels per image pixel).
    """
    target = config if isinstance(config, InputFormat) else InputFormat.from_config(config)
    if canvas is None:
        canvas = target.rule.canvas_of(*rgb.shape[:2])
    size = target.rule.size_on(canvas, *rgb.shape[:2])
    resized, meta = resize_image(rgb, size, target.rule.like)
    if mirrored:
        resized = resized[:, ::-1]
    return normalize_and_pad(resized, target, target.rule.canvases[canvas]), meta


# --------------------------------------------------------------------------- boxes


def scale_boxes(boxes: np.ndarray, scale_h: float, scale_w: float) -> np.ndarray:
    """Multiply boxes by their image's scale.

    Args:
        boxes: (N, 4) float32 xyxy in image pixels.
        scale_h, scale_w: network pixels per image pixel, vertically and horizontally.

    Returns:
        (N, 4) float32 xyxy in network pixels.
    """
    return boxes * np.array([scale_w, scale_h, scale_w, scale_h], np.float32)


def clip_boxes(
    boxes: np.ndarray, height: float, width: float, convention: str
) -> tuple[np.ndarray, np.ndarray]:
    """Clip (N, 4) xyxy boxes to an image.

    The last coordinate is `width` in the modern convention (x2 is an edge) and `width - 1` in the
    legacy one (x2 is the last pixel).

    Args:
        boxes: (N, 4) xyxy in the image's pixels.
        height, width: of the image, pixels.
        convention: "legacy" or "modern".

    Returns:
        Clipped boxes, and keep (N,) bool: False for those that are thinner than a hundredth of a
        pixel.
    """
    last = 1.0 if convention == LEGACY else 0.0
    limits = np.array([width - last, height - last] * 2, np.float32)
    clipped = np.clip(boxes, 0, limits).astype(np.float32)
    sides = clipped[:, 2:] - clipped[:, :2] + last
    return clipped, (sides > _THINNEST_BOX).all(axis=1)


def flip_boxes(boxes: np.ndarray, width: float, convention: str) -> np.ndarray:
    """Mirror (N, 4) xyxy boxes left to right in an image of `width`; twice gives them back.

    Modern: x1' = width - x2. Legacy, where x2 is the last pixel: x1' = width - 1 - x2.

    Args:
        boxes: (N, 4) xyxy in the image's pixels; left as they are.
        width: of the image, pixels.
        convention: "legacy" or "modern".
    """
    edge = width - 1 if convention == LEGACY else width
    flipped = boxes.copy()
    flipped[:, 0] = edge - boxes[:, 2]
    flipped[:, 2] = edge - boxes[:, 0]
    return flipped


# --------------------------------------------------------------------------- augmentation


def expand_image(
    rgb: np.ndarray, ratio: float, top: int, left: int, fill: Sequence[float]
) -> np.ndarray:
    """Put an image on a larger canvas, filled with one colour.

    Args:
        rgb: (H, W, 3) uint8.
        ratio: the canvas' height and width are H and W times this, rounded down.
        top, left: where on the canvas the image starts, pixels.
        fill: red, green and blue of the canvas, 0..255.

    Returns:
        The canvas, (H * ratio, W * ratio, 3) uint8.
    """
    height, width = rgb.shape[:2]
    canvas = np.empty((int(height * ratio), int(width * ratio), 3), np.uint8)
    canvas[:] = np.clip(np.round(np.asarray(fill, np.float64)), 0, 255).astype(np.uint8)
    canvas[top : top + height, left : left + width] = rgb
    return canvas


def distort_colours(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random brightness, contrast, saturation and hue, each applied with probability one half.

    Brightness +-32, contrast and saturation x0.5..1.5, hue +-18 degrees; contrast comes before or
    after the colour changes by a coin. Always draws the same number of random values.

    Args:
        rgb: (H, W, 3) uint8.
        rng: gives the random values.

    Returns:
        (H, W, 3) uint8, rounded once at the end.
    """
    use = rng.random(4) < 0.5
    contrast_first = rng.random() < 0.5
    brightness, hue = rng.uniform(-32.0, 32.0), rng.uniform(-18.0, 18.0)
    contrast, saturation = rng.uniform(0.5, 1.5, 2)

    def distorted(part: np.ndarray) -> np.ndarray:
        image: np.ndarray = part.astype(np.float32)
        if use[0]:
            image += np.float32(brightness)
        if use[1] and contrast_first:
            image *= np.float32(contrast)
        if use[2] or use[3]:
            # hue 0..360, saturation 0..1
            hsv = cv2.cvtColor(np.clip(image, 0, 255), cv2.COLOR_RGB2HSV)
            if use[2]:
                hsv[..., 1] = np.clip(hsv[..., 1] * np.float32(saturation), 0, 1)
            if use[3]:
                hsv[..., 0] = (hsv[..., 0] + np.float32(hue)) % 360
            image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
        if use[1] and not contrast_first:
            image *= np.float32(contrast)
        return np.clip(np.rint(image), 0, 255).astype(np.uint8)

    parts = [distorted(rgb[rows]) for rows in row_strips(rgb)]  # as floats, it takes much memory
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
