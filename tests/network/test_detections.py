# SPDX-License-Identifier: Apache-2.0
"""Detections: every setting matters, order, validity; and the same outcome in plain NumPy."""

import functools

import numpy as np
import pytest

from src.FasterRcnn.box_ops import BoxCoder
from src.FasterRcnn.detections import MIN_SIZE, DetectionSelector
from src.FasterRcnn.nms import build_nms, build_suppression
from tests.helpers.plain_boxes import in_graph, plain_nms

ROIS_PER_IMAGE, CLASSES = 24, 3
STDS = (0.1, 0.1, 0.2, 0.2)
BOUNDS = np.array([[64, 96], [48, 64]], np.float32)
RNG = np.random.default_rng(9)
LOGITS = (2.0 * RNG.standard_normal((2 * ROIS_PER_IMAGE, 1 + CLASSES))).astype(np.float32)
DELTAS = RNG.standard_normal((2 * ROIS_PER_IMAGE, CLASSES, 4)).astype(np.float32)
_CORNERS = RNG.uniform(0, 30, (2, ROIS_PER_IMAGE, 2))
ROIS = np.concatenate([_CORNERS, _CORNERS + RNG.uniform(8, 25, _CORNERS.shape)], -1).astype(
    np.float32
)
ROI_VALID = RNG.random((2, ROIS_PER_IMAGE)) < 0.8
SETTINGS = {"score_threshold": 0.05, "max_candidates": 40, "max_per_image": 15, "threshold": 0.5}


@functools.cache  # equal settings compile once
def _cell(kind="kernel", offset=0.0, **changes):
    values = {**SETTINGS, **changes}
    nms = build_nms(kind, values.pop("threshold"))
    suppression = build_suppression(values.pop("nms", "per_class"), nms)
    values = {"min_size": offset + MIN_SIZE, **values}
    return DetectionSelector(BoxCoder((0.0,) * 4, STDS, offset), suppression, offset, **values)


def _detect(roi_valid=ROI_VALID, logits=LOGITS, **changes):
    return in_graph(_cell(**changes), logits, DELTAS, ROIS, roi_valid, BOUNDS, 96)


def _plain_detect(
    image, score_threshold, max_candidates, max_per_image, threshold, nms="per_class"
):
    """Return boxes, scores and labels, best first."""
    own = slice(image * ROIS_PER_IMAGE, (image + 1) * ROIS_PER_IMAGE)
    odds = np.exp(LOGITS[own].astype(np.float64))
    scores = (odds / odds.sum(1, keepdims=True))[:, 1:] * ROI_VALID[image][:, None]
    order = np.argsort(-scores.reshape(-1))[: max_candidates or None]
    roi, label = order // CLASSES, order % CLASSES
    scores = scores.reshape(-1)[order]
    boxes, delta = ROIS[image][roi], DELTAS[own][roi, label] * STDS
    side = boxes[:, 2:] - boxes[:, :2]
    centre = (boxes[:, 2:] + boxes[:, :2]) / 2 + delta[:, :2] * side
    half = side * np.exp(delta[:, 2:]) / 2
    height, width = BOUNDS[image]
    boxes = np.concatenate([centre - half, centre + half], 1)
    boxes = np.clip(boxes, 0, [width, height, width, height])
    group = label if nms == "per_class" else np.zeros_like(label)
    keep = plain_nms(boxes, scores > score_threshold, group, threshold)
    best = np.flatnonzero(keep)[:max_per_image]
    return boxes[best], scores[best], label[best] + 1


def _check(outcome, **changes):
    """Compare with NumPy; return the numbers of detections."""
    boxes, scores, labels, valid = outcome
    for image in range(2):
        expected = _plain_detect(image, **{**SETTINGS, **changes})
        flag = valid[image]
        assert flag.sum() == len(expected[0])
        np.testing.assert_allclose(boxes[image][flag], expected[0], atol=1e-3)
        np.testing.assert_allclose(scores[image][flag], expected[1], atol=1e-5)
        np.testing.assert_array_equal(labels[image][flag], expected[2])
    return valid.sum(1)


@pytest.mark.parametrize("kind", ["kernel", "matrix"])
def test_agrees_with_numpy(kind):
    outcome = _detect(kind=kind)
    assert [part.shape for part in outcome] == [(2, 15, 4), (2, 15), (2, 15), (2, 15)]
    assert [part.dtype for part in outcome] == [np.float32, np.float32, np.int32, np.bool_]
    assert (_check(outcome) >= 10).all()


@pytest.mark.parametrize(
    "change",
    [
        {"score_threshold": 0.6},
        {"max_candidates": 8},
        {"max_per_image": 4},
        {"threshold": 0.2},
        {"nms": "agnostic"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_changes_the_outcome(change):
    base = {"max_per_image": 100}  # more than there are: no other limit hides the effect
    usual = _check(_detect(**base), **base)
    changed = _check(_detect(**{**base, **change}), **{**base, **change})
    assert (changed > 0).all() and (changed < usual).all()


def test_zero_candidates_means_all():
    changes = {"max_candidates": 0, "max_per_image": 100, "score_threshold": 0.0}
    all_of_them = _check(_detect(**changes), **changes)
    some = _check(_detect(**{**changes, "max_candidates": 40}), **{**changes, "max_candidates": 40})
    assert (all_of_them > some).all()


def test_scores_fall_and_what_is_not_valid_is_zero():
    boxes, scores, labels, valid = _detect(score_threshold=0.5)
    assert valid.any(1).all() and not valid.all(1).any()
    assert (np.diff(scores, axis=1) <= 0).all()
    assert (labels[valid] >= 1).all() and (labels[valid] <= CLASSES).all()
    assert (scores[valid] > 0.5).all()
    assert (boxes[~valid] == 0).all() and (scores[~valid] == 0).all()
    assert (labels[~valid] == 0).all()


def test_boxes_end_at_each_image_s_own_border():
    boxes, _, _, valid = _detect()
    for image, (height, width) in enumerate(BOUNDS):
        assert (boxes[image] >= 0).all()
        assert (boxes[image][valid[image]] <= [width, height, width, height]).all()


def test_invalid_rois_never_come_out_whatever_their_score():
    """One RoI with an overwhelming score, once valid and once not; even at threshold 0."""
    logits = LOGITS.copy()
    logits[0] = (-20, 20, -20, -20)
    for flag in (True, False):
        roi_valid = np.zeros_like(ROI_VALID)
        roi_valid[0, 0] = flag
        _, scores, labels, valid = _detect(roi_valid, logits, score_threshold=0.0)
        assert (valid[0, 0], not valid[1].any()) == (flag, True)
        if flag:
            assert labels[0, 0] == 1 and scores[0, 0] > 0.999
        else:
            assert not valid.any()


def test_nothing_found_is_all_zero():
    logits = np.zeros_like(LOGITS)
    logits[:, 0] = 30.0  # background everywhere
    for part in _detect(logits=logits):
        assert not part.any()


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_no_box_comes_out_empty_or_inside_out(offset):
    """A legacy width of half a pixel would end before it starts."""
    deltas = DELTAS.copy()
    deltas[::2, :, 2] = -20.0  # exp(-4) of 8 to 25 px
    cell = _cell(offset=offset, max_per_image=100)
    boxes, _, _, valid = in_graph(cell, LOGITS, deltas, ROIS, ROI_VALID, BOUNDS, 96)
    sides = (boxes[..., 2:] - boxes[..., :2])[valid]
    assert len(sides) > 10 and (sides >= 0.009).all()
    assert (sides[:, 0] < 1).any() == (offset == 0)
