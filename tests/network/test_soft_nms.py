# SPDX-License-Identifier: Apache-2.0
"""Soft-NMS, as a graph and as a C++ operator, against the paper's loop in float64."""

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mindspore import nn

from src.detector import build_detector
from src.FasterRcnn.merged_views import MergedViews
from src.FasterRcnn.nms import HardNms
from src.FasterRcnn.soft_nms import SoftNms, soft_nms_rounds
from src.model_utils.configuration.derived import lowest_score
from src.native import build
from src.native.operators import NativeSoftNms, use_native_operators
from tests.helpers.colour_detector import selector
from tests.helpers.network_helpers import small_config, tensors
from tests.helpers.plain_boxes import box_arrays, in_graph, plain_iou

EXTENT, BATCH, NUMBER, CLASSES = 64, 2, 8, 3
KINDS = ("soft_linear", "soft_gaussian")
FORMS = ("loop", "operator")
THRESHOLD, SIGMA, LEAST = 0.3, 0.5, 0.05


def plain_soft_nms(boxes, scores, valid, classes, kind, *, per_class=True, most=NUMBER):
    """Soft-NMS of one image as in figure 2 of Bodla et al. (2017), class by class -> new scores.

    The best `most` over all classes are left, as a detector's limit leaves them.
    """
    found = np.zeros(len(boxes))
    overlaps = plain_iou(boxes, boxes, 0.0)
    for group in set(classes.tolist()) if per_class else [None]:
        current = scores.astype(np.float64)
        member = valid if group is None else valid & (classes == group)
        left = [i for i in np.flatnonzero(member) if scores[i] >= LEAST]
        while left:
            best = max(left, key=lambda i: (current[i], -i))
            found[best] = current[best]
            left.remove(best)
            for i in left:
                iou = overlaps[best, i]
                if kind == "soft_gaussian":
                    current[i] *= np.exp(-(iou**2) / SIGMA)
                elif iou > THRESHOLD:
                    current[i] *= 1 - iou
            left = [i for i in left if current[i] >= LEAST]
    found[np.argsort(-found, kind="stable")[most:]] = 0
    return found


def cell_of(kind, form, **changes):
    """A `SoftNms` in one of its forms."""
    settings_of = {"per_class": True, "min_score": LEAST, "most": NUMBER, **changes}
    cell = SoftNms(kind, iou_threshold=THRESHOLD, sigma=SIGMA, **settings_of)
    assert soft_nms_rounds(cell) == settings_of["most"]
    if form == "operator":
        library, why_not = build._try_once()
        if library is None:
            pytest.skip(f"the C++ operators cannot be compiled: {why_not}")
        assert use_native_operators(cell, library) == 1
        assert isinstance(cell.take, NativeSoftNms)
    return cell


CELLS = {}


def soft(kind, form, boxes, scores, valid, classes, **changes):
    """New scores; one Cell, and so one graph, for each form."""
    key = (kind, form, *changes.items(), boxes.shape)
    if key not in CELLS:
        CELLS[key] = cell_of(kind, form, **changes)
    return in_graph(CELLS[key], boxes, scores, valid, EXTENT, classes, CLASSES)


def expected(kind, boxes, scores, valid, classes, **changes):
    """The same of every image by the loop."""
    images = zip(boxes, scores, valid, classes, strict=True)
    return np.stack([plain_soft_nms(*image, kind, **changes) for image in images])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(
    boxes=box_arrays((BATCH, NUMBER), high=24, longest=16, steps=1),
    ranks=st.permutations(range(NUMBER)),
    valid=hnp.arrays(np.bool_, (BATCH, NUMBER)),
    classes=hnp.arrays(np.int32, (BATCH, NUMBER), elements=st.integers(0, CLASSES - 1)),
)
def test_every_form_agrees_with_the_loop(kind, boxes, ranks, valid, classes):
    # Scores in no order, and no two that decays on this lattice make equal.
    scores = np.stack([0.97 ** np.array(ranks), 0.83 ** np.array(ranks)]).astype(np.float32)
    wanted = expected(kind, boxes, scores, valid, classes)
    for form in FORMS:
        found = soft(kind, form, boxes, scores, valid, classes)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6, err_msg=form)


def crowd(number=60, seed=0):
    """Boxes around a few places, best first, of some classes."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(15, 45, (BATCH, 6, 2))[:, rng.integers(0, 6, number)]
    corners = centres + rng.normal(0, 2, (BATCH, number, 2)) - 8
    boxes = np.concatenate([corners, corners + rng.uniform(10, 16, (BATCH, number, 2))], -1)
    scores = -np.sort(-rng.uniform(0.06, 1, (BATCH, number)), 1)
    classes = rng.integers(0, CLASSES, (BATCH, number)).astype(np.int32)
    return (
        boxes.astype(np.float32),
        scores.astype(np.float32),
        rng.random((BATCH, number)) < 0.9,
        classes,
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changes", [{"most": 7}, {"per_class": False, "most": 60}])
def test_the_best_of_many_boxes(kind, form, changes):
    inputs = crowd()
    wanted = expected(kind, *inputs, **changes)
    found = soft(kind, form, *inputs, **changes)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert ((found > 0).sum(1) > 6).all() and (found <= inputs[1]).all()
    assert (found[found > 0] >= LEAST).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_boxes_without_an_area_are_left_alone(kind, form):
    boxes = np.tile(np.float32([9, 9, 9, 20]), (BATCH, NUMBER, 1))
    boxes[:, 1] = (12, 12, 11, 11)
    scores = np.full((BATCH, NUMBER), 0.5, np.float32)
    classes = np.zeros((BATCH, NUMBER), np.int32)
    found = soft(kind, form, boxes, scores, np.ones((BATCH, NUMBER), bool), classes)
    np.testing.assert_array_equal(found, scores)


def test_the_keys_choose_it():
    config = small_config(
        test_nms="agnostic", test_nms_kind="soft_linear", test_nms_sigma=0.3, test_iou_thr=0.4
    )
    suppression = build_detector(config).detections.suppression
    assert isinstance(suppression, SoftNms) and not suppression.per_class
    plain = build_detector(config.replace(cpu_kernels="off")).detections.suppression.take
    assert (plain.kind, plain.iou_threshold, plain.sigma) == ("soft_linear", 0.4, 0.3)
    assert (plain.min_score, plain.most) == (0.001, 20)
    assert isinstance(build_detector(small_config()).detections.suppression, HardNms)


def test_the_lowest_score_of_a_report():
    config = small_config(test_score_thr=0.05)
    assert lowest_score(config) == 0.05
    assert lowest_score(config.replace(test_nms_kind="soft_linear")) == 0.001
    softly = config.replace(test_nms_kind="soft_gaussian", test_nms_min_score=0.2)
    assert lowest_score(softly) == 0.2


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="'hard' is none of soft_linear, soft_gaussian"):
        cell_of("hard", "loop")


class _Alone(nn.Cell):
    """Soft-NMS as a network of its own."""

    def __init__(self, form):
        super().__init__()
        self.soft_nms = cell_of("soft_gaussian", form, most=12)

    def construct(self, boxes, scores, valid, classes):
        return self.soft_nms(boxes, scores, valid, EXTENT, classes, CLASSES)


def test_the_loop_is_in_a_mindir_file(tmp_path):
    inputs = crowd(30)
    wanted = expected("soft_gaussian", *inputs, most=12)
    ms.export(_Alone("loop"), *tensors(inputs), file_name=str(tmp_path / "a"), file_format="MINDIR")
    found = nn.GraphCell(ms.load(str(tmp_path / "a.mindir")))(*tensors(inputs))
    np.testing.assert_allclose(found.asnumpy(), wanted, rtol=1e-5, atol=1e-6)


def test_the_merge_of_several_views_lowers_scores_too():
    """What enters may be in any order."""
    boxes, scores, valid, classes = (part[:, ::-1].copy() for part in crowd())
    last = selector()
    last.suppression = cell_of("soft_linear", "loop", most=20)
    outcome = in_graph(MergedViews(last, EXTENT, CLASSES), boxes, scores, classes, valid)
    wanted = expected("soft_linear", boxes, scores, valid, classes, most=20)
    np.testing.assert_allclose(outcome[1], -np.sort(-wanted, 1)[:, :20], rtol=1e-5, atol=1e-6)
    assert (outcome[1] < np.take_along_axis(scores, np.argsort(-wanted, 1)[:, :20], 1)).any()
