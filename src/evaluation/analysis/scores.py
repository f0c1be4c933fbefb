# SPDX-License-Identifier: Apache-2.0
"""What the scores are worth: calibration, and the scores of correct and false detections."""

import numpy as np

from .precision import rounded
from .schema import CALIBRATION_BINS, SCORE_BINS, Calibration, CalibrationBin, ScoreDistribution

SCORE_EDGES = np.arange(SCORE_BINS + 1) / SCORE_BINS
_CALIBRATION_EDGES = np.arange(CALIBRATION_BINS + 1) / CALIBRATION_BINS


def calibration(scores: np.ndarray, correct: np.ndarray) -> Calibration:
    """Compare the scores of detections with the share of them that is correct.

    Args:
        scores: (D,) float64, 0 to 1.
        correct: (D,) bool.
    """
    place = np.searchsorted(_CALIBRATION_EDGES[1:-1], scores, side="right")
    counts = np.bincount(place, minlength=CALIBRATION_BINS)
    total = {
        "score": np.bincount(place, weights=scores, minlength=CALIBRATION_BINS),
        "precision": np.bincount(place, weights=correct, minlength=CALIBRATION_BINS),
    }
    with np.errstate(invalid="ignore"):
        mean = {name: values / counts for name, values in total.items()}
    gap = np.abs(mean["score"] - mean["precision"])[counts > 0]
    bins: list[CalibrationBin] = [
        {
            "low": rounded(_CALIBRATION_EDGES[number]) or 0.0,
            "high": rounded(_CALIBRATION_EDGES[number + 1]) or 0.0,
            "count": int(counts[number]),
            "score": rounded(mean["score"][number]),
            "precision": rounded(mean["precision"][number]),
        }
        for number in range(CALIBRATION_BINS)
    ]
    some = len(scores) > 0
    return {
        "bins": bins,
        "error": rounded(gap @ counts[counts > 0] / len(scores)) if some else None,
        "largest_error": rounded(gap.max()) if some else None,
    }


def score_distribution(scores: np.ndarray) -> ScoreDistribution:
    """Describe some scores.

    Args:
        scores: (D,) float64, 0 to 1.
    """
    histogram = np.histogram(scores, SCORE_EDGES)[0].tolist()
    if not len(scores):
        return {
            "count": 0,
            "mean": None,
            "min": None,
            "max": None,
            "above_99": None,
            "above_99_9": None,
            "histogram": histogram,
        }
    falling = np.sort(scores)[::-1]
    return {
        "count": len(scores),
        "mean": rounded(scores.mean()),
        "min": rounded(falling[-1]),
        "max": rounded(falling[0]),
        "above_99": rounded(_reached_by(falling, 0.99)),
        "above_99_9": rounded(_reached_by(falling, 0.999)),
        "histogram": histogram,
    }


def _reached_by(falling: np.ndarray, share: float) -> float:
    """The score that at least this share of them reaches."""
    return float(falling[int(np.ceil(share * len(falling))) - 1])
