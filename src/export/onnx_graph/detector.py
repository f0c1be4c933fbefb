# SPDX-License-Identifier: Apache-2.0
"""The whole detector as an ONNX model."""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from ...FasterRcnn.faster_rcnn_resnet import FasterRcnn
from ...images.geometry import Size
from ...images.ops import InputFormat
from .boxes import xy_limit
from .builder import GraphBuilder
from .detections import Candidates, find_candidates, select
from .own_canvas import border_repeated, own_size
from .picture import normalised
from .pooling import in_order, pool
from .proposals import AnchorGrids, propose
from .trunk import write_extractor, write_head

_LEVELS = 5


@dataclass(frozen=True, slots=True)
class _Features:
    """What the convolutions give: tensors of each level."""

    maps: list[str]
    logits: list[str]
    deltas: list[str]


def detector_model(
    network: FasterRcnn,
    canvas: Size,
    batch: int | str,
    *,
    picture: InputFormat | None = None,
    nms: bool = True,
) -> onnx.ModelProto:
    """Return the detector as an ONNX model.

    Args:
        network: with its weights.
        canvas: height and width of the input.
        batch: images at once; a name: any number.
        picture: takes (B, H, W, 3) uint8 RGB and makes the network's input of it; None: takes that.
        nms: False ends before suppression: boxes (B, R, C, 4) in pixels of the original image, and
            scores (B, R, C), 0 where they are none.
    """
    graph = GraphBuilder()
    image = "image"
    inputs = [_tensor("image", TensorProto.FLOAT, batch, 3, *canvas)]
    if picture is not None:
        graph.scope("picture")
        image = normalised(graph, image, "image_meta", picture, canvas)
        inputs = [_tensor("image", TensorProto.UINT8, batch, *canvas, 3)]
    inputs.append(_tensor("image_meta", TensorProto.FLOAT, batch, 4))
    candidates = _candidates(graph, network, image, canvas)
    scale = graph.op("Gather", "image_meta", [3, 2, 3, 2], axis=1)
    if not nms:
        boxes = graph.op("Transpose", candidates.boxes, perm=[0, 2, 1, 3])
        boxes = graph.op("Div", boxes, graph.op("Unsqueeze", scale, [1, 2]))
        scores = graph.op("Transpose", candidates.scores, perm=[0, 2, 1])
        sizes = candidates.num_rois, candidates.num_classes
        outputs = {
            boxes: _tensor("boxes", TensorProto.FLOAT, batch, *sizes, 4),
            scores: _tensor("scores", TensorProto.FLOAT, batch, *sizes),
        }
        return graph.model(inputs, outputs)
    return graph.model(inputs, _selected(graph, network, candidates, batch, scale))


def selection_model(network: FasterRcnn, num_rois: int) -> onnx.ModelProto:
    """Return what `detector_model` lacks without NMS, as a model of its own.

    Args:
        network: gives the settings.
        num_rois: R.
    """
    graph, sizes = GraphBuilder(), (num_rois, network.rcnn.num_classes - 1)
    candidates = Candidates(
        graph.op("Transpose", "all_boxes", perm=[0, 2, 1, 3]),
        graph.op("Transpose", "all_scores", perm=[0, 2, 1]),
        sizes[1],
        sizes[0],
    )
    inputs = [
        _tensor("all_boxes", TensorProto.FLOAT, "batch", *sizes, 4),
        _tensor("all_scores", TensorProto.FLOAT, "batch", *sizes),
    ]
    return graph.model(inputs, _selected(graph, network, candidates, "batch", None))


def _selected(
    graph: GraphBuilder,
    network: FasterRcnn,
    candidates: Candidates,
    batch: int | str,
    scale: str | None,
) -> dict[str, onnx.ValueInfoProto]:
    graph.scope("detections")
    boxes, scores, labels, valid, most = select(graph, network.detections, candidates)
    if scale is not None:
        boxes = graph.op("Div", boxes, graph.op("Unsqueeze", scale, [1]))
    return {
        boxes: _tensor("boxes", TensorProto.FLOAT, batch, most, 4),
        scores: _tensor("scores", TensorProto.FLOAT, batch, most),
        labels: _tensor("labels", TensorProto.INT32, batch, most),
        valid: _tensor("valid", TensorProto.BOOL, batch, most),
    }


def _candidates(graph: GraphBuilder, network: FasterRcnn, image: str, canvas: Size) -> Candidates:
    """Return all that can be a detection, from image to class scores and boxes."""
    features = _features(graph, network, image, canvas)
    graph.scope("proposals")
    limit = _limit(graph, network, canvas)
    anchors = AnchorGrids.of(network.anchors, canvas)
    rois, valid, num_rois = propose(
        graph, network.proposals, features.logits, features.deltas, anchors, limit
    )
    graph.scope("pooling")
    maps = features.maps
    if network.tight:
        own = own_size(graph, graph.op("Slice", "image_meta", [0], [2], [1]))
        maps = [
            border_repeated(graph, feature, own, anchors.strides[level], anchors.shapes[level])
            for level, feature in enumerate(maps)
        ]
    pooled = pool(graph, network.roi_align.form, maps, rois)
    graph.scope("head")
    head = write_head(network)
    logits, deltas = graph.inline(head, {head.graph.input[0].name: pooled.features})
    num_classes = network.rcnn.num_classes - 1
    num_logits = network.rcnn.cls_scores.bias.shape[0]
    graph.scope("candidates")
    return find_candidates(
        graph,
        network.detections,
        in_order(graph, pooled.places, logits, rois, [num_logits]),
        in_order(graph, pooled.places, deltas, rois, [num_classes, 4]),
        graph.op("ScatterND", rois, pooled.places, pooled.rois),
        valid,
        limit,
        (num_classes, num_rois),
    )


def _features(graph: GraphBuilder, network: FasterRcnn, image: str, canvas: Size) -> _Features:
    graph.scope("features")
    extractor = write_extractor(network, canvas)
    names = [tensor.name for tensor in extractor.graph.input]
    given = {name: image if name == "image" else name for name in names}
    outputs = graph.inline(extractor, given)
    first, second = len(outputs) - 2 * _LEVELS, len(outputs) - _LEVELS
    return _Features(outputs[:first], outputs[first:second], outputs[second:])


def _limit(graph: GraphBuilder, network: FasterRcnn, canvas: Size) -> str:
    """Return width and height that boxes are clipped to, as `FasterRcnn.clip_bounds`."""
    sizes = graph.op("Slice", "image_meta", [0], [2], [1])
    if network.clip_to_canvas and network.tight:
        sizes = own_size(graph, sizes)
    elif network.clip_to_canvas:
        zeros = graph.op("Mul", sizes, 0.0)
        sizes = graph.op("Add", zeros, np.array([canvas], np.float32))
    return xy_limit(graph, sizes)


def _tensor(name: str, dtype: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)
