# SPDX-License-Identifier: Apache-2.0
"""The anchors at one cell of a pyramid level, in NumPy alone: checks of data need no MindSpore."""

from collections.abc import Sequence

import numpy as np


def base_anchors(
    stride: int, scales: Sequence[float], ratios: Sequence[float], offset: float, rounded: bool
) -> np.ndarray:
    """Return (len(ratios) * len(scales), 4) float32 xyxy of the cell at the origin, ratio by ratio.

    Args:
        stride: of the level, network-input pixels.
        scales, ratios, offset, rounded: see `anchor_generator.AnchorGenerator`.
    """
    root = np.sqrt(np.asarray(ratios, np.float64))
    scale = np.asarray(scales, np.float64)
    widths = (stride / root[:, None] * scale[None, :]).reshape(-1)
    heights = (stride * root[:, None] * scale[None, :]).reshape(-1)
    centre = 0.5 * (stride - 1) if offset else 0.0
    half_w, half_h = 0.5 * (widths - offset), 0.5 * (heights - offset)
    anchors = np.stack([centre - half_w, centre - half_h, centre + half_w, centre + half_h], -1)
    return (np.round(anchors) if rounded else anchors).astype(np.float32)
