# SPDX-License-Identifier: Apache-2.0
"""The regression losses by their names, and that each stage gets its own."""

import numpy as np
import pytest

from src.detector import build_detector, build_loss
from src.FasterRcnn.box_losses import L1Loss, SmoothL1Loss, build_box_loss
from src.FasterRcnn.box_ops import BoxCoder
from src.FasterRcnn.nms import build_suppression
from tests.helpers.network_helpers import small_config
from tests.helpers.plain_boxes import in_graph

CODER = BoxCoder((0.0,) * 4, (1.0,) * 4, 0.0)
RNG = np.random.default_rng(4)
DELTAS, TARGETS = RNG.normal(0, 0.4, (2, 5, 7, 4)).astype(np.float32)


@pytest.mark.parametrize("beta", [1 / 9, 1.0])
def test_smooth_l1_is_square_near_zero_and_linear_beyond_beta(beta):
    difference = np.abs(DELTAS - TARGETS)
    square = difference**2 / (2 * beta)
    expected = np.where(difference < beta, square, difference - beta / 2).sum(-1)
    found = in_graph(build_box_loss("smooth_l1", CODER, beta), DELTAS, TARGETS)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_l1_is_the_distance():
    found = in_graph(build_box_loss("l1", CODER, 1.0), DELTAS, TARGETS)
    np.testing.assert_allclose(found, np.abs(DELTAS - TARGETS).sum(-1), rtol=1e-5)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="'giou-2' is none of smooth_l1, l1"):
        build_box_loss("giou-2", CODER, 1.0)
    with pytest.raises(ValueError, match="'none' is none of per_class, agnostic"):
        build_suppression("none", None)


def test_each_stage_has_the_loss_that_its_key_names():
    config = small_config(rpn_loss_beta=0.5, rcnn_box_loss="l1")
    loss = build_loss(build_detector(config), config)
    assert isinstance(loss.rpn_loss.box_loss, SmoothL1Loss) and loss.rpn_loss.box_loss.beta == 0.5
    assert isinstance(loss.rcnn_loss.box_loss, L1Loss)
