# SPDX-License-Identifier: Apache-2.0
"""The whole network against torchvision's, on weights by recipe (see tests/reference)."""

import json
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from network_helpers import small_config, tensors
from recipe import make_weight

from src.checkpoint_formats.naming import TORCHVISION
from src.checkpoint_formats.parameters import detector_shapes
from src.detector import build_detector, build_loss

REFERENCE = Path(__file__).parent / "reference"
ALL_ANCHORS, ALL_ROIS, NUM_GTS = 20460, 2016, 16
GRADIENT_TOLERANCE = 5e-3  # what rounding leaves after fifty layers of fp32

pytestmark = pytest.mark.slow


def our_weight(name, values):
    """torchvision's values -> ours: dense layers (in, out), no deltas for the background."""
    if name.startswith("rcnn.reg_scores."):
        values = values[4:]
    return np.ascontiguousarray(values.T if name.startswith("rcnn.") else values)


@pytest.fixture(scope="module")
def reference():
    with np.load(REFERENCE / "torchvision_r50.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def config():
    return small_config(
        256, 320, 90, box_convention="modern", stem_pool="symmetric", anchor_filter="all",
        frozen_stages=0, num_gts=NUM_GTS, rpn_nms_pre=1000, rpn_nms_post=1000, rpn_max_num=1000,
        rpn_proposal_nms_pre=2000, rpn_proposal_nms_post=2000, rpn_proposal_max_num=2000,
        rpn_min_bbox_min_size=1e-3, rpn_proposal_min_bbox_size=1e-3, rcnn_loss_beta=1 / 9,
        num_expected_pos=ALL_ANCHORS, num_expected_neg=ALL_ANCHORS,
        num_expected_pos_stage2=ALL_ROIS, num_expected_neg_stage2=ALL_ROIS,
        test_max_per_img=100,
    )  # fmt: skip


@pytest.fixture(scope="module")
def names():
    """Our parameter name -> torchvision's."""
    shapes = json.loads((REFERENCE / "torchvision_r50_params.json").read_text())
    ours = {name: TORCHVISION(name) for name in detector_shapes("resnet_v1.5_50", 91)}
    assert set(ours.values()) == shapes.keys()
    return ours


@pytest.fixture(scope="module")
def network(config, names):
    shapes = json.loads((REFERENCE / "torchvision_r50_params.json").read_text())
    network = build_detector(config)
    parameters = {parameter.name: parameter for parameter in network.get_parameters()}
    assert parameters.keys() == names.keys()
    for name, parameter in parameters.items():
        values = our_weight(name, make_weight(names[name], shapes[names[name]]))
        assert parameter.shape == values.shape, name
        parameter.set_data(Tensor(values))
    return network


@pytest.fixture(scope="module")
def image_and_meta(reference):
    image = (reference["image_uint8"].astype(np.float32) - reference["mean"]) / reference["std"]
    for number, (height, width) in enumerate(reference["valid_hw"]):
        image[number, height:] = 0
        image[number, :, width:] = 0
    meta = np.concatenate([reference["valid_hw"], np.ones((2, 2))], 1)
    return image.transpose(0, 3, 1, 2).astype(np.float32), meta.astype(np.float32)


class _Stages(nn.Cell):
    """Inference with the pyramid and the proposals as further outputs."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, image, image_meta):
        network = self.network
        features, logits, deltas = network.extract(image)
        bounds = network.clip_bounds(image, image_meta)
        rois, valid = network.proposals(logits, deltas, network.anchors, bounds)
        class_logits, class_deltas = network.classify(features, rois)
        found = network.detections(class_logits, class_deltas, rois, valid, bounds)
        return features + (rois, valid) + found


@pytest.fixture(scope="module")
def stages(network, image_and_meta):
    cell = _Stages(network)
    cell.set_train(False)
    return [output.asnumpy() for output in cell(*tensors(image_and_meta))]


def test_pyramid(stages, reference):
    for number, level in enumerate(stages[:5], 2):
        got = level.reshape(-1)[reference[f"p{number}_index"]]
        tolerance = 1e-4 * float(reference[f"p{number}_std"])
        np.testing.assert_allclose(got, reference[f"p{number}_value"], rtol=0, atol=tolerance,
                                   err_msg=f"P{number}")  # fmt: skip


def test_proposals(stages, reference):
    for image in range(2):
        expected, got = reference[f"proposals_{image}"], stages[5][image][stages[6][image]]
        assert len(got) == len(expected)
        distance = np.abs(expected[:, None] - got[None]).max(2).min(1)
        assert (distance < 0.05).mean() >= 0.995


def test_detections(stages, reference):
    boxes, scores, labels, valid = stages[7:]
    found = []
    for image in range(2):
        parts = [reference[f"det_{part}_{image}"] for part in ("boxes", "scores", "labels")]
        for box, score, label in zip(*parts, strict=True):
            near = np.abs(boxes[image] - box).max(1) < 0.05
            close = np.abs(scores[image] - score) < 1e-4
            found.append((valid[image] & near & close & (labels[image] == label)).any())
        assert valid[image].sum() == len(reference[f"det_scores_{image}"])
    assert len(found) >= 100 and np.mean(found) >= 0.99


class _LossAndGradients(nn.Cell):
    def __init__(self, loss):
        super().__init__(auto_prefix=False)
        self.loss = loss
        self.weights = ms.ParameterTuple(loss.trainable_params())
        self.differentiate = ops.value_and_grad(self.total, None, self.weights, has_aux=True)

    def total(self, *batch):
        losses = self.loss(*batch)
        return losses[0] + losses[1], losses

    def construct(self, *batch):
        return self.differentiate(*batch)


@pytest.fixture(scope="module")
def trained(network, config, image_and_meta, reference):
    """The six losses and the L2 norm of every trainable parameter's gradient."""
    boxes = np.zeros((2, NUM_GTS, 4), np.float32)
    labels = np.zeros((2, NUM_GTS), np.int32)
    for image in range(2):
        count = len(reference[f"gt_labels_{image}"])
        boxes[image, :count] = reference[f"gt_boxes_{image}"]
        labels[image, :count] = reference[f"gt_labels_{image}"]
    valid = labels > 0
    batch = (*image_and_meta, boxes, labels, valid, np.zeros_like(valid),
             np.array([5, 77], np.int32))  # fmt: skip
    cell = _LossAndGradients(build_loss(network, config))
    cell.set_train(True)
    (_, losses), gradients = cell(*tensors(batch))
    norms = {weight.name: np.linalg.norm(gradient.asnumpy().astype(np.float64))
             for weight, gradient in zip(cell.weights, gradients, strict=True)}  # fmt: skip
    return [float(loss.asnumpy()) for loss in losses], norms


def test_losses(trained, reference):
    expected = [
        float(reference[name])
        for name in ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")
    ]
    np.testing.assert_allclose(trained[0][2:], expected, rtol=1e-4)
    np.testing.assert_allclose(trained[0][:2], [sum(expected[:2]), sum(expected[2:])], rtol=1e-4)


def test_gradients(trained, names, reference):
    """Norms of the gradients, all layers; the trainable parameters are torchvision's."""
    norms = {f"grad_l2:{names[name]}": norm for name, norm in trained[1].items()}
    expected = {key: float(value) for key, value in reference.items() if key.startswith("grad_l2:")}
    assert norms.keys() == expected.keys()
    for key, value in expected.items():
        assert norms[key] == pytest.approx(value, rel=GRADIENT_TOLERANCE), key
