# SPDX-License-Identifier: Apache-2.0
"""RoIAlign over a pyramid in an ONNX graph, by the operator on each level's own RoIs.

Runtimes that lower the precision by themselves leave alone what their results come from without a
product of matrices in between. So the RoIs go the same way for both: from where they are pooled,
back into the images' order, into the boxes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from ...FasterRcnn.roi_align import NO_PLACE, RoiAlignForm
from .boxes import as_float, with_offset
from .builder import GraphBuilder

_LEVEL_EPS = 1.0e-6
_FAR = np.array([1.0e6, 0.0, 1.0e6, 0.0], np.float32)


@dataclass(frozen=True, slots=True)
class Pooled:
    """RoIs in the order in which they are pooled.

    Attributes:
        features: (B*R, C, out_size, out_size) float32.
        places: (B*R, 2) int64: image and place in it.
        rois: (B*R, 4) float32 xyxy.
    """

    features: str
    places: str
    rois: str


def pool(graph: GraphBuilder, form: RoiAlignForm, features: Sequence[str], rois: str) -> Pooled:
    """Pool.

    Args:
        graph: that all is in.
        form: gives the settings.
        features: (B, C, H_l, W_l) float32 of each level.
        rois: (B, R, 4) float32 xyxy in network-input pixels.
    """
    level = _level(graph, form, rois)
    pooled, places, own_rois = [], [], []
    number_of_levels = len(features) + bool(form.offset)
    for number in range(number_of_levels):
        own = graph.op("Equal", level, np.array(number, np.int32))
        own = as_float(graph, own)  # TensorRT has no NonZero of bool
        at = graph.op("Transpose", graph.op("NonZero", own), perm=[1, 0])
        level_rois = graph.op("GatherND", rois, at)
        places.append(at)
        feature = features[min(number, len(features) - 1)]
        stride = form.strides[min(number, len(features) - 1)]
        if number == len(features):  # RoIs without a place: they pool zeros
            read = graph.op("Sub", level_rois, _FAR)
            own_rois.append(level_rois)
        else:
            shift = _shift(form, stride)
            read = graph.op("Add", level_rois, shift) if shift.any() else level_rois
            own_rois.append(graph.op("Sub", read, shift) if shift.any() else read)
        image = graph.op("Gather", at, 0, axis=1)
        pooled.append(_operator(graph, form, feature, read, image, stride))
    return Pooled(
        graph.op("Concat", *pooled, axis=0),
        graph.op("Concat", *places, axis=0),
        graph.op("Concat", *own_rois, axis=0),
    )


def in_order(
    graph: GraphBuilder, places: str, values: str, rois: str, length: Sequence[int]
) -> str:
    """Return (B, R, ...): what was computed of pooled RoIs, in the images' order.

    Args:
        graph: that all is in.
        places: of `pool`.
        values: (B*R, ...) float32.
        rois: (B, R, 4), for B and R.
        length: the axes of `values` behind the first.
    """
    sizes = graph.op("Slice", graph.op("Shape", rois), [0], [2])
    sizes = graph.op("Concat", sizes, list(length), axis=0)
    return graph.op("ScatterND", graph.filled(sizes, 0.0), places, values)


def _operator(
    graph: GraphBuilder, form: RoiAlignForm, feature: str, rois: str, image: str, stride: int
) -> str:
    # Unlike the other mode, half_pixel lets a RoI be shorter than a cell.
    shorter = form.aligned or bool(form.offset)
    mode = "half_pixel" if shorter else "output_half_pixel"
    return graph.op(
        "RoiAlign",
        feature,
        rois,
        image,
        coordinate_transformation_mode=mode,
        output_height=form.out_size,
        output_width=form.out_size,
        sampling_ratio=form.sample_num,
        spatial_scale=1.0 / stride,
    )


def _shift(form: RoiAlignForm, stride: int) -> np.ndarray:
    """What the operator must be told of RoIs beyond themselves, (4,) float32 px."""
    half = 0.5 * stride if form.offset and not form.aligned else 0.0
    return np.array([half, half, half + form.offset, half + form.offset], np.float32)


def _level(graph: GraphBuilder, form: RoiAlignForm, rois: str) -> str:
    """Return the level of each RoI (B, R) int32, as `LevelChooser`; behind the last one those that
    are nowhere."""
    start, end = graph.halves(rois)
    sides = with_offset(graph, graph.op("Sub", end, start), form.offset)
    width, height = graph.ops("Split", 2, sides, axis=-1)
    area = graph.op("Squeeze", graph.op("Mul", width, height), [-1])
    scale = graph.op("Div", graph.op("Sqrt", graph.op("Relu", area)), float(form.finest_scale))
    if form.added_inside:
        octave = graph.op("Div", graph.op("Log", graph.op("Add", scale, _LEVEL_EPS)), math.log(2.0))
    else:
        octave = graph.op("Div", graph.op("Log", graph.op("Max", scale, _LEVEL_EPS)), math.log(2.0))
        octave = graph.op("Add", octave, _LEVEL_EPS)
    octave = graph.op("Min", graph.op("Floor", octave), float(len(form.strides) - 1))
    level = graph.op("Cast", graph.op("Max", octave, 0.0), to=TensorProto.INT32)
    if not form.offset:
        return level
    x = graph.op("Abs", graph.op("Gather", rois, [0, 2], axis=-1))
    place = graph.op("ReduceMax", x, axes=[-1], keepdims=0)
    nowhere = graph.op("Less", place, NO_PLACE)
    return graph.op("Where", nowhere, np.array(len(form.strides), np.int32), level)
