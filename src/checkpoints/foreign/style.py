# SPDX-License-Identifier: Apache-2.0
"""Which ImageNet weights a detector started from: what its pixels and its strides have to be."""

import re
from typing import Any

import numpy as np

from ...FasterRcnn.names import BACKBONES, CAFFE_STYLE, TORCH_STYLE
from ..families import CAFFE2_PIXELS, PIXELS, Settings
from .conversion import ConversionOptions, ParameterPool

# Caffe's BatchNorm was folded into scale and shift: the statistics are 0 and 1 (or 1 - eps).
_FOLDED_TOLERANCE = 1e-4
_ONE = 1.5  # a standard deviation below this is no deviation of 0..255 values


def choose_style(
    pool: ParameterPool,
    options: ConversionOptions,
    stored: Settings,
    *,
    stored_style: str | None = None,
) -> tuple[str, str]:
    """Tell Caffe's weights (BGR, std 1, stride in the 1x1) from torchvision's.

    Args:
        pool: the file's parameters; none is taken.
        options: has the style that the user has given, if any.
        stored: what the file itself says of the pixels.
        stored_style: the style by its name, where the file has it.

    Returns:
        the style (`names.TORCH_STYLE`, `CAFFE_STYLE`), and how it is known.
    """
    if options.style:
        return options.style, "given with --style"
    if stored_style:
        return stored_style, "by the configuration in the file"
    if "pixel_std" in stored:
        style = CAFFE_STYLE if max(stored["pixel_std"]) < _ONE else TORCH_STYLE
        return style, f"by the file's pixel_std {stored['pixel_std']}"
    if _is_folded(pool):
        return CAFFE_STYLE, "by its BatchNorm statistics, which are folded into scale and shift"
    return TORCH_STYLE, "by its BatchNorm statistics, which are real ones; else give --style caffe"


def pixel_settings(style: str, stored: Settings, backbone: str) -> Settings:
    """Return pixel_mean, pixel_std and channel_order: the file's own, else the style's.

    The blue mean of photographs is lower than the red one, which tells the order of channels.

    Args:
        style: `names.TORCH_STYLE` or `CAFFE_STYLE`.
        stored: what the file itself says of the pixels.
        backbone: a key of `names.BACKBONES`.
    """
    is_caffe2 = style == CAFFE_STYLE and BACKBONES[backbone].groups > 1
    settings = {**(CAFFE2_PIXELS if is_caffe2 else PIXELS[style]), **stored}
    mean = stored.get("pixel_mean")
    if mean and "channel_order" not in stored and mean[0] != mean[2]:
        settings["channel_order"] = "bgr" if mean[0] < mean[2] else "rgb"
    return settings


def _is_folded(pool: ParameterPool) -> bool:
    for ours in ("bn1", "layer2.0.bn1", "layer3.0.bn2", "layer4.0.bn2"):
        mean = pool.look(f"backbone.{ours}.moving_mean")
        variance = pool.look(f"backbone.{ours}.moving_variance")
        if np.abs(mean).max() > _FOLDED_TOLERANCE:
            return False
        if np.abs(variance - 1).max() > _FOLDED_TOLERANCE:
            return False
    return True


def read_config_text(text: Any) -> tuple[str | None, Settings]:
    """Return the style and the pixel settings in the text of an mmdetection configuration.

    Args:
        text: Python source; anything but a text counts as empty.
    """
    text = text if isinstance(text, str) else ""
    style = re.search(r"style\W{1,4}(pytorch|caffe)\b", text)
    settings: Settings = {}
    for key, name in (("pixel_mean", "mean"), ("pixel_std", "std")):
        found = re.search(rf"\b{name}\W{{1,4}}\[([\d.,\s]+)\]", text)
        numbers = found[1].replace(",", " ").split() if found else []
        if len(numbers) == 3:
            settings[key] = [float(number) for number in numbers]
    order = re.search(r"\b(?:bgr_)?to_rgb\W{1,4}(True|False)", text)
    if order and len(settings) == 2:
        settings["channel_order"] = "rgb" if order[1] == "True" else "bgr"
    return {"pytorch": TORCH_STYLE, "caffe": CAFFE_STYLE}.get(style[1] if style else ""), settings
