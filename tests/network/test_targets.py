# SPDX-License-Identifier: Apache-2.0
"""Targets of both stages: who may become a sample, and what it is told."""

import numpy as np
import pytest

from src.FasterRcnn.anchor_generator import pyramid_anchors
from src.FasterRcnn.bbox_assign_sample import BboxAssignSample
from src.FasterRcnn.bbox_assign_sample_stage2 import BboxAssignSampleForRcnn
from src.FasterRcnn.box_ops import BoxCoder
from src.FasterRcnn.matcher import Matcher
from src.FasterRcnn.names import feature_shapes
from src.FasterRcnn.sampling import BalancedSampler
from tests.helpers.plain_boxes import in_graph, plain_iou

STRIDES = (8, 16)
KEYS = np.array([11, -12], np.int32)
# The first image fills the 96 x 128 canvas, of the second only 64 x 80 px are image.
BOUNDS = np.array([[96, 128], [64, 80]], np.float32)
GT_BOXES = np.array(
    [
        [[10, 10, 50, 50], [70, 20, 100, 80], [0, 0, 0, 0]],
        [[5, 5, 40, 40], [30, 20, 70, 60], [10, 10, 40, 50]],
    ],
    np.float32,
)
GT_VALID = np.array([[True, True, False], [True, False, False]])
GT_CROWD = np.array([[False, False, False], [False, True, False]])  # box 2 of image 1: padding
GT_LABELS = np.array([[3, 1, 0], [2, 1, 2]], np.int32)


def _anchors(offset):
    levels = pyramid_anchors(feature_shapes(96, 128, STRIDES), STRIDES, (4,), (0.5, 1, 2), offset)
    return np.concatenate(levels)


def _first_stage(offset, anchor_filter, num_pos=2000, num_total=2000):
    """By default every candidate is a sample."""
    return BboxAssignSample(
        Matcher(0.7, 0.3, 0.3, steal=True),
        BalancedSampler(num_pos, num_total),
        BoxCoder((0.0,) * 4, (1.0,) * 4, offset),
        offset,
        anchor_filter,
    )


def _assign(cell, offset, valid=GT_VALID, crowd=GT_CROWD):
    return in_graph(cell, _anchors(offset), BOUNDS, GT_BOXES, valid, crowd, KEYS)


def _is_inside(anchors, bounds, offset, anchor_filter):
    height, width = bounds
    if anchor_filter == "inside":
        ends = (anchors[:, 2] + offset <= width) & (anchors[:, 3] + offset <= height)
        return ends & (anchors[:, 0] >= 0) & (anchors[:, 1] >= 0)
    if anchor_filter == "centred":
        centre = 0.5 * (anchors[:, :2] + anchors[:, 2:])
        return (centre[:, 0] < width) & (centre[:, 1] < height)
    return np.ones(len(anchors), bool)


@pytest.mark.parametrize("anchor_filter", ["inside", "centred", "all"])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_first_stage_samples(offset, anchor_filter):
    anchors = _anchors(offset)
    index, is_object, chosen, targets = _assign(_first_stage(offset, anchor_filter), offset)
    assert np.isfinite(targets).all()
    for image in range(2):
        inside = _is_inside(anchors, BOUNDS[image], offset, anchor_filter)
        valid = GT_VALID[image]
        overlaps = plain_iou(anchors, GT_BOXES[image][valid], offset) * inside[:, None]
        top = overlaps.max(0)
        assert (top > 0.3).all()
        positive = (overlaps >= 0.7).any(1) | (overlaps >= top - 1e-6).any(1)
        crowd = GT_BOXES[image][GT_CROWD[image]]
        in_crowd = (plain_iou(anchors, crowd, offset, "iof") > 0.5).any(1)
        negative = (overlaps < 0.3).all(1) & ~positive & ~in_crowd & inside
        samples = index[image][chosen[image]]
        objects = index[image][is_object[image]]
        assert set(objects.tolist()) == set(np.flatnonzero(positive & inside).tolist())
        assert set(samples.tolist()) - set(objects.tolist()) == set(np.flatnonzero(negative))
        # The crowd region does shield some anchors, and the padding does hold some.
        assert image == 0 or (in_crowd & inside & (overlaps < 0.3).all(1)).any()
        for place in np.flatnonzero(is_object[image]):
            anchor = anchors[index[image, place]].astype(np.float64)
            own = GT_BOXES[image][valid][overlaps[index[image, place]].argmax()]
            side = anchor[2:] - anchor[:2] + offset
            shift = (own[:2] + own[2:] - anchor[:2] - anchor[2:]) / 2 / side
            growth = np.log((own[2:] - own[:2] + offset) / side)
            np.testing.assert_allclose(
                targets[image, place], np.concatenate([shift, growth]), atol=1e-4
            )


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_first_stage_never_samples_the_padding(offset):
    anchors = _anchors(offset)
    index, _, chosen, _ = _assign(_first_stage(offset, "inside"), offset)
    for image, (height, width) in enumerate(BOUNDS):
        samples = anchors[index[image][chosen[image]]]
        assert len(samples) and (samples[:, :2] >= 0).all()
        assert (samples[:, 2] + offset <= width).all()
        assert (samples[:, 3] + offset <= height).all()
    assert not chosen[1].all(), "the second image has fewer anchors inside than places"


def test_first_stage_without_boxes_has_negatives_only():
    nothing = np.zeros_like(GT_VALID)
    cell = _first_stage(1.0, "inside", num_pos=8, num_total=16)
    _, is_object, chosen, targets = _assign(cell, 1.0, nothing, nothing)
    assert not is_object.any() and chosen.all() and np.isfinite(targets).all()
    _, is_object, chosen, _ = _assign(cell, 1.0)
    assert is_object.any(1).all() and chosen[0].all()


def test_unknown_anchor_filter():
    with pytest.raises(ValueError, match="'outside' is none of"):
        _first_stage(1.0, "outside")


PROPOSALS = np.array(
    [
        [[12, 10, 52, 50], [60, 60, 90, 90], [70, 20, 100, 80], [0, 0, 20, 20], [9, 9, 49, 49]],
        [[5, 5, 40, 42], [32, 22, 70, 60], [10, 10, 40, 50], [50, 0, 70, 12], [60, 40, 79, 63]],
    ],
    np.float32,
)
PROPOSAL_VALID = np.array([[True, True, True, True, False], [True] * 4 + [False]])
STDS = (0.1, 0.1, 0.2, 0.2)


def _second_stage(offset, num_pos=8, num_total=8):
    return BboxAssignSampleForRcnn(
        Matcher(0.5, 0.5, 0.5, steal=True),
        BalancedSampler(num_pos, num_total),
        BoxCoder((0.0,) * 4, STDS, offset),
        offset,
    )


def _assign_rois(cell, valid=GT_VALID, crowd=GT_CROWD, proposal_valid=PROPOSAL_VALID):
    return in_graph(cell, PROPOSALS, proposal_valid, GT_BOXES, GT_LABELS, valid, crowd, KEYS)


def _rows(boxes):
    return {tuple(row) for row in np.asarray(boxes).tolist()}


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_second_stage_samples(offset):
    rois, labels, chosen, targets = _assign_rois(_second_stage(offset))
    assert labels.dtype == np.int32 and np.isfinite(targets).all()
    # Image 0: both boxes themselves, the proposals on them; the invalid proposal 4 is left out.
    first = {
        tuple(roi): label
        for roi, label, flag in zip(rois[0].tolist(), labels[0], chosen[0], strict=True)
        if flag
    }
    assert first == {
        (10, 10, 50, 50): 3,
        (70, 20, 100, 80): 1,
        (12, 10, 52, 50): 3,
        (60, 60, 90, 90): 0,
        (0, 0, 20, 20): 0,
    }
    # Image 1: proposal 1 lies in the crowd region and is neither; proposal 2 fits the padded box
    # but overlaps the real one enough to be its positive.
    second = {
        tuple(roi): label
        for roi, label, flag in zip(rois[1].tolist(), labels[1], chosen[1], strict=True)
        if flag
    }
    overlap = plain_iou(PROPOSALS[1, 2:3], GT_BOXES[1, :1], offset)[0, 0]
    expected = {(5, 5, 40, 40): 2, (5, 5, 40, 42): 2, (50, 0, 70, 12): 0}
    expected[10, 10, 40, 50] = 2 if overlap >= 0.5 else 0
    assert second == expected


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_second_stage_targets_lead_to_the_own_box(offset):
    rois, labels, _, targets = _assign_rois(_second_stage(offset))
    place = rois[0].tolist().index([12, 10, 52, 50])
    side = 40 + offset
    np.testing.assert_allclose(targets[0, place], [-2 / side / 0.1, 0, 0, 0], atol=1e-4)
    itself = rois[0].tolist().index([70, 20, 100, 80])
    np.testing.assert_allclose(targets[0, itself], 0, atol=1e-5)
    assert labels[0, place] == 3 and labels[0, itself] == 1


def test_second_stage_positives_come_first_and_are_limited():
    _, labels, chosen, _ = _assign_rois(_second_stage(1.0, num_pos=2, num_total=4))
    assert (labels[:, :2] > 0).all() and (labels[:, 2:] == 0).all()
    assert chosen.sum(1).tolist() == [4, 3]  # the second image has one negative only


def test_second_stage_without_boxes_has_background_only():
    nothing = np.zeros_like(GT_VALID)
    rois, labels, chosen, targets = _assign_rois(_second_stage(0.0), nothing, nothing)
    assert (labels == 0).all() and np.isfinite(targets).all()
    for image in range(2):
        assert _rows(rois[image][chosen[image]]) == _rows(PROPOSALS[image, :4])


def test_second_stage_without_proposals_trains_on_the_boxes_alone():
    rois, labels, chosen, targets = _assign_rois(
        _second_stage(0.0), proposal_valid=np.zeros_like(PROPOSAL_VALID)
    )
    assert chosen.sum(1).tolist() == [2, 1] and np.isfinite(targets).all()
    assert _rows(rois[0][chosen[0]]) == _rows(GT_BOXES[0, :2])
    np.testing.assert_allclose(targets[chosen], 0, atol=1e-5)
