# SPDX-License-Identifier: Apache-2.0
"""evaluation_report.json against tidecv, supervision and scikit-learn, each where it is installed.

The extra `peers` has them. Detections are moved true boxes: of bccd's validation images where
they are at hand, and drawn ones.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from src.evaluation.analysis import precision
from src.evaluation.analysis.matching import match_detections
from src.evaluation.analysis.report import analyse
from src.evaluation.coco import evaluate_results
from tests.helpers.jittered_boxes import drawn_truth, jittered_results
from tests.helpers.paths import REPO

SUBJECT = {"detector": "", "epoch": None, "annotations": "", "image_folder": None, "results": None}
DATA = Path(os.environ.get("FASTERRCNN_TEST_DATA", REPO.parent / "shared" / "data"))
BCCD = DATA / "bccd" / "annotations" / "instances_val2017.json"


class Case:
    """Annotations, results, and what is said of them."""

    def __init__(self, data, seed):
        self.data, self.results = data, jittered_results(data, seed=seed)
        self.names = [category["name"] for category in data["categories"]]
        self.summary = evaluate_results(data, self.results, self.names)
        self.report = analyse(self.summary, data["images"], SUBJECT)

    def boxes(self, entries, image):
        """Corners, classes from 0 and scores of an image's entries."""
        own = [entry for entry in entries if entry["image_id"] == image["id"]]
        xywh = np.array([entry["bbox"] for entry in own], np.float64).reshape(-1, 4)
        order = [category["id"] for category in self.data["categories"]]
        labels = np.array([order.index(entry["category_id"]) for entry in own], int)
        scores = np.array([entry.get("score", 1.0) for entry in own])
        return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1), labels, scores


@pytest.fixture(scope="module", params=["bccd", "drawn", "drawn again"])
def case(request):
    if request.param != "bccd":
        seed = len(request.param)
        return Case(drawn_truth("abcde", images=60, seed=seed), seed)
    if not BCCD.is_file():
        pytest.skip(f"{BCCD} is not there; FASTERRCNN_TEST_DATA names the folder of bccd")
    return Case(json.loads(BCCD.read_text()), 0)


def test_error_kinds_are_those_of_tidecv(case, monkeypatch):
    """Also what they cost, once both read precision at the same recalls, to the last bit."""
    tidecv = pytest.importorskip("tidecv")
    truth, found = tidecv.Data("truth"), tidecv.Data("found", max_dets=100)
    for category in case.data["categories"]:
        truth.add_class(category["id"], category["name"])
    for image in case.data["images"]:
        truth.add_image(image["id"], str(image["id"]))
    for entry in case.data["annotations"]:
        truth.add_ground_truth(entry["image_id"], entry["category_id"], entry["bbox"])
    for entry in case.results:
        found.add_detection(entry["image_id"], entry["category_id"], entry["score"], entry["bbox"])
    run = tidecv.TIDE().evaluate(truth, found, mode=tidecv.TIDE.BOX)
    monkeypatch.setattr(precision, "RECALL_POINTS", np.array([n / 100 for n in range(101)]))
    ours = analyse(case.summary, case.data["images"], SUBJECT)["errors"]
    names = {
        "classification": "Cls",
        "localisation": "Loc",
        "both": "Both",
        "duplicate": "Dupe",
        "background": "Bkg",
        "missed": "Miss",
    }
    costs = {error.short_name: value / 100 for error, value in run.fix_main_errors().items()}
    counts = {error.short_name: value for error, value in run.count_errors().items()}
    for kind, name in names.items():
        assert ours["kinds"][kind]["count"] == counts[name] > 0, kind
        assert ours["kinds"][kind]["ap"] == pytest.approx(costs[name], abs=1e-6), kind
    special = {error.short_name: value / 100 for error, value in run.fix_special_errors().items()}
    assert ours["ap50"] == pytest.approx(run.ap / 100, abs=1e-6)
    assert ours["false_positives"] == pytest.approx(special["FalsePos"], abs=1e-6)
    assert ours["false_negatives"] == pytest.approx(special["FalseNeg"], abs=1e-6)


def test_the_confusion_matrix_is_that_of_supervision(case):
    supervision = pytest.importorskip("supervision")
    found, truth = [], []
    for image in case.data["images"]:
        boxes, labels, scores = case.boxes(case.results, image)
        found.append(supervision.Detections(boxes, confidence=scores, class_id=labels))
        boxes, labels, _ = case.boxes(case.data["annotations"], image)
        truth.append(supervision.Detections(boxes, class_id=labels))
    ours = case.report["confusion"]
    theirs = supervision.ConfusionMatrix.from_detections(
        found, truth, case.names, conf_threshold=ours["score_threshold"], iou_threshold=0.5
    )
    assert ours["matrix"] == theirs.matrix.tolist()


def test_curves_are_those_of_scikit_learn(case):
    metrics = pytest.importorskip("sklearn.metrics")
    matches = match_detections(case.summary.evidence)
    for label, row in enumerate(case.report["classes"]):
        own = matches.found.label == label
        correct, scores = matches.correct[own], matches.found.score[own]
        boxes = row["boxes"]["all"]
        precisions, recalls, thresholds = metrics.precision_recall_curve(correct, scores)
        recalls = recalls * correct.sum() / boxes  # they know nothing of boxes without detection
        for number, threshold in enumerate(case.report["score_thresholds"]):
            at = int(np.searchsorted(thresholds, threshold))
            assert row["curves"]["recall"][number] == pytest.approx(recalls[at], abs=1e-6)
            if at < len(thresholds):
                assert row["curves"]["precision"][number] == pytest.approx(precisions[at], abs=1e-6)
            else:
                assert row["curves"]["precision"][number] is None
        with np.errstate(invalid="ignore"):
            f1 = np.nan_to_num(2 * precisions * recalls / (precisions + recalls))[:-1]
        best = row["best"]
        assert best["f1"] == pytest.approx(f1.max(), abs=1e-6)
        assert best["threshold"] in thresholds[np.isclose(f1, f1.max(), atol=1e-12)]
        missed = np.ones(boxes - correct.sum(), bool)
        judged = metrics.precision_recall_fscore_support(
            np.r_[correct, missed], np.r_[scores >= best["threshold"], ~missed], average="binary"
        )
        ours = (best["precision"], best["recall"], best["f1"])
        assert ours == pytest.approx(judged[:3], abs=1e-6)


def test_calibration_is_that_of_scikit_learn(case):
    calibration = pytest.importorskip("sklearn.calibration")
    matches = match_detections(case.summary.evidence)
    shares, scores = calibration.calibration_curve(
        matches.correct, matches.found.score, n_bins=10, strategy="uniform"
    )
    bins = [bin for bin in case.report["calibration"]["bins"] if bin["count"]]
    assert [bin["precision"] for bin in bins] == pytest.approx(shares, abs=1e-6)
    assert [bin["score"] for bin in bins] == pytest.approx(scores, abs=1e-6)
