# SPDX-License-Identifier: Apache-2.0
"""Test-time augmentation: candidates of several views through one last NMS."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from src.detector import ViewsDetector
from src.FasterRcnn.merged_views import MergedViews, ViewCandidates
from src.images.batching import batches_of
from tests.helpers.colour_detector import CELL, ColourDetector, selector
from tests.helpers.network_helpers import small_config
from tests.helpers.plain_boxes import in_graph, plain_nms

HEIGHT, WIDTH = 64, 96
ROWS, COLUMNS = HEIGHT // CELL, WIDTH // CELL
CLASSES = 2


def run(cell, *inputs):
    return cell(*inputs)


def colours(seed=0):
    """A picture of random cells, half the network's size."""
    values = np.random.default_rng(seed).integers(0, 255, (ROWS, COLUMNS, 3), np.uint8)
    return values.repeat(CELL // 2, 0).repeat(CELL // 2, 1)


def detect(*pictures, **changes):
    config = small_config(
        HEIGHT,
        WIDTH,
        CLASSES,
        box_convention="modern",
        pixel_std=[60.0] * 3,
        canvases=[f"{HEIGHT}x{WIDTH}"],
        **changes,
    )
    detector = ViewsDetector(ColourDetector(CLASSES), config, run)
    ((_, inputs),) = batches_of(iter(enumerate(pictures)), detector.views, len(pictures))
    return inputs, detector(inputs)


def test_one_view_is_the_network():
    """Bit for bit, and so it is through the merging."""
    inputs, outcome = detect(colours(), colours(1))
    network = ColourDetector(CLASSES)
    assert outcome[3].any(1).all()
    for ours, theirs in zip(outcome, network(*map(Tensor, inputs[0])), strict=True):
        np.testing.assert_array_equal(ours, theirs.asnumpy())
    candidates = ViewCandidates(network)(*map(Tensor, inputs[0]))
    boxes, *others = MergedViews(network.detections, WIDTH, CLASSES)(*candidates)
    np.testing.assert_array_equal(boxes.asnumpy() / 2, outcome[0])
    for ours, theirs in zip(others, outcome[1:], strict=True):
        np.testing.assert_array_equal(ours.asnumpy(), theirs)


def as_sets(outcome, image, mirror_width=None):
    """Each detection as (label, box), with its score."""
    boxes, scores, labels, valid = (part[image] for part in outcome)
    found = {}
    for box, score, label in zip(boxes[valid], scores[valid], labels[valid], strict=True):
        x1, y1, x2, y2 = (round(float(v), 2) for v in box)
        if mirror_width is not None:
            x1, x2 = round(mirror_width - x2, 2), round(mirror_width - x1, 2)
        found[int(label), x1, y1, x2, y2] = round(float(score), 4)
    return found


def test_a_mirrored_picture_gives_mirrored_results():
    rgb = colours(3)
    _, outcome = detect(rgb, rgb[:, ::-1], test_flip=True)
    one, other = as_sets(outcome, 0), as_sets(outcome, 1, rgb.shape[1])
    assert one == other and len(one) >= 5


@pytest.mark.parametrize("cap", [60, 25, 0])
def test_agrees_with_numpy(cap):
    """The best candidates of all views, greedily."""
    rng = np.random.default_rng(4)
    corners = rng.uniform(0, 60, (2, 90, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 35, (2, 90, 2))], 2)
    boxes = boxes.astype(np.float32)
    scores = rng.permutation(180).reshape(2, 90).astype(np.float32) / 200 + 0.05
    classes = rng.integers(0, CLASSES, (2, 90)).astype(np.int32)
    valid = rng.random((2, 90)) < 0.7
    merge = MergedViews(selector(max_candidates=cap), 96, CLASSES)
    outcome = in_graph(merge, boxes, scores, classes, valid)
    for image in range(2):
        order = np.argsort(-scores[image] * valid[image])[: cap or None]
        real = valid[image][order]
        keep = plain_nms(boxes[image][order], real, classes[image][order], 0.5)
        best = order[keep][:20]
        flag = outcome[3][image]
        np.testing.assert_array_equal(outcome[0][image][flag], boxes[image][best])
        np.testing.assert_array_equal(outcome[1][image][flag], scores[image][best])
        np.testing.assert_array_equal(outcome[2][image][flag], classes[image][best] + 1)


def test_views_of_other_sizes_come_back_to_the_picture():
    """One box of a class in each view: the merged one is the better, in the picture's pixels."""

    class OneBox(nn.Cell):
        """Finds the whole picture, the more surely the larger it is."""

        def __init__(self):
            super().__init__()
            self.detections = selector()

        def look(self, image, meta):
            logits = ops.stack((meta[:, 0] * 0, meta[:, 0] / 32, meta[:, 0] * 0 - 9), 1)
            rois = ops.stack((meta[:, 0] * 0, meta[:, 0] * 0, meta[:, 1], meta[:, 0]), 1)
            deltas = ops.zeros((image.shape[0], CLASSES, 4), ms.float32)
            valid = ops.ones((image.shape[0], 1), ms.bool_)
            return logits, deltas, ops.expand_dims(rois, 1), valid, meta[:, :2]

    config = small_config(
        HEIGHT, WIDTH, CLASSES, box_convention="modern", test_scales=[1.0, 1.5], test_flip=True
    )
    detector = ViewsDetector(OneBox(), config, run)
    ((_, inputs),) = batches_of(iter([(0, colours())]), detector.views, 1)
    assert [image.shape[2:] for image, _ in inputs] == [(64, 96)] * 2 + [(96, 160)] * 2
    boxes, scores, labels, valid = detector(inputs)
    assert valid.sum() == 1 and labels[0, 0] == 1
    np.testing.assert_allclose(boxes[0, 0], [0, 0, 48, 32], atol=1e-3)
    odds = np.exp(96 / 32)
    np.testing.assert_allclose(scores[0, 0], odds / (odds + 1 + np.exp(-9)), rtol=1e-5)
