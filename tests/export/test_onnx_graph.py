# SPDX-License-Identifier: Apache-2.0
"""The detector as an ONNX graph: its operators, its shapes, and what it finds."""

import numpy as np
import pytest
from mindspore import Tensor

from src.export.exported_model import compare, open_onnx
from src.runtimes.openvino_runtime import OpenVinoSession
from tests.helpers.network_helpers import (
    detector_of_few_blocks,
    fill_by_recipe,
    small_batch,
    small_config,
)
from tests.helpers.onnx_operators import EVERYWHERE

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

CANVAS, CLASSES = (64, 96), 3
ADAPTIVE = {"type": "RoIAlign", "out_size": 7, "sample_num": 0}
# Few channels: what is tested does not depend on them.
SMALL = {
    "backbone": "resnet_v1.5_18",
    "cpu_kernels": "off",
    "fpn_out_channels": 32,
    "rpn_feat_channels": 32,
    "rcnn_fc_out_channels": 64,
}
# Together they have every branch of what writes the graph.
FORMS = {
    "model_zoo": {"clip_to_canvas": True},
    "torchvision": {"box_convention": "modern", "unused_outputs": 3, "backbone": "resnet_v1_50"},
    "detectron2": {
        "box_convention": "modern",
        "padding": "canvas",
        "roi_align_aligned": True,
        "roi_layer": ADAPTIVE,
        "rcnn_class_agnostic": True,
        "test_nms": "agnostic",
        "test_pre_nms_num": 0,
        "rpn_min_bbox_min_size": 2,
        "fpn_norm": "gn",
        "rcnn_head": {"convs": 2, "dense": 1, "norm": "gn"},
    },
    "others": {
        "box_convention": "modern",
        "clip_to_canvas": True,
        "test_nms_kind": "soft_gaussian",
        "test_pre_nms_num": 30,
        "fpn_upsample": "bilinear",
        "norm": "bn",
    },
}


@pytest.fixture(scope="module", params=FORMS)
def written(request, tmp_path_factory):
    """A network, its graph of any batch, and the file."""
    from src.export.onnx_graph.detector import detector_model

    changes = {**SMALL, "test_max_per_img": 12, **FORMS[request.param]}
    network = detector_of_few_blocks(small_config(*CANVAS, CLASSES, **changes))
    fill_by_recipe(network)
    network.set_train(False)
    model = detector_model(network, CANVAS, "batch")
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    onnx.save(model, path)
    return network, model, path


def _shape(value):
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _same(expected, found):
    """Whether two models agree but for a choice among scores that tie, which these weights give."""
    result = compare(expected, found)
    return result.count > 5 and result.unmatched <= 0.1 * result.count


def test_operators_that_every_runtime_has(written):
    _, model, _ = written
    assert {node.op_type for node in model.graph.node} <= EVERYWHERE
    assert not any(attribute.HasField("g") for n in model.graph.node for attribute in n.attribute)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 16)]
    # Quantisers leave it in float32 between 8-bit layers.
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)
    most = [node for node in model.graph.node if node.op_type == "NonMaxSuppression"]
    constants = {tensor.name for tensor in model.graph.initializer}
    assert most and all(set(node.input[2:]) <= constants for node in most)  # TensorRT wants it


def test_what_keeps_openvino_slow_is_not_there(written):
    """Written maps lose the layout that RoIAlign is fast in; shared biases are not fused."""
    _, model, _ = written
    makers = {output: node.op_type for node in model.graph.node for output in node.output}
    pooled = [n.input[0] for n in model.graph.node if n.op_type == "RoiAlign"]
    assert pooled and not {makers[name] for name in pooled} & {"ScatterElements", "ScatterND"}
    biases = [n.input[2] for n in model.graph.node if n.op_type == "Conv" and len(n.input) > 2]
    assert biases and len(set(biases)) == len(biases)


def test_the_checker_and_strict_shape_inference_are_content(written):
    _, model, _ = written
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(
        model, check_type=True, strict_mode=True, data_prop=True
    )
    assert [(i.name, _shape(i)) for i in inferred.graph.input] == [
        ("image", ["batch", 3, *CANVAS]),
        ("image_meta", ["batch", 4]),
    ]
    assert [(o.name, _shape(o)) for o in inferred.graph.output] == [
        ("boxes", ["batch", 12, 4]),
        ("scores", ["batch", 12]),
        ("labels", ["batch", 12]),
        ("valid", ["batch", 12]),
    ]


def test_indices_are_integers(written):
    """What a runtime computes in fewer bits decides on no place in a table."""
    _, model, _ = written
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    integers = {onnx.TensorProto.INT32, onnx.TensorProto.INT64}
    dtypes = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    dtypes.update({tensor.name: tensor.data_type for tensor in inferred.graph.initializer})
    places = {"Gather": 1, "GatherND": 1, "ScatterND": 1, "ScatterElements": 1, "RoiAlign": 2}
    found = [n for n in model.graph.node if n.op_type in places]
    assert found and all(dtypes[n.input[places[n.op_type]]] in integers for n in found)


def test_any_batch_finds_what_the_network_does(written):
    network, _, path = written
    image, meta = small_batch(*CANVAS, CLASSES, images=(0, 1, 2, 3))[:2]
    expected = [output.asnumpy() for output in network(Tensor(image), Tensor(meta))]
    run, inputs, outputs = open_onnx(path, 1)
    assert inputs == ["image", "image_meta"] and outputs == ["boxes", "scores", "labels", "valid"]
    for part in (slice(0, 4), slice(1, 2)):
        assert _same([output[part] for output in expected], run(image[part], meta[part]))
        dtypes = [output.dtype for output in run(image[part], meta[part])]
        assert dtypes == [np.float32, np.float32, np.int32, bool]


def test_openvino_finds_what_the_network_does(written):
    pytest.importorskip("openvino")
    network, _, path = written
    image, meta = small_batch(*CANVAS, CLASSES)[:2]
    expected = [output.asnumpy() for output in network(Tensor(image), Tensor(meta))]
    session = OpenVinoSession(path, "fp32", 1)
    assert [output.name for output in session.outputs] == ["boxes", "scores", "labels", "valid"]
    assert _same(expected, session.run(image, meta))


def test_the_border_of_an_own_canvas_is_repeated_behind_it():
    from src.export.onnx_graph.builder import GraphBuilder
    from src.export.onnx_graph.own_canvas import border_repeated

    graph, float32 = GraphBuilder(), onnx.TensorProto.FLOAT
    found = border_repeated(graph, "map", "own", 8, (6, 9))
    shapes = {"map": ["b", 2, 6, 9], "own": ["b", 2]}
    infos = [onnx.helper.make_tensor_value_info(n, float32, s) for n, s in shapes.items()]
    output = onnx.helper.make_tensor_value_info("found", float32, shapes["map"])
    model = graph.model(infos, {found: output})
    onnx.checker.check_model(model, full_check=True)
    feature = np.random.default_rng(0).normal(size=(3, 2, 6, 9)).astype(np.float32)
    own = np.array([[6, 9], [4, 9], [3, 5]], np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(None, {"map": feature, "own": own * 8})
    for result, source, (rows, columns) in zip(found, feature, own.astype(int), strict=True):
        part = np.pad(source[:, :rows, :columns], ((0, 0), (0, 1), (0, 1)), mode="edge")[:, :6, :9]
        np.testing.assert_array_equal(result[:, : part.shape[1], : part.shape[2]], part)
