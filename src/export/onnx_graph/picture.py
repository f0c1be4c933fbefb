# SPDX-License-Identifier: Apache-2.0
"""From 8-bit pixels to the network's input in an ONNX graph: what `images.ops` does on a canvas."""

import numpy as np

from ...images.ops import InputFormat
from .boxes import as_float
from .builder import GraphBuilder
from .own_canvas import area_mask


def normalised(
    graph: GraphBuilder, pixels: str, image_meta: str, target: InputFormat, canvas: tuple[int, int]
) -> str:
    """Return the network's input (B, 3, H, W) float32.

    Args:
        graph: that all is in.
        pixels: (B, H, W, 3) uint8 RGB; what is not in the valid area does not matter.
        image_meta: (B, 4) float32, which begins with height and width of the valid area.
        target: values, order of the channels and kind of padding.
        canvas: H and W.
    """
    values = as_float(graph, pixels)
    if target.channel_order == "bgr":
        values = graph.op("Gather", values, [2, 1, 0], axis=3)
    values = graph.op("Transpose", values, perm=[0, 3, 1, 2])
    valid = area_mask(graph, image_meta, canvas)
    if target.pad_before_normalize:
        values = graph.op("Mul", values, valid)
    mean, std = (
        np.array(numbers, np.float32).reshape(1, 3, 1, 1) for numbers in (target.mean, target.std)
    )
    values = graph.op("Div", graph.op("Sub", values, mean), std)
    return values if target.pad_before_normalize else graph.op("Mul", values, valid)
