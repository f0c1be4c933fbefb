# SPDX-License-Identifier: Apache-2.0
"""The assembled network: parameters, what is trained, and whole graphs on small canvases."""

import functools
import json

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from src import detector
from src.detector import build_detector, build_loss
from src.FasterRcnn.backbones import build_backbone
from src.FasterRcnn.layers import compute_in
from src.FasterRcnn.names import BACKBONES, Backbone
from src.FasterRcnn.norms import BatchNorm, norm_layer
from src.FasterRcnn.resnet import Bottleneck, ResNetFea
from tests.helpers.network_helpers import (
    LOSSES,
    detector_of_few_blocks,
    fill_by_recipe,
    small_batch,
    small_config,
    tensors,
)
from tests.helpers.paths import RESOURCES
from tests.helpers.stages import LossAndGradients

STAGES = ("conv1|bn1", "layer1", "layer2", "layer3", "layer4")


@functools.cache
def _network(backbone="resnet_v1.5_50", **changes):
    return build_detector(small_config(backbone=backbone, **changes))


def _shapes(network):
    return {parameter.name: list(parameter.shape) for parameter in network.get_parameters()}


def _trainable(cell):
    return {parameter.name for parameter in cell.trainable_params()}


def _stage(name):
    """0 for the stem ... 4 for layer4 of a backbone's parameter name."""
    top = name.removeprefix("backbone.").split(".")[0]
    return next(number for number, words in enumerate(STAGES) if top in words.split("|"))


@pytest.mark.parametrize("backbone", ["resnet_v1.5_50", "resnet_v1_50"])
def test_parameters_of_resnet50_are_those_of_published_checkpoints(backbone):
    expected = json.loads((RESOURCES / "ancestor_r50_params.json").read_text())
    assert _shapes(_network(backbone, num_classes=80)) == expected


@pytest.mark.parametrize(
    "backbone, blocks", [("resnet_v1_101", (3, 4, 23, 3)), ("resnet_v1_152", (3, 8, 36, 3))]
)
def test_deeper_backbones_have_more_blocks_of_the_same_shapes(backbone, blocks):
    cell = build_backbone(backbone, norm="frozen_bn", eps=1e-5, frozen_stages=2, stem_pool="same")
    got = _shapes(cell)
    r50 = _shapes(_network("resnet_v1.5_50", num_classes=80))
    expected = {
        name.removeprefix("backbone."): shape
        for name, shape in r50.items()
        if name.startswith("backbone.")
    }
    for layer, count in enumerate(blocks, 1):
        pattern = {
            name.split(".", 2)[2]: shape
            for name, shape in expected.items()
            if name.startswith(f"layer{layer}.1.")
        }
        for number in range(2, count):
            for rest, shape in pattern.items():
                expected[f"layer{layer}.{number}.{rest}"] = shape
    assert got == expected


@pytest.mark.parametrize(
    "name, strides",
    [
        ("resnet_v1.5_50", (1, 2)),
        ("resnet_v1_50", (2, 1)),
        ("resnet_v1_101", (1, 2)),
        ("resnet_v1_152", (1, 2)),
        ("resnet_v1_101_caffe", (2, 1)),
        ("resnext_50_32x4d", (1, 2)),
        ("wide_resnet_50_2", (1, 2)),
        ("resnet_v1.5_18", (2, 1)),  # of two 3x3 convolutions
    ],
)
def test_where_the_backbones_stride(name, strides, monkeypatch):
    monkeypatch.setitem(BACKBONES, name, BACKBONES[name]._replace(blocks=(1, 1, 1, 1)))
    shared = {"norm": "frozen_bn", "eps": 1e-5, "frozen_stages": 0, "stem_pool": "same"}
    block = build_backbone(name, **shared).layer2[0]
    assert (block.conv1.stride[-1], block.conv2.stride[-1]) == strides
    assert block.conv_down_sample.stride[-1] == 2


def test_unknown_names_are_refused():
    common = {"norm": "frozen_bn", "eps": 1e-5, "frozen_stages": 2}
    with pytest.raises(ValueError, match="'vgg16' is none of resnet_v1.5_50"):
        build_backbone("vgg16", stem_pool="same", **common)
    with pytest.raises(ValueError, match="'valid' is none of same, symmetric"):
        build_backbone("resnet_v1_50", stem_pool="valid", **common)
    with pytest.raises(ValueError, match="'ln' is none of frozen_bn, bn, gn"):
        norm_layer("ln", 64, 1e-5)


@pytest.mark.parametrize("num_classes", [1, 200])
def test_head_follows_the_number_of_classes(num_classes):
    shapes = _shapes(_network(num_classes=num_classes))
    assert shapes["rcnn.cls_scores.weight"] == [1024, num_classes + 1]
    assert shapes["rcnn.reg_scores.weight"] == [1024, 4 * num_classes]


class _TinyBlock(nn.Cell):
    """Stands in for a Bottleneck: one convolution and its normalisation."""

    def __init__(self, in_channels, width, out_channels, stride, norm, eps, fold, groups):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 1, stride)
        self.bn1 = norm_layer(norm, out_channels, eps)
        self.stride = (stride, stride)

    def construct(self, x, cells=None):
        return ops.relu(self.bn1(self.conv1(x)))


def _tiny_backbone(norm="frozen_bn", frozen_stages=2, stem_pool="same"):
    ms.set_seed(1)
    return ResNetFea(_TinyBlock, Backbone(0, (2, 1, 1, 1)), norm, 1e-5, frozen_stages, stem_pool)


@pytest.mark.parametrize("norm", ["frozen_bn", "bn", "gn"])
def test_half_precision_is_for_convolutions_and_not_for_batchnorm(norm):
    single, half = (Bottleneck(64, 32, 128, 1, norm, 1e-5) for _ in range(2))
    for block in (single, half):
        fill_by_recipe(block)
        block.set_train(False)
    compute_in(half, ms.float16)
    for name, layer in half.cells_and_names():
        if isinstance(layer, nn.Conv2d):
            assert layer.get_flags()["fp16"], name
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.get_flags()["fp32"] and not layer.get_flags()["fp16"], name
    image = Tensor(np.random.default_rng(0).standard_normal((1, 64, 8, 8)).astype(np.float32))
    expected, found = single(image), half(image)
    assert (expected.dtype, found.dtype) == (ms.float32, ms.float16)
    expected = expected.asnumpy()
    np.testing.assert_allclose(found.asnumpy(), expected, atol=5e-3 * expected.max())


def test_the_networks_half_precision_leaves_batchnorm_alone():
    layers = [layer for _, layer in _network(compute_type="fp16").cells_and_names()]
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    norms = [layer for layer in layers if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) == 53 and all(norm.get_flags()["fp32"] for norm in norms)
    assert convolutions and all(layer.get_flags()["fp16"] for layer in convolutions)


@pytest.mark.parametrize("world_size, sync_bn", [(1, True), (2, False), (2, True)])
def test_settings_of_training_reach_the_network(monkeypatch, world_size, sync_bn):
    """BatchNorm shares its statistics where there are other processes; parts are recomputed."""
    chosen = []
    for name in ("SumOverRanks", "SharedCount"):  # those need processes that have joined
        monkeypatch.setattr(detector, name, lambda *size: nn.Identity())
    monkeypatch.setattr(detector, "recompute", lambda network, parts: chosen.extend(parts))
    config = small_config(norm="bn", sync_bn=sync_bn, recompute=("neck",))
    network = build_detector(config)
    build_loss(network, config, world_size)
    norms = [layer for _, layer in network.cells_and_names() if isinstance(layer, BatchNorm)]
    shared = [layer.sum_over_ranks is not None for layer in norms]
    assert shared == [sync_bn and world_size > 1] * 53 and chosen == ["neck"]


@pytest.mark.parametrize("norm", ["frozen_bn", "bn", "gn"])
@pytest.mark.parametrize("frozen_stages", range(6))
def test_frozen_stages_and_norms_decide_what_is_trained(norm, frozen_stages):
    cell = _tiny_backbone(norm, frozen_stages)
    expected = {
        parameter.name
        for parameter in cell.get_parameters()
        if _stage(parameter.name) >= frozen_stages
        and not parameter.name.endswith(("moving_mean", "moving_variance"))
        and not (norm == "frozen_bn" and "bn" in parameter.name)
    }
    assert _trainable(cell) == expected
    assert bool(expected) == (frozen_stages < 5)


def test_the_configuration_s_frozen_stages_reach_the_backbone():
    network = _network(num_classes=1)
    stages = {_stage(name) for name in _trainable(network) if name.startswith("backbone.")}
    assert stages == {2, 3, 4}
    parts = {name.split(".")[0] for name in _trainable(network)}
    assert parts == {"backbone", "fpn_neck", "rpn_with_loss", "rcnn"}


class _Sensitivity(nn.Cell):
    """Gradients of the last stage with respect to every convolution, frozen or not."""

    def __init__(self, backbone):
        super().__init__(auto_prefix=False)
        self.backbone = backbone
        self.weights = ms.ParameterTuple(
            [p for p in backbone.get_parameters() if p.name.endswith("conv1.weight")]
        )
        self.gradient = ops.grad(self.total, None, self.weights)

    def total(self, x):
        return ops.reduce_sum(self.backbone(x)[-1])

    def construct(self, x):
        return self.gradient(x)


@pytest.mark.parametrize("frozen_stages", [0, 1, 3, 5])
def test_no_gradient_is_computed_below_the_last_frozen_stage(frozen_stages):
    cell = _Sensitivity(_tiny_backbone(frozen_stages=frozen_stages))
    image = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    for weight, gradient in zip(cell.weights, cell(Tensor(image)), strict=True):
        assert gradient.asnumpy().any() == (_stage(weight.name) >= frozen_stages), weight.name


@pytest.mark.parametrize("norm, moves", [("frozen_bn", False), ("bn", True)])
def test_statistics_move_only_where_batchnorm_is_trained(norm, moves):
    cell = _tiny_backbone(norm, frozen_stages=2)
    cell.set_train(True)
    before = {p.name: p.asnumpy().copy() for p in cell.get_parameters() if "moving" in p.name}
    rng = np.random.default_rng(0)
    cell(Tensor(rng.standard_normal((2, 3, 64, 64)).astype(np.float32) + 3))
    for parameter in cell.get_parameters():
        if "moving" in parameter.name:
            moved = (parameter.asnumpy() != before[parameter.name]).any()
            assert moved == (moves and _stage(parameter.name) >= 2), parameter.name


@pytest.mark.parametrize("stem_pool", ["same", "symmetric"])
@pytest.mark.parametrize("height, width", [(64, 96), (32, 160)])
def test_stages_halve_the_canvas(stem_pool, height, width):
    cell = _tiny_backbone(stem_pool=stem_pool)
    cell.set_train(False)
    stages = cell(Tensor(np.zeros((1, 3, height, width), np.float32)))
    for number, stage in enumerate(stages):
        stride = 4 << number
        assert stage.shape == (1, 256 << number, height // stride, width // stride)


HEIGHT, WIDTH = 64, 96  # P5 is 2 x 3, P6 1 x 2
CLASSES = 200


@pytest.fixture(scope="module")
def detect():
    """Inference of pairs of images in one graph, in the legacy convention with 200 classes."""
    config = small_config(HEIGHT, WIDTH, CLASSES, test_score_thr=0.02)
    network = detector_of_few_blocks(config)
    fill_by_recipe(network)
    network.set_train(False)

    @functools.cache
    def run(images):
        image, meta = small_batch(HEIGHT, WIDTH, CLASSES, images)[:2]
        return [output.asnumpy() for output in network(*tensors((image, meta)))]

    return run


@pytest.mark.slow
def test_detections_keep_the_contract(detect):
    boxes, scores, labels, valid = detect((0, 1))
    assert [x.shape for x in (boxes, scores, labels, valid)] == [
        (2, 20, 4),
        (2, 20),
        (2, 20),
        (2, 20),
    ]
    assert [x.dtype for x in (boxes, scores, labels, valid)] == [
        np.float32,
        np.float32,
        np.int32,
        np.bool_,
    ]
    assert valid.any(1).all()
    assert (np.diff(scores, axis=1) <= 0).all() and (scores[valid] > 0.02).all()
    assert (labels[valid] >= 1).all() and (labels[valid] <= CLASSES).all()
    assert not boxes[~valid].any() and not scores[~valid].any() and not labels[~valid].any()
    meta = small_batch(HEIGHT, WIDTH, CLASSES)[1]
    for image in range(2):
        height, width = meta[image, :2] / meta[image, 2:]  # in pixels of the original image
        got = boxes[image][valid[image]]
        assert (got >= 0).all() and (got <= np.array([width, height] * 2) + 1e-3).all()
        assert (got[:, 2:] > got[:, :2]).all()
        assert got[:, 2].max() > WIDTH and got[:, 3].max() > HEIGHT, "scaled back"


@pytest.mark.slow
def test_detections_do_not_depend_on_the_batch_mate(detect):
    together, first, second = detect((0, 1)), detect((0, 0)), detect((2, 1))
    for number, (both, one, other) in enumerate(zip(together, first, second, strict=True)):
        tolerance = {"atol": 1e-3} if number == 0 else {"atol": 1e-5}
        np.testing.assert_allclose(both[0], one[0], **tolerance)
        np.testing.assert_allclose(both[1], other[1], **tolerance)
        np.testing.assert_allclose(one[0], one[1], **tolerance)
    assert (together[0][0] != together[0][1]).any()


@pytest.fixture(scope="module")
def train():
    """Losses and gradients of pairs of images in one graph, 128 x 160, one class, frozen_bn."""
    height, width = 128, 160
    config = small_config(
        height,
        width,
        1,
        rpn_loss_cls_weight=2.0,
        rcnn_loss_reg_weight=3.0,
        anchor_filter="centred",
        num_expected_neg=1000,  # enough for some of every level
    )
    network = detector_of_few_blocks(config)
    fill_by_recipe(network)
    cell = LossAndGradients(build_loss(network, config))
    cell.set_train(True)

    def run(images, **changes):
        batch = list(small_batch(height, width, 1, images))
        for name, value in changes.items():
            position = ("gt_boxes", "gt_labels", "gt_valid", "gt_crowd", "sampling_key").index(name)
            batch[2 + position] = np.full_like(batch[2 + position], value)
        (_, losses), gradients = cell(*tensors(batch))
        names = [weight.name for weight in cell.weights]
        values = [gradient.asnumpy() for gradient in gradients]
        return (
            dict(zip(LOSSES, (float(loss.asnumpy()) for loss in losses), strict=True)),
            dict(zip(names, values, strict=True)),
        )

    run.network = network
    return run


@pytest.mark.slow
def test_losses_are_finite_and_weighted(train):
    losses, _ = train((0, 1))
    assert all(0 < value < 100 for value in losses.values()), losses
    assert losses["rpn_loss"] == pytest.approx(2 * losses["rpn_cls"] + losses["rpn_reg"], rel=1e-5)
    assert losses["rcnn_loss"] == pytest.approx(
        losses["rcnn_cls"] + 3 * losses["rcnn_reg"], rel=1e-5
    )


@pytest.mark.slow
def test_every_trainable_parameter_gets_a_gradient(train):
    _, gradients = train((0, 1))
    expected = {
        parameter.name
        for parameter in train.network.get_parameters()
        if not (
            parameter.name.startswith("backbone.")
            and (_stage(parameter.name) < 2 or "bn" in parameter.name)
        )
    }
    assert gradients.keys() == expected
    for name, gradient in gradients.items():
        assert np.isfinite(gradient).all() and gradient.any(), name


@pytest.mark.slow
def test_a_batch_without_boxes_trains_on_background_alone(train):
    losses, gradients = train((0, 1), gt_valid=False, gt_crowd=False)
    assert losses["rpn_reg"] == losses["rcnn_reg"] == 0.0
    assert 0 < losses["rpn_cls"] < 100 and 0 < losses["rcnn_cls"] < 100
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    assert not gradients["rcnn.reg_scores.weight"].any()
    assert gradients["rcnn.cls_scores.weight"].any()


@pytest.mark.slow
def test_padded_boxes_and_their_labels_do_not_matter(train):
    """Images whose boxes are padding: any content of the padded places gives the same losses."""
    outcomes = [
        train((0, 1), gt_valid=False, gt_crowd=False, gt_boxes=fill, gt_labels=label)[0]
        for fill, label in ((0.0, 0), (40.0, 1))
    ]
    assert outcomes[0] == pytest.approx(outcomes[1], rel=1e-6)


@pytest.mark.slow
def test_a_batch_s_loss_is_the_mean_over_its_images(train):
    """Every image fills its places in both stages, so that all images weigh the same."""
    both, first, second = train((0, 1)), train((0, 0)), train((1, 1))
    for name in LOSSES:
        mean = 0.5 * (first[0][name] + second[0][name])
        assert both[0][name] == pytest.approx(mean, rel=1e-4), name
        assert first[0][name] != pytest.approx(second[0][name], rel=1e-3), name
    name = "backbone.layer4.0.conv1.weight"
    mean = 0.5 * (first[1][name] + second[1][name])
    np.testing.assert_allclose(both[1][name], mean, atol=1e-3 * np.abs(mean).max())


@pytest.mark.slow
def test_the_sampling_key_decides_the_sample_and_nothing_else_does(train):
    one, again, other = (train((0, 1), sampling_key=key)[0] for key in (1, 1, 2))
    assert one == again
    assert one["rpn_cls"] != other["rpn_cls"] and one["rcnn_cls"] != other["rcnn_cls"]
