# SPDX-License-Identifier: Apache-2.0
"""The parts of the network that MindSpore's own exporter writes: convolutions and dense layers.

What it writes is for one batch; here it becomes free of that, and what depends on nothing but
weights is computed.
"""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count

import mindspore as ms
import numpy as np
import onnx
from mindspore import Tensor, nn, ops
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ...base.files import working_folder
from ...FasterRcnn.faster_rcnn_resnet import FasterRcnn
from .builder import OPSET

# Sizes of the batch and of the RoIs while it writes: no other axis has them.
_BATCH, _ROIS = 3, 5
# Which input of an operator has the sizes, and what stands for the whole batch there.
_OF_BATCH = {"Reshape": (1, 0), "Expand": (1, 1), "Slice": (2, 2**31 - 1)}


class FeatureExtractor(nn.Cell):
    """Image to the maps that RoIs are pooled from, and to the RPN's logits and deltas.

    Args:
        network: shares its parameters.
    """

    def __init__(self, network: FasterRcnn) -> None:
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, image: Tensor, image_meta: Tensor) -> tuple[Tensor, ...]:
        """Return the maps, then the logits, then the deltas of all levels, float32.

        Args:
            image, image_meta: see `FasterRcnn.construct`.
        """
        features, logits, deltas = self.network.extract(image, image_meta)
        maps: tuple[Tensor, ...] = ()
        for feature in features[: self.network.num_roi_levels]:
            maps += (ops.cast(feature, ms.float32),)
        return maps + logits + deltas


class BoxHead(nn.Cell):
    """Pooled features to class logits and deltas.

    Args:
        network: shares its parameters.
    """

    def __init__(self, network: FasterRcnn) -> None:
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, roi_features: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `Rcnn.construct` does.

        Args:
            roi_features: (N, C, size, size) float32.
        """
        return self.network.rcnn(roi_features, None)


def write_extractor(network: FasterRcnn, canvas: tuple[int, int]) -> onnx.ModelProto:
    """Return `FeatureExtractor` as an ONNX model of any batch.

    Args:
        network: with its weights.
        canvas: height and width of the input.
    """
    inputs = np.zeros((_BATCH, 3, *canvas), np.float32), np.ones((_BATCH, 4), np.float32)
    return _free_of_batch(_written(FeatureExtractor(network), *inputs), _BATCH)


def write_head(network: FasterRcnn) -> onnx.ModelProto:
    """Return `BoxHead` as an ONNX model of any number of RoIs.

    Args:
        network: with its weights.
    """
    size = network.roi_align.form.out_size
    channels = network.rcnn.shared_fc_0.weight.shape[0] // size**2
    features = np.zeros((_ROIS, channels, size, size), np.float32)
    return _free_of_batch(_written(BoxHead(network), features), _ROIS)


def _written(cell: nn.Cell, *inputs: np.ndarray) -> onnx.ModelProto:
    cell.set_train(False)
    with tempfile.TemporaryDirectory() as folder, working_folder(folder):
        ms.export(cell, *map(Tensor, inputs), file_name="part", file_format="ONNX")
        model = onnx.load("part.onnx")
    return model


def _free_of_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    model = onnx.version_converter.convert_version(model, OPSET)
    _use_concat(model.graph)
    _fold(model.graph)
    _fold_norms(model.graph)
    _own_biases(model.graph)
    _use_resize(model.graph)
    _use_pool_padding(model.graph)
    _use_padding(model.graph)
    constants = _constants(model.graph)
    for node in model.graph.node:
        if node.op_type in _OF_BATCH:
            place, instead = _OF_BATCH[node.op_type]
            sizes = constants[node.input[place]].copy()
            if sizes[0] == batch and _begins_with_batch(node, constants):
                sizes[0] = instead
                node.input[place] = _added(model.graph, sizes)
    return model


def _use_concat(graph: onnx.GraphProto) -> None:
    """Stack tensors without the sequence that MindSpore makes of them, in place: few runtimes know
    sequences."""
    makers = {output: node for node in graph.node for output in node.output}
    nodes = []
    for node in graph.node:
        if node.op_type == "ConcatFromSequence":
            axis = next(a.i for a in node.attribute if a.name == "axis")
            axes, parts = _added(graph, np.array([axis])), []
            for number, part in enumerate(makers[node.input[0]].input):
                parts.append(f"{node.output[0]}_{number}")
                nodes.append(helper.make_node("Unsqueeze", [part, axes], parts[-1:]))
            node = helper.make_node("Concat", parts, list(node.output), axis=axis)
        nodes.append(node)
    _replace_nodes(graph, nodes)


def _fold_norms(graph: onnx.GraphProto) -> None:
    """Put BatchNorm into the convolution before it, in place: quantisers leave it in float32."""
    constants = _constants(graph)
    makers = {output: node for node in graph.node for output in node.output}
    uses = Counter(name for node in graph.node for name in node.input)
    nodes = []
    for node in graph.node:
        conv = makers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if conv is None or conv.op_type != "Conv" or uses[node.input[0]] > 1:
            nodes.append(node)
            continue
        name = conv.input[1]
        scale, shift, mean, variance = (constants[own].astype(np.float64) for own in node.input[1:])
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1.0e-5)
        factor = scale / np.sqrt(variance + epsilon)
        bias = shift - mean * factor
        if len(conv.input) > 2:
            bias += constants[conv.input[2]] * factor
        weight = constants[name] * factor.reshape(-1, 1, 1, 1)
        conv.input[1:] = [
            _replaced(graph, name, weight, uses),
            _replaced(graph, name.removesuffix(".weight") + ".bias", bias, uses),
        ]
        conv.output[:] = node.output
    _replace_nodes(graph, nodes)


def _own_biases(graph: onnx.GraphProto) -> None:
    """Give every convolution a bias of its own, in place: OpenVINO computes one that several share
    apart from them, and what follows it too."""
    constants = _constants(graph)
    taken: set[str] = set()
    for node in graph.node:
        if node.op_type == "Conv" and len(node.input) > 2:
            name = node.input[2]
            if name in taken:
                node.input[2] = _added(graph, constants[name])
            taken.add(name)


def _replaced(
    graph: onnx.GraphProto, name: str, values: np.ndarray, uses: Mapping[str, int]
) -> str:
    """Store a parameter under its name; returns that, or a new one where others read it too."""
    if uses.get(name, 0) > 1:
        return _added(graph, values.astype(np.float32))
    for tensor in [tensor for tensor in graph.initializer if tensor.name == name]:
        graph.initializer.remove(tensor)
    graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    return name


def _use_resize(graph: onnx.GraphProto) -> None:
    """Double maps by `Resize`, in place: runtimes have no fast layout for the six axes of the
    broadcast that MindSpore writes."""
    constants = _constants(graph)
    makers = {output: node for node in graph.node for output in node.output}
    scales = _added(graph, np.array([1, 1, 2, 2], np.float32))
    nodes = []
    for node in graph.node:
        expand = makers.get(node.input[0]) if node.op_type == "Reshape" else None
        if expand is not None and expand.op_type == "Expand":
            shape, maps = constants[expand.input[1]], makers[expand.input[0]].input[0]
            if len(shape) == 6 and shape[3] == shape[5] == 2:
                node = helper.make_node(
                    "Resize",
                    [maps, "", scales],
                    list(node.output),
                    mode="nearest",
                    coordinate_transformation_mode="asymmetric",
                    nearest_mode="floor",
                )
        nodes.append(node)
    _replace_nodes(graph, nodes)


def _use_pool_padding(graph: onnx.GraphProto) -> None:
    """Let poolings pad by themselves where zeros are put above and left of what they read, in
    place. (It is never negative.)"""
    constants = _constants(graph)
    makers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type != "MaxPool":
            continue
        before, source = [0, 0], node.input[0]
        maker = makers.get(source)
        while maker is not None and maker.op_type == "Concat" and maker.input[0] in constants:
            zeros = constants[maker.input[0]]
            axis = maker.attribute[0].i
            if zeros.any():
                break
            before[axis - 2] += zeros.shape[axis]
            source = maker.input[1]
            maker = makers.get(source)
        node.input[0] = source
        kept = [a for a in node.attribute if a.name not in ("auto_pad", "pads")]
        is_subsampling = any(a.name == "kernel_shape" and set(a.ints) == {1} for a in kept)
        if any(before) or is_subsampling:  # of which some runtimes compute a padding below 0
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("pads", [*before, 0, 0])])
    _replace_nodes(graph, list(graph.node))


def _use_padding(graph: onnx.GraphProto) -> None:
    """Pad by zeros where a batch of them is put before a map, in place."""
    constants = _constants(graph)
    for node in graph.node:
        if node.op_type != "Concat" or len(node.input) != 2 or node.input[0] not in constants:
            continue
        zeros, axis = constants[node.input[0]], node.attribute[0].i
        if not zeros.any():
            pads = np.zeros(2 * zeros.ndim, np.int64)
            pads[axis] = zeros.shape[axis]
            node.op_type = "Pad"
            node.input[:] = [node.input[1], _added(graph, pads)]
            del node.attribute[:]


def _replace_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Put nodes in the place of a graph's, without those that nothing comes of."""
    used = {output.name for output in graph.output}
    left = []
    for node in reversed(nodes):
        if used.intersection(node.output):
            left.append(node)
            used.update(node.input)
    del graph.node[:]
    graph.node.extend(reversed(left))


def _begins_with_batch(node: onnx.NodeProto, constants: Mapping[str, np.ndarray]) -> bool:
    """Whether the first of a node's sizes is that of the first axis; a slice may be of others."""
    has_axes = node.op_type == "Slice" and len(node.input) > 3
    return not has_axes or constants[node.input[3]][0] == 0


def _constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _added(graph: onnx.GraphProto, values: np.ndarray) -> str:
    taken = {tensor.name for tensor in graph.initializer}
    name = next(n for n in map("shape_{}".format, count(len(taken))) if n not in taken)
    graph.initializer.append(numpy_helper.from_array(values, name))
    return name


def _fold(graph: onnx.GraphProto) -> None:
    """Compute what depends on nothing but weights, in place.

    A weight that comes of one keeps its name.
    """
    known = _constants(graph)
    names: dict[str, str] = {}
    left = []
    for node in graph.node:
        if not all(name in known for name in node.input if name):
            left.append(node)
            continue
        results = ReferenceEvaluator(node).run(None, {name: known[name] for name in node.input})
        for output, result in zip(node.output, results, strict=True):
            known[output] = np.asarray(result)
            weight = next((names.get(name, name) for name in node.input), "")
            names[output] = weight if weight.endswith(".weight") else output
    used = {name for node in left for name in node.input} | {o.name for o in graph.output}
    del graph.initializer[:]
    taken: dict[str, str] = {}
    for name in sorted(known.keys() & used):
        own = names.get(name, name)
        if own in taken or own in known.keys() & used - {name}:
            own = name
        taken[own] = name
        graph.initializer.append(numpy_helper.from_array(known[name], own))
    renamed = {name: own for own, name in taken.items()}
    for node in left:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    _replace_nodes(graph, left)
