# SPDX-License-Identifier: Apache-2.0
"""Proposals: every setting matters, order, validity; and the same outcome in plain NumPy."""

import numpy as np
import pytest

from src.FasterRcnn.anchor_generator import pyramid_anchors
from src.FasterRcnn.box_ops import BoxCoder
from src.FasterRcnn.names import feature_shapes
from src.FasterRcnn.nms import build_nms
from src.FasterRcnn.proposal_generator import Proposal
from tests.helpers.plain_boxes import in_graph, plain_nms

CANVAS, STRIDES = (64, 96), (8, 16)
BOUNDS = np.array([[64, 96], [40, 64]], np.float32)
ANCHORS = tuple(pyramid_anchors(feature_shapes(*CANVAS, STRIDES), STRIDES, (2,), (0.5, 1, 2), 0.0))
RNG = np.random.default_rng(5)
LOGITS = tuple(RNG.standard_normal((2, len(level))).astype(np.float32) for level in ANCHORS)
DELTAS = tuple(
    (0.3 * RNG.standard_normal((2, len(level), 4))).astype(np.float32) for level in ANCHORS
)
SETTINGS = {"nms_pre": 60, "nms_post": 40, "max_num": 50, "min_size": 4.0, "threshold": 0.6}


def _cell(kind="kernel", offset=0.0, **changes):
    values = {**SETTINGS, **changes}
    nms = build_nms(kind, values.pop("threshold"))
    return Proposal(BoxCoder((0.0,) * 4, (1.0,) * 4, offset), nms, offset, **values)


def _propose(**changes):
    return in_graph(_cell(**changes), LOGITS, DELTAS, ANCHORS, BOUNDS, max(CANVAS))


def _plain_propose(image, nms_pre, nms_post, max_num, min_size, threshold):
    """Modern convention; returns boxes, best first."""
    height, width = BOUNDS[image]
    boxes, scores = [], []
    for logits, deltas, anchors in zip(LOGITS, DELTAS, ANCHORS, strict=True):
        order = np.argsort(-logits[image])[:nms_pre]
        delta, anchor = deltas[image][order], anchors[order]
        side = anchor[:, 2:] - anchor[:, :2]
        centre = (anchor[:, 2:] + anchor[:, :2]) / 2 + delta[:, :2] * side
        half = side * np.exp(delta[:, 2:]) / 2
        moved = np.concatenate([centre - half, centre + half], 1)
        moved = np.clip(moved, 0, [width, height, width, height])
        valid = (moved[:, 2:] - moved[:, :2]).min(1) >= min_size
        keep = np.flatnonzero(plain_nms(moved, valid, np.zeros(len(moved)), threshold))
        keep = keep[:nms_post]
        boxes.append(moved[keep])
        scores.append(logits[image][order][keep])
    boxes, scores = np.concatenate(boxes), np.concatenate(scores)
    return boxes[np.argsort(-scores)[:max_num]]


@pytest.mark.parametrize("kind", ["kernel", "matrix"])
def test_agrees_with_numpy(kind):
    proposals, valid = _propose(kind=kind)
    assert proposals.shape == (2, 50, 4) and proposals.dtype == np.float32
    assert valid.shape == (2, 50) and valid.dtype == np.bool_
    for image in range(2):
        expected = _plain_propose(image, **SETTINGS)
        assert 20 < valid[image].sum() == len(expected)
        np.testing.assert_allclose(proposals[image][valid[image]], expected, atol=1e-3)


@pytest.mark.parametrize(
    "change",
    [{"nms_pre": 20}, {"nms_post": 10}, {"max_num": 12}, {"min_size": 14.0}, {"threshold": 0.3}],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_changes_the_outcome(change):
    base = {**SETTINGS, "max_num": 100}  # more than there are: no other limit hides the effect
    proposals, valid = _propose(**{**base, **change})
    for image in range(2):
        before = _plain_propose(image, **base)
        expected = _plain_propose(image, **{**base, **change})
        got = proposals[image][valid[image]]
        assert 0 < len(expected) < len(before)
        np.testing.assert_allclose(got, expected, atol=1e-3)


def test_counts_respect_their_limits():
    assert _propose(max_num=12)[0].shape == (2, 12, 4)
    assert (_propose(nms_post=3)[1].sum(1) == 6).all()  # two levels
    assert _propose(max_num=10**6)[0].shape[1] == 40 + 40


def test_invalid_places_are_last_and_valid_boxes_lie_inside():
    proposals, valid = _propose(min_size=10.0, max_num=100)
    assert valid.any(1).all() and not valid.all(1).any()
    for image, (height, width) in enumerate(BOUNDS):
        count = valid[image].sum()
        assert valid[image, :count].all()
        boxes = proposals[image, :count]
        assert (boxes >= 0).all() and (boxes <= [width, height, width, height]).all()
        assert (boxes[:, 2:] - boxes[:, :2]).min() >= 10.0


def test_nothing_long_enough_gives_nothing():
    proposals, valid = _propose(min_size=1000.0)
    assert not valid.any() and np.isfinite(proposals).all()


def test_images_do_not_disturb_each_other():
    cell = _cell()
    both = in_graph(cell, LOGITS, DELTAS, ANCHORS, BOUNDS, max(CANVAS))
    swapped = in_graph(
        cell,
        tuple(x[::-1] for x in LOGITS),
        tuple(x[::-1] for x in DELTAS),
        ANCHORS,
        BOUNDS[::-1],
        max(CANVAS),
    )
    np.testing.assert_array_equal(both[1], swapped[1][::-1])
    np.testing.assert_allclose(both[0][both[1]], swapped[0][::-1][both[1]], atol=1e-4)


def test_legacy_boxes_are_a_pixel_longer():
    """Zero deltas give the anchors back in both conventions; sizes count differently."""
    still = tuple(np.zeros_like(x) for x in DELTAS)
    for offset, min_size in ((0.0, 16.0), (1.0, 17.0)):
        cell = _cell(offset=offset, min_size=min_size, max_num=1000, nms_pre=1000)
        proposals, valid = in_graph(cell, LOGITS, still, ANCHORS, BOUNDS, max(CANVAS))
        sides = proposals[0][valid[0]][:, 2:] - proposals[0][valid[0]][:, :2]
        assert sides.min() == 16.0
