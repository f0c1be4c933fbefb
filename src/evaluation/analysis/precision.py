# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of scored detections: AP, and precision, recall and F1 over the score threshold."""

from typing import NamedTuple

import numpy as np

from .schema import POINTS, OperatingPoint, ThresholdCurves

RECALL_POINTS = np.linspace(0.0, 1.0, POINTS)  # as pycocotools makes them, to the last bit
SCORE_THRESHOLDS = np.arange(POINTS) / (POINTS - 1)


class Ranking(NamedTuple):
    """Detections, best score first, and how many boxes there were to find.

    Attributes:
        scores: (D,) float64, falling.
        correct: (D,) bool.
        boxes: true boxes.
    """

    scores: np.ndarray
    correct: np.ndarray
    boxes: int


def ranking(scores: np.ndarray, correct: np.ndarray, boxes: int) -> Ranking:
    """Sort detections by their score; equal ones keep their order.

    Args:
        scores: (D,) float64.
        correct: (D,) bool.
        boxes: true boxes.
    """
    order = np.argsort(-scores, kind="stable")
    return Ranking(scores[order], correct[order], int(boxes))


def average_precision(ranked: Ranking) -> float:
    """Return COCO's AP: the mean, over 101 recalls, of the best precision at that recall or more.

    Args:
        ranked: the detections of a class.

    Returns:
        0 to 1; 0 without true boxes.
    """
    if not ranked.boxes or not len(ranked.scores):
        return 0.0
    found = np.cumsum(ranked.correct)
    precision = found / np.arange(1, len(found) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(found / ranked.boxes, RECALL_POINTS, side="left")
    return float(best[at[at < len(best)]].sum() / len(RECALL_POINTS))


def operating_point(ranked: Ranking, threshold: float | None) -> OperatingPoint:
    """Return what comes of the detections whose score is at least `threshold`.

    Args:
        ranked: detections.
        threshold: None shows no detection.
    """
    shown = 0
    if threshold is not None:
        shown = int(np.searchsorted(-ranked.scores, -threshold, side="right"))
    correct = int(np.count_nonzero(ranked.correct[:shown]))
    return {
        "threshold": threshold,
        "precision": _share(correct, shown),
        "recall": _share(correct, ranked.boxes),
        "f1": _share(2 * correct, shown + ranked.boxes) if ranked.boxes else None,
        "correct": correct,
        "false": shown - correct,
        "missed": ranked.boxes - correct,
    }


def best_threshold(ranked: Ranking) -> float | None:
    """Return the score from which on to show detections so that F1 is highest.

    Of several the highest; None without a correct detection.

    Args:
        ranked: detections.
    """
    if not ranked.correct.any():
        return None
    f1 = 2 * np.cumsum(ranked.correct) / (np.arange(1, len(ranked.scores) + 1) + ranked.boxes)
    # Equal scores are shown together, so that only the last of them can be where one stops.
    last = np.append(np.diff(ranked.scores) != 0, True)
    return float(ranked.scores[np.where(last, f1, -1.0).argmax()])


def threshold_curves(ranked: Ranking) -> ThresholdCurves:
    """Return precision, recall and F1 at each of `SCORE_THRESHOLDS`.

    Args:
        ranked: detections.
    """
    points = [operating_point(ranked, threshold) for threshold in SCORE_THRESHOLDS.tolist()]
    return {
        "precision": [point["precision"] for point in points],
        "recall": [point["recall"] for point in points],
        "f1": [point["f1"] for point in points],
    }


def rounded(value: float | None) -> float | None:
    """Return a number with six decimals, None for what is no number.

    Args:
        value: anything but infinite.
    """
    return None if value is None or np.isnan(value) else round(float(value), 6)


def _share(part: int, whole: int) -> float | None:
    return rounded(part / whole) if whole else None
