# SPDX-License-Identifier: Apache-2.0
"""The numbers of evaluation_report.json: against pycocotools, by hand, and by what must add up."""

import json
from itertools import pairwise
from typing import get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from src.base.errors import UserError
from src.evaluation.analysis import schema
from src.evaluation.analysis.error_kinds import error_costs, error_kinds
from src.evaluation.analysis.matching import NONE, box_iou, match_detections
from src.evaluation.analysis.precision import (
    average_precision,
    best_threshold,
    operating_point,
    ranking,
)
from src.evaluation.analysis.report import analyse, show_report, write_report
from src.evaluation.analysis.scores import calibration, score_distribution
from src.evaluation.analysis.text import report_lines
from src.evaluation.coco import evaluate_results
from tests.helpers.evaluation_reports import sample_evaluation_report
from tests.helpers.jittered_boxes import drawn_truth, jittered_results

SUBJECT = {"detector": "", "epoch": None, "annotations": "", "image_folder": None, "results": None}
SIDES = st.tuples(*[st.integers(0, 6)] * 2, *[st.integers(1, 6)] * 2)  # of boxes that often tie


def _annotations(boxes):
    """COCO annotations of (image, class, box, crowd), with classes 1 and 2."""
    return {
        "images": [{"id": image} for image in (1, 2, 3)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": label,
                "bbox": list(map(float, box)),
                "area": float(box[2] * box[3]),
                "iscrowd": int(crowd),
            }
            for number, (image, label, box, crowd) in enumerate(boxes, start=1)
        ],
    }


def _results(boxes):
    """COCO results of (image, class, box, score)."""
    return [
        {"image_id": image, "category_id": label, "bbox": list(map(float, box)), "score": score}
        for image, label, box, score in boxes
    ]


def _analysed(data, results, **changes):
    names = [category["name"] for category in data["categories"]]
    summary = evaluate_results(data, results, names, **changes)
    return summary, analyse(summary, data["images"], SUBJECT)


@pytest.fixture(scope="module")
def drawn():
    """Annotations with crowds, results, COCO's summary and the report."""
    data = drawn_truth(("a", "b", "c"), images=40, crowds=8, seed=3)
    results = jittered_results(data, seed=4)
    return data, results, *_analysed(data, results)


# ------------------------------------------------------------------- against pycocotools


@given(st.lists(SIDES, min_size=1), st.lists(st.tuples(SIDES, st.booleans()), min_size=1))
def test_overlaps_are_those_of_pycocotools(detected, true):
    boxes, crowd = (np.array(column) for column in zip(*true, strict=True))
    found = np.array(detected, np.float64)
    expected = mask.iou(found, boxes.astype(np.float64), crowd.astype(np.uint8).tolist())
    np.testing.assert_array_equal(box_iou(found, boxes.astype(np.float64), crowd), expected)


_IMAGES, _LABELS = st.integers(1, 3), st.integers(1, 2)


@settings(deadline=None)
@given(
    st.lists(st.tuples(_IMAGES, _LABELS, SIDES, st.booleans()), min_size=1, max_size=12),
    st.lists(st.tuples(_IMAGES, _LABELS, SIDES, st.sampled_from([0.2, 0.5, 0.9])), max_size=20),
)
def test_matches_are_those_of_pycocotools(true, found):
    """Ties of scores and overlaps, and crowds, too."""
    data, results = _annotations(true), _results(found)
    matches = match_detections(evaluate_results(data, results, ["a", "b"]).evidence)
    ours = {
        key: sorted(
            zip(matches.found.score[own], matches.correct[own], matches.ignored[own], strict=True)
        )
        for key in ((image, label) for image in (1, 2, 3) for label in (1, 2))
        for own in [(matches.found.image == key[0] - 1) & (matches.found.label == key[1] - 1)]
    }
    theirs = dict.fromkeys(ours, [])
    for item in _pycocotools(data, results).evalImgs:
        if item and item["aRng"] == [0, 1e10]:
            ignored = np.array(item["dtIgnore"][0], bool)
            correct = (np.array(item["dtMatches"][0]) > 0) & ~ignored
            theirs[item["image_id"], item["category_id"]] = sorted(
                zip(item["dtScores"], correct, ignored, strict=True)
            )
    assert ours == theirs


def _pycocotools(data, results):
    truth, found = COCO(), COCO()
    truth.dataset = data
    numbered = [
        {**result, "id": n, "area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
        for n, result in enumerate(results, start=1)
    ]
    found.dataset = {**data, "annotations": numbered}
    truth.createIndex()
    found.createIndex()
    evaluation = COCOeval(truth, found, "bbox")
    evaluation.evaluate()
    return evaluation


def test_numbers_are_those_of_the_evaluation(drawn):
    _, results, summary, report = drawn
    stats = [None if value < 0 else round(value, 6) for value in summary.stats.tolist()]
    assert list(report["summary"].values()) == stats
    assert report["errors"]["ap50"] == pytest.approx(summary.ap50, abs=1e-6)
    assert report["counts"]["detections"] == len(results)
    for row, known in zip(report["classes"], summary.per_class, strict=True):
        assert (row["name"], row["detections"]) == (known.name, known.num_detections)
        assert row["boxes"]["all"] == known.num_boxes
        assert row["ap"] == pytest.approx(known.ap, abs=1e-6)
        assert row["ap50"] == pytest.approx(known.ap50, abs=1e-6)
        assert np.mean(row["precision"]["mean"]) == pytest.approx(known.ap, abs=1e-6)
        assert np.mean(row["precision"]["iou50"]) == pytest.approx(known.ap50, abs=1e-6)
    curve = report["overall"]["precision"]
    assert np.mean(curve["mean"]) == pytest.approx(summary.ap, abs=1e-6)
    assert np.mean(curve["iou75"]) == pytest.approx(summary.stats[2], abs=1e-6)


def test_a_class_shows_the_recall_that_its_threshold_promises(drawn):
    report = drawn[3]
    for row in report["classes"]:
        recalls = np.array(row["curves"]["recall"])
        reached = [score for score in row["score_at_recall"] if score is not None]
        assert reached and all(first >= second for first, second in pairwise(reached))
        for recall, score in zip(report["recall_points"], row["score_at_recall"], strict=True):
            below = np.flatnonzero(np.array(report["score_thresholds"]) <= (score or 0.0)).max()
            assert (score is None) == (recalls.max() < recall)
            assert score is None or recalls[below] >= recall - 1e-6


# ------------------------------------------------------------------- arithmetic

SCORED = st.lists(st.tuples(st.sampled_from([0.1, 0.3, 0.35, 0.8]), st.booleans()), max_size=12)


@given(SCORED, st.integers(0, 5))
def test_the_best_threshold_is_the_best(scored, more):
    ranked = ranking(
        np.array([score for score, _ in scored]),
        np.array([correct for _, correct in scored], bool),
        sum(correct for _, correct in scored) + more,
    )
    chosen = best_threshold(ranked)
    if not ranked.correct.any():
        assert chosen is None
        return
    f1 = {score: operating_point(ranked, score)["f1"] for score in set(ranked.scores.tolist())}
    assert f1[chosen] == max(f1.values())
    assert all(value < f1[chosen] for score, value in f1.items() if score > chosen)


def test_an_operating_point_by_hand():
    ranked = ranking(np.array([0.2, 0.9, 0.5, 0.5]), np.array([True, True, False, True]), 4)
    assert operating_point(ranked, 0.5) == {
        "threshold": 0.5,
        "precision": round(2 / 3, 6),
        "recall": 0.5,
        "f1": round(4 / 7, 6),
        "correct": 2,
        "false": 1,
        "missed": 2,
    }
    nothing = operating_point(ranked, 0.95)
    assert (nothing["precision"], nothing["recall"], nothing["f1"]) == (None, 0.0, 0.0)
    assert average_precision(ranking(np.zeros(0), np.zeros(0, bool), 3)) == 0.0


def test_calibration_by_hand():
    found = calibration(np.array([0.1, 0.14, 0.95, 1.0]), np.array([False, True, True, True]))
    filled = {bin["low"]: bin for bin in found["bins"] if bin["count"]}
    assert {low: bin["count"] for low, bin in filled.items()} == {0.1: 2, 0.9: 2}
    assert (filled[0.1]["score"], filled[0.1]["precision"]) == (0.12, 0.5)
    assert found["error"] == pytest.approx((2 * 0.38 + 2 * 0.025) / 4)
    assert found["largest_error"] == pytest.approx(0.38)
    assert calibration(np.zeros(0), np.zeros(0, bool))["error"] is None


def test_scores_by_hand():
    found = score_distribution((np.arange(100) + 0.5) / 100)
    assert (found["count"], found["mean"], found["min"], found["max"]) == (100, 0.5, 0.005, 0.995)
    assert (found["above_99"], found["above_99_9"]) == (0.015, 0.005)
    assert found["histogram"] == [5] * 20


# ------------------------------------------------------------------- errors by hand

A, B = (0, 0, 100, 100), (300, 0, 100, 100)
CASES = {  # detection of class a beside boxes A of class a and B of class b; what it is
    "correct": (1, (0, 0, 100, 90)),
    "localisation": (1, (0, 0, 100, 40)),
    "classification": (1, (300, 0, 100, 90)),
    "both": (1, (300, 0, 100, 40)),
    "background": (1, (500, 500, 50, 50)),
}


@pytest.mark.parametrize("kind", CASES)
def test_kinds_of_single_detections(kind):
    label, box = CASES[kind]
    data = _annotations([(1, 1, A, False), (1, 2, B, False)])
    _, report = _analysed(data, _results([(1, label, box, 0.9)]))
    counts = {name: cost["count"] for name, cost in report["errors"]["kinds"].items()}
    picture = report["pictures"]["worst"][0]
    assert picture["detections"][0]["verdict"] == kind
    # A box that a detection of the wrong class or place is about is not missed.
    missed = {"correct": 1, "localisation": 1, "classification": 1, "both": 2, "background": 2}
    expected = dict.fromkeys(schema.ERROR_KINDS, 0) | {"missed": missed[kind]}
    assert counts == {name: count + (name == kind) for name, count in expected.items()}


def test_what_errors_cost():
    """One class, four boxes: two found, one found twice, one too far off, one missed."""
    boxes = [(1, 1, (0, 100 * n, 80, 80), False) for n in range(4)]
    found = [
        (1, 1, (0, 0, 80, 80), 0.9),
        (1, 1, (0, 0, 80, 78), 0.8),  # duplicate
        (1, 1, (0, 100, 80, 80), 0.7),
        (1, 1, (0, 200, 80, 30), 0.6),  # too small
    ]
    data = _annotations(boxes)
    data["categories"].pop()
    _, report = _analysed(data, _results(found))
    points = np.linspace(0, 1, 101)

    def area(steps):
        """AP of (recall reached, precision there)."""
        best = [max([p for r, p in steps if r >= point], default=0.0) for point in points]
        return float(np.mean(best))

    before = area([(1 / 4, 1.0), (2 / 4, 2 / 3)])
    after = {
        "localisation": area([(1 / 4, 1.0), (2 / 4, 2 / 3), (3 / 4, 3 / 4)]),
        "duplicate": area([(1 / 4, 1.0), (2 / 4, 1.0)]),
        "missed": area([(1 / 3, 1.0), (2 / 3, 2 / 3)]),
    }
    costs = {kind: cost["ap"] for kind, cost in report["errors"]["kinds"].items()}
    for kind, cost in costs.items():
        assert cost == pytest.approx(after.get(kind, before) - before, abs=1e-6), kind
    errors = report["errors"]
    assert errors["false_positives"] == pytest.approx(area([(0.5, 1.0)]) - before, abs=1e-6)
    assert errors["false_negatives"] == pytest.approx(
        area([(1 / 2, 1.0), (1.0, 2 / 3)]) - before, abs=1e-6
    )
    per_class = report["classes"][0]["errors"]
    assert per_class == errors["kinds"]  # there is only this class


def test_detections_on_a_crowd_are_no_errors():
    data = _annotations([(1, 1, A, False), (1, 1, (200, 0, 400, 400), True)])
    found = _results([(1, 1, A, 0.9), (1, 1, (250, 50, 40, 40), 0.8), (1, 1, (0, 500, 9, 9), 0.7)])
    _, report = _analysed(data, found)
    verdicts = [box["verdict"] for box in report["pictures"]["best"][0]["detections"]]
    assert verdicts == ["correct", "ignored", "background"]
    assert (report["counts"]["ignored"], report["counts"]["crowds"]) == (1, 1)
    everything = report["overall"]["everything"]
    assert (everything["correct"], everything["false"], everything["missed"]) == (1, 1, 0)


def test_confusion_by_hand():
    data = _annotations([(1, 1, A, False), (1, 2, B, False), (2, 2, B, False)])
    found = [
        (1, 1, A, 0.9),
        (1, 1, B, 0.8),  # b taken for a
        (1, 1, (300, 0, 100, 90), 0.85),  # again, and less exactly
        (3, 2, A, 0.95),  # on nothing
        (2, 2, B, 0.01),  # below the threshold
    ]
    _, report = _analysed(data, _results(found))
    assert report["confusion"]["score_threshold"] == 0.01
    assert report["confusion"]["matrix"] == [[1, 0, 0], [1, 1, 0], [1, 1, 0]]
    assert report["confusion"]["most"][0] == {"truth": "b", "detected": "a", "count": 1}
    assert report["classes"][0]["confused_with"] == {"b": 2}


# ------------------------------------------------------------------- what must add up


def test_everything_adds_up(drawn):
    data, results, summary, report = drawn
    matches = match_detections(summary.evidence)
    kinds = error_kinds(matches)
    best, overall = report["overall"]["best"], report["overall"]["everything"]
    counts = {kind: cost["count"] for kind, cost in report["errors"]["kinds"].items()}
    assert all(counts.values())  # the drawing has them all
    assert overall["false"] == sum(counts.values()) - counts["missed"]
    assert overall["correct"] + overall["false"] + report["counts"]["ignored"] == len(results)
    assert np.array_equal(kinds.missed & (matches.matched_by != NONE), np.zeros(len(matches.truth)))
    matrix = np.array(report["confusion"]["matrix"])
    assert np.trace(matrix) == best["correct"]
    assert matrix[:-1].sum(1).tolist() == [row["boxes"]["all"] for row in report["classes"]]
    shown = [row["common"]["correct"] + row["common"]["false"] for row in report["classes"]]
    assert matrix[:, :-1].sum(0).tolist() == shown
    for name in ("correct", "false", "missed"):
        assert sum(report["pictures"]["table"][name]) == best[name]
        assert sum(row["common"][name] for row in report["classes"]) == best[name]
    _, per_class = error_costs(matches, kinds, 3)
    for kind, count in counts.items():
        assert sum(row[kind]["count"] for row in per_class) == count
    histograms = [report["overall"][f"{name}_scores"] for name in ("correct", "false")]
    assert [sum(h["histogram"]) for h in histograms] == [overall["correct"], overall["false"]]
    assert sum(bin["count"] for bin in report["calibration"]["bins"]) == sum(
        h["count"] for h in histograms
    )


def test_pictures_are_in_order_and_whole(drawn):
    data, results, _, report = drawn
    pictures = report["pictures"]
    worst, best = (pictures[name] for name in ("worst", "best"))
    assert 0 < len(worst) <= schema.GALLERY and 0 < len(best) <= schema.GALLERY
    assert all(one["f1"] <= other["f1"] for one, other in pairwise(worst))
    assert all(one["f1"] >= other["f1"] for one, other in pairwise(best))
    assert all(picture["false"] + picture["missed"] for picture in worst)
    names = {image["id"]: image["file_name"] for image in data["images"]}
    for picture in (*worst, *best):
        assert picture["file_name"] == names[picture["image_id"]]
        assert (picture["width"], picture["height"]) == (640, 480)
        own = [entry for entry in results if entry["image_id"] == picture["image_id"]]
        scores = [box["score"] for box in picture["detections"]]
        assert scores == sorted((entry["score"] for entry in own), reverse=True)
        verdicts = [box["verdict"] for box in picture["detections"]]
        found = [box["found_at"] for box in picture["truth"] if box["found_at"] is not None]
        assert len(found) == verdicts.count("correct")
    of_images = [pictures["table"][name] for name in ("correct", "false", "missed")]
    flawless = sum(c > 0 and not f and not m for c, f, m in zip(*of_images, strict=True))
    assert pictures["flawless"] == flawless


def test_the_file_has_the_keys_of_the_schema(tmp_path):
    report = sample_evaluation_report()
    written = json.loads(write_report(tmp_path, report).read_text())
    assert written == report  # plain JSON values, no NaN
    assert written.keys() == get_type_hints(schema.EvaluationReport).keys()
    for row in written["classes"]:
        assert row.keys() == get_type_hints(schema.ClassReport).keys()
        assert len(row["curves"]["f1"]) == len(row["score_at_recall"]) == schema.POINTS
    unseen = written["classes"][-1]
    assert unseen["ap"] is unseen["precision"] is unseen["best"]["threshold"] is None


def test_a_report_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / schema.REPORT_NAME).mkdir()
    with pytest.raises(UserError, match=f"{schema.REPORT_NAME} cannot be written"):
        write_report(tmp_path, sample_evaluation_report(images=2))


# ------------------------------------------------------------------- odd data


@pytest.mark.parametrize("boxes", [[], [(1, 1, A, False)]])
@pytest.mark.parametrize("found", [[], [(2, 2, A, 0.9)]])
def test_reports_of_next_to_nothing(boxes, found, tmp_path):
    """No boxes, no detections, or detections of a class without boxes in another picture."""
    _, report = _analysed(_annotations(boxes), _results(found))
    assert report["errors"]["ap50"] == (0.0 if boxes else None)
    assert report["overall"]["best"]["threshold"] is None
    assert json.loads(write_report(tmp_path, report).read_text()) == report
    assert report_lines(report)


def test_only_so_many_detections_count():
    """As in COCO's table, whose numbers these are."""
    data = _annotations([(1, 1, A, False)])
    found = [(1, 1, (200 + n, 300, 9, 9), 0.9 - n / 1000) for n in range(100)]
    _, report = _analysed(data, _results([*found, (1, 1, A, 0.5)]))
    assert report["overall"]["everything"]["correct"] == 0
    _, report = _analysed(data, _results([*found, (1, 1, A, 0.5)]), max_detections=101)
    assert report["overall"]["everything"]["correct"] == 1


@pytest.mark.parametrize("classes", [3, 90])
def test_the_text_is_short(classes, tmp_path):
    report = sample_evaluation_report(tuple(f"class {n}" for n in range(classes)))
    lines = []
    show_report(report, tmp_path, lines.append)
    assert len(lines) <= 40
    best = report["overall"]["best"]
    total = next(line for line in lines if line.startswith("all classes"))
    assert total.split()[-1] == f"{best['f1']:.3f}"
    judged = sum(row["boxes"]["all"] > 0 for row in report["classes"])
    assert any(f"... and {judged - 16} classes" in line for line in lines) == (classes == 90)
