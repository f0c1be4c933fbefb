# SPDX-License-Identifier: Apache-2.0
"""`padding: tight`: a picture gives the same on every canvas that holds it, in any company."""

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor, nn, ops

from src import detector
from src.FasterRcnn import own_canvas
from src.FasterRcnn.names import feature_shapes
from src.FasterRcnn.norms import norm_layer
from src.FasterRcnn.roi_align import build_roi_align
from src.FasterRcnn.sampling import BalancedSampler
from tests.helpers.network_helpers import (
    detector_of_few_blocks,
    fill_by_recipe,
    small_config,
    tensors,
)
from tests.helpers.plain_boxes import in_graph
from tests.helpers.stages import LossAndGradients

SIZES = ((50, 70), (96, 33), (64, 64), (31, 90))  # of pictures; 64 x 64 fills its own canvas
CANVAS, LARGER = (96, 96), (128, 160)
# As torchvision's detectors, in the three kinds of blocks, and with all that these do not have.
MODERN = {
    "box_convention": "modern",
    "stem_pool": "symmetric",
    "anchor_filter": "all",
    "anchor_rounding": False,
}
HEADS = {
    **MODERN,
    "fpn_norm": "bn",
    "rpn_conv_depth": 2,
    "rcnn_head": {"convs": 2, "dense": 1, "norm": "bn"},
}
OTHER_HEADS = {
    "fpn_norm": "gn",
    "fpn_upsample": "bilinear",
    "rcnn_head": {"convs": 1, "dense": 2, "norm": "gn"},
    "rcnn_class_agnostic": True,
}
OTHER = {
    "backbone": "resnet_v1_50",
    "norm": "gn",
    "clip_to_canvas": True,
    "anchor_filter": "centred",
    "cpu_kernels": "off",
}
BASIC = {**MODERN, "backbone": "resnet_v1.5_18"}
GROUPED_AND_HEADS = {**HEADS, "backbone": "resnext_50_32x4d"}


def _config(**changes):
    values = {"fpn_out_channels": 32, "rpn_feat_channels": 32, "rcnn_fc_out_channels": 32}
    return small_config(num_classes=3, padding="tight", **{**values, **changes})


def _network(config):
    network = detector_of_few_blocks(config)
    fill_by_recipe(network)
    return network.set_train(False)


def _batch(sizes, height, width, gts=4):
    """Pictures on a canvas, with their boxes, in the columns' order, as NumPy arrays."""
    rows = []
    for valid in sizes:
        rng = np.random.default_rng(valid)
        image = np.zeros((3, height, width), np.float32)
        image[:, : valid[0], : valid[1]] = rng.standard_normal((3, *valid))
        corner = rng.uniform(0, 0.4, (gts, 2)) * valid[::-1]
        side = rng.uniform(0.3, 0.6, (gts, 2)) * valid[::-1]
        boxes = np.concatenate([corner, corner + side], 1).astype(np.float32)
        kinds = np.arange(gts)
        real, crowd = kinds < 2, kinds == 2
        labels = np.where(real, rng.integers(1, 4, gts), 0).astype(np.int32)
        meta = np.float32([*valid, 0.5, 0.8])
        rows.append((image, meta, boxes, labels, real, crowd, np.int32(valid[0])))
    return tuple(np.stack(column) for column in zip(*rows, strict=True))


def _own(size):
    return tuple(-(-length // 32) * 32 for length in size)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{**OTHER, **OTHER_HEADS}, GROUPED_AND_HEADS], ids=["other", "grouped"]
)
def test_detections_do_not_depend_on_the_canvas_and_the_others(changes):
    network = _network(_config(**changes))
    together = [o.asnumpy() for o in network(*tensors(_batch(SIZES, *LARGER)[:2]))]
    alone = network(*tensors(_batch(SIZES[:1], *_own(SIZES[0]))[:2]))
    _same_detections([o[:1] for o in together], [o.asnumpy() for o in alone])


def _same_detections(found, expected):
    boxes, scores, labels, valid = expected
    assert valid.sum() > 5
    np.testing.assert_array_equal(found[3], valid)
    np.testing.assert_array_equal(found[2], labels)
    np.testing.assert_allclose(found[1], scores, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found[0], boxes, rtol=0, atol=1e-2)


@pytest.mark.slow
def test_onnx_knows_the_own_canvas(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    config = _config(**{**MODERN, **OTHER_HEADS, "norm": "gn", "cpu_kernels": "off"})
    batch = _batch(SIZES, *CANVAS)[:2]
    expected = [output.asnumpy() for output in _network(config)(*tensors(batch))]
    path = tmp_path / "tight.onnx"
    ms.export(_network(config), *tensors(batch), file_name=str(path), file_format="ONNX")
    session = onnxruntime.InferenceSession(path)
    names = [entry.name for entry in session.get_inputs()]
    _same_detections(session.run(None, dict(zip(names, batch, strict=True))), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({**OTHER, **OTHER_HEADS, "norm": "bn"}, marks=pytest.mark.thorough),
        GROUPED_AND_HEADS,
    ],
    ids=["other", "grouped"],
)
def test_losses_and_gradients_are_the_same_on_every_canvas(changes):
    """With `--thorough` also without C++ operators, whose detections are compared always."""
    config = _config(frozen_stages=0, **changes)
    network = _network(config)
    step = LossAndGradients(detector.build_loss(network, config).set_train(True))
    moves = changes.get("norm") == "bn"
    losses, other_losses = _same_gradients(step, network, lambda size: _batch(SIZES, *size), moves)
    np.testing.assert_allclose(other_losses, losses, rtol=1e-5)
    assert min(losses) > 0


def _same_gradients(step, network, batch_on, moves):
    """Take a step on two canvases: equal gradients and statistics, which move or not.

    Returns:
        What else the step gives, on each of them, as NumPy arrays.
    """
    start = {p.name: p.asnumpy().copy() for p in network.get_parameters()}
    found = []
    for canvas in (CANVAS, LARGER):
        for parameter in network.get_parameters():
            parameter.set_data(Tensor(start[parameter.name]))
        (_, outputs), gradients = step(*tensors(batch_on(canvas)))
        parameters = [p for p in network.get_parameters() if "moving" in p.name]
        statistics = {p.name: p.asnumpy().copy() for p in parameters}
        found.append(([output.asnumpy() for output in outputs], gradients, statistics))
    (outputs, gradients, statistics), (other_outputs, other_gradients, other_statistics) = found
    for weight, one, other in zip(step.weights, gradients, other_gradients, strict=True):
        one, other = one.asnumpy(), other.asnumpy()
        distance = np.linalg.norm(one - other) / max(np.linalg.norm(one), 1e-9)
        assert distance < 1e-3, weight.name
    for name, values in statistics.items():
        np.testing.assert_allclose(other_statistics[name], values, rtol=1e-4, atol=1e-6)
    if moves:
        assert all((values != start[name]).any() for name, values in statistics.items())
    return outputs, other_outputs


class _Features(nn.Cell):
    """((sum of squares, what a backbone finds on the pictures' own canvases), its gradients)."""

    def __init__(self, backbone):
        super().__init__(auto_prefix=False)
        self.backbone = backbone
        self.weights = ms.ParameterTuple(backbone.trainable_params())
        self.differentiate = ops.value_and_grad(self.total, None, self.weights, has_aux=True)

    def total(self, image, meta):
        own = own_canvas.own_size(meta)
        features, cells = self.backbone(image, own), own_canvas.pyramid_cells(own)
        total, shown = 0, ()
        for level in range(4):
            there = own_canvas.own_mask(cells[level], *features[level].shape[2:])
            shown += (features[level] * ops.cast(there, ms.float32),)
            total += ops.reduce_sum(ops.square(shown[level]))
        return total, shown

    def construct(self, image, meta):
        return self.differentiate(image, meta)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["frozen_bn", "bn"])
def test_basic_blocks_give_the_same_on_every_canvas(norm):
    """What the other two backbones do not have; neck and heads are the same behind it."""
    network = _network(_config(frozen_stages=0, norm=norm, **BASIC))
    step = _Features(network.backbone).set_train(norm == "bn")
    moves = norm == "bn"
    maps, wider = _same_gradients(step, network.backbone, lambda c: _batch(SIZES, *c)[:2], moves)
    for one, other in zip(maps, wider, strict=True):
        assert np.abs(one).max() > 0.1
        height, width = one.shape[2:]
        scale = np.abs(one).max()
        np.testing.assert_allclose(other[:, :, :height, :width], one, rtol=0, atol=1e-5 * scale)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_cells_are_those_of_a_canvas_of_its_own(rows, columns, data):
    valid = [data.draw(st.integers(1, 32 * n)) for n in (rows, columns)]
    meta = Tensor(np.float32([[*valid, 1, 1]]))
    own = own_canvas.own_size(meta)
    assert tuple(own.asnumpy()[0]) == _own(valid)
    cells = [tuple(level.asnumpy()[0]) for level in own_canvas.pyramid_cells(own)]
    assert cells == [tuple(map(float, shape)) for shape in feature_shapes(*_own(valid))]


def test_what_is_behind_the_own_canvas():
    cells = Tensor(np.float32([[2, 3], [4, 5]]))
    x = np.random.default_rng(0).standard_normal((2, 2, 4, 5)).astype(np.float32)
    there = np.zeros((2, 1, 4, 5), bool)
    there[0, :, :2, :3] = True
    there[1] = True
    mask = own_canvas.own_mask(cells, 4, 5).asnumpy()
    np.testing.assert_array_equal(mask, there)
    zeros = own_canvas.ZeroBehind()(Tensor(x), cells)
    np.testing.assert_array_equal(zeros.asnumpy(), np.where(there, x, 0))
    hidden = own_canvas.hide_logits(Tensor(x), cells).asnumpy()
    np.testing.assert_array_equal(hidden, np.where(there, x, np.float32(own_canvas.LOWEST)))
    repeated = own_canvas.repeat_border(zeros, cells).asnumpy()
    np.testing.assert_array_equal(
        repeated[0, :, :3, :4], np.pad(x[0, :, :2, :3], ((0, 0), (0, 1), (0, 1)), "edge")
    )
    np.testing.assert_array_equal(repeated[1], x[1])


@pytest.mark.parametrize("kind", ["gather", "operator"])
@pytest.mark.parametrize("offset, aligned", [(0.0, False), (0.0, True), (1.0, False)])
def test_roi_align_ends_where_a_map_of_its_own_would(kind, offset, aligned):
    rng = np.random.default_rng(0)
    formula = {"finest_scale": 16, "level_formula": "torchvision", "sample_num": 2}
    build = {"strides": (4, 8), "out_size": 3, "offset": offset, "aligned": aligned, **formula}
    maps = tuple(rng.standard_normal((1, 2, 64 // s, 96 // s)).astype(np.float32) for s in (4, 8))
    rois = np.float32([[[3, 5, 64, 32], [40, 2, 64, 31.5], [50, 20, 64, 32], [0, 0, 9, 32]]])
    cells = tuple(np.float32([[32 // s, 64 // s]]) for s in (4, 8))
    own = tuple(m[:, :, : 32 // s, : 64 // s] for m, s in zip(maps, (4, 8), strict=True))
    expected = in_graph(build_roi_align(kind, **build), own, rois)
    found = in_graph(build_roi_align(kind, **build), maps, rois, cells)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", ["bn", "gn"])
def test_norms_count_the_own_canvas(norm):
    x = np.random.default_rng(0).standard_normal((2, 32, 6, 8)).astype(np.float32) + 2
    cells = Tensor(np.float32([[3, 5], [3, 5]]))
    results = []
    for whole in (True, False):
        layer = norm_layer(norm, 32, 1e-5).set_train(True)
        if whole:
            result = layer(Tensor(x[:, :, :3, :5].copy()))
        else:
            result = layer(Tensor(x), cells)[:, :, :3, :5]
        states = [p.asnumpy() for p in layer.get_parameters()] if norm == "bn" else []
        results.append([result.asnumpy(), *states])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4)


def test_samples_are_chosen_by_their_places():
    rng = np.random.default_rng(0)
    small, large = ((4, 5, 3), (2, 3, 3)), ((6, 9, 3), (3, 5, 3))
    kinds = [rng.integers(0, 3, grid) for grid in small]
    wide = [np.zeros(grid, int) for grid in large]
    places = [np.arange(np.prod(grid)).reshape(grid) for grid in large]
    for own, other in zip(kinds, wide, strict=True):
        other[: own.shape[0], : own.shape[1]] = own
    inside = [p[: k.shape[0], : k.shape[1]] for p, k in zip(places, kinds, strict=True)]
    inside = np.concatenate([inside[0].ravel(), inside[1].ravel() + places[0].size])
    key = np.int32([7])
    chosen = []
    for grids, maps in ((small, kinds), (large, wide)):
        flat = np.concatenate([m.ravel() for m in maps])[None]
        index, _, valid = BalancedSampler(4, 12)(*tensors((flat == 1, flat == 2, key)), grids)
        chosen.append(index.asnumpy()[valid.asnumpy()])
    np.testing.assert_array_equal(inside[chosen[0]], chosen[1])
    assert len(chosen[0]) == 12
