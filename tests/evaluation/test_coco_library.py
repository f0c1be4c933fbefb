# SPDX-License-Identifier: Apache-2.0
"""COCO's numbers from faster-coco-eval and from pycocotools: the same, up to float64's last bit."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.evaluation import coco_library
from src.evaluation.coco import evaluate_results
from tests.helpers.jittered_boxes import drawn_truth, jittered_results

NAMES = ("a", "b", "c")
_SIDES = st.tuples(*[st.integers(0, 6)] * 2, *[st.integers(1, 6)] * 2)  # of boxes that often tie
_WHERE = st.integers(1, 3), st.integers(1, 2)


def _without_faster(patch):
    """As where faster-coco-eval is not installed."""
    patch.setitem(sys.modules, "faster_coco_eval", None)


def _both(data, results, names=NAMES, **changes):
    """The summaries of both libraries."""
    pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")
    faster = evaluate_results(data, results, names, **changes)
    with pytest.MonkeyPatch.context() as patch:
        _without_faster(patch)
        return faster, evaluate_results(data, results, names, **changes)


def _assert_equal(faster, plain):
    """Up to the last bit: pycocotools adds a tiny number to what it divides by."""
    np.testing.assert_allclose(faster.stats, plain.stats, rtol=1e-15, atol=0)
    assert faster.lines == plain.lines and faster.notes == plain.notes
    for ours, theirs in zip(faster.per_class, plain.per_class, strict=True):
        assert ours == replace(theirs, ap=ours.ap, ap50=ours.ap50)
        np.testing.assert_allclose([ours.ap, ours.ap50], [theirs.ap, theirs.ap50], rtol=1e-15)
    for name in ("precision", "scores", "recall"):
        ours, theirs = getattr(faster.evidence, name), getattr(plain.evidence, name)
        assert ours.dtype == theirs.dtype == np.float64
        np.testing.assert_allclose(ours, theirs, rtol=1e-15 if name == "precision" else 0, atol=0)


def test_which_library_is_taken(monkeypatch):
    faster = pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")
    assert coco_library._library() == (faster.COCO, faster.COCOeval_faster)
    _without_faster(monkeypatch)
    assert {part.__module__ for part in coco_library._library()} == {
        "pycocotools.coco",
        "pycocotools.cocoeval",
    }


@pytest.mark.parametrize("max_detections", [100, 300])
def test_a_middling_detector(max_detections):
    """Crowds, images without boxes, false and double detections, another class."""
    data = drawn_truth(NAMES, images=60, crowds=12, seed=1)
    results = jittered_results(data, seed=2)
    faster, plain = _both(data, results, max_detections=max_detections)
    assert 0.1 < plain.ap < 0.9
    _assert_equal(faster, plain)


def test_more_detections_than_count():
    data = drawn_truth(NAMES, images=3, boxes=40, seed=3)
    results = [
        {**result, "score": result["score"] * factor, "bbox": [v + shift for v in result["bbox"]]}
        for factor, shift in ((1, 0), (0.9, 2), (0.8, 5), (0.5, 40), (0.4, -9), (0.3, 15))
        for result in jittered_results(data, seed=4)
        for _ in range(5)
    ]
    faster, plain = _both(data, results)
    assert "the best 100 count" in plain.notes[0]
    _assert_equal(faster, plain)


def _annotation(image=1, label=1, box=(10, 10, 50, 50), **more):
    return {"image_id": image, "category_id": label, "bbox": list(map(float, box)), **more}


_CASES = {
    "no detections": ([_annotation()], []),
    "no boxes": ([], [_annotation(score=0.5)]),
    "neither": ([], []),
    "a class without detections": ([_annotation(), _annotation(label=2)], [_annotation(score=0.5)]),
    "a class without boxes": (
        [_annotation()],
        [_annotation(score=0.5), _annotation(label=2, score=0.9)],
    ),
    "crowds only": ([_annotation(iscrowd=1)], [_annotation(score=0.5), _annotation(score=0.4)]),
    "ignore has no effect": (
        [_annotation(ignore=1), _annotation(image=2, ignore=1, iscrowd=1), _annotation(image=3)],
        [_annotation(score=0.5), _annotation(image=2, score=0.4), _annotation(image=3, score=0.3)],
    ),
    "areas that are not the box's": (
        [
            _annotation(area=100.0),
            _annotation(image=2, area=32.0**2),
            _annotation(image=3, area=1e11),
        ],
        [_annotation(image=image, score=0.5) for image in (1, 2, 3)],
    ),
    "scores that are equal": (
        [_annotation(), _annotation(box=(12, 10, 50, 50))],
        [_annotation(box=(10 + shift, 10, 50, 50), score=0.5) for shift in (1, 0, 2, 1)],
    ),
    "boxes without a size": (
        [_annotation(box=(5, 5, 0, 0)), _annotation()],
        [_annotation(box=(5, 5, 0, 0), score=0.5), _annotation(score=0.2)],
    ),
}


@pytest.mark.parametrize("case", _CASES)
def test_a_case_of_few_boxes(case):
    annotations, results = _CASES[case]
    data = {
        "images": [{"id": image} for image in (1, 2, 3)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    _assert_equal(*_both(data, results, ("a", "b")))


@settings(deadline=None)
@given(
    st.lists(st.tuples(*_WHERE, _SIDES, st.integers(0, 1)), max_size=12),
    st.lists(st.tuples(*_WHERE, _SIDES, st.sampled_from([0.2, 0.5, 0.9])), max_size=20),
)
def test_any_boxes(true, found):
    data = {
        "images": [{"id": image} for image in (1, 2, 3)],
        "annotations": [_annotation(*where, iscrowd=crowd) for *where, crowd in true],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    results = [_annotation(*where, score=score) for *where, score in found]
    _assert_equal(*_both(data, results, ("a", "b")))


def test_the_numbers_of_a_table():
    arrays = coco_library.CocoArrays(
        precision=np.full((2, 101, 1, 2, 2), -1.0),
        scores=np.full((2, 101, 1, 2, 2), -1.0),
        recall=np.array([0.5, 0.25]).reshape(2, 1, 1, 1) * np.ones((2, 1, 2, 2)),
        thresholds=np.array([0.5, 0.75]),
        sizes=("all", "small"),
        max_detections=(1, 100),
    )
    assert arrays.mean("precision", "all", 100) == -1.0
    assert arrays.mean("recall", "small", 1) == 0.375
    assert arrays.mean("recall", "all", 1, threshold=0.75) == 0.25
