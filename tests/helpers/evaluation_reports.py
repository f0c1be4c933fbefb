# SPDX-License-Identifier: Apache-2.0
"""An evaluation_report.json of invented numbers, as `src.evaluation.analysis.schema` has it."""

from typing import Any

import numpy as np

from src.evaluation.analysis import schema
from src.evaluation.analysis.picture_schema import DetectedBox, Picture, TrueBox, Verdict

NAMES = ("RBC", "WBC", "Platelets")


def sample_evaluation_report(
    names: tuple[str, ...] = NAMES, *, images: int = 30, speed: bool = True
) -> schema.EvaluationReport:
    """Return a report of `images` pictures; the last class has neither boxes nor detections.

    Args:
        names: the classes, and "unseen" comes after them.
        images: evaluated ones.
        speed: False leaves it out, as a report of result files does.
    """
    rng = np.random.default_rng(7)
    pictures = [_picture(rng, number, names) for number in range(1, images + 1)]
    classes = [_class(rng, name) for name in names] + [_unseen()]
    labels = [*names, "unseen", schema.BACKGROUND]
    matrix = rng.integers(0, 4, (len(labels), len(labels)))
    matrix[np.diag_indices(len(labels))] = rng.integers(40, 90, len(labels))
    matrix[-1, -1] = 0
    matrix[-2] = matrix[:, -2] = 0
    return {
        "version": schema.VERSION,
        "subject": {
            "detector": "runs/bccd/ckpt_0/best.ckpt",
            "epoch": 12,
            "annotations": "bccd/annotations/instances_val2017.json",
            "image_folder": "bccd/val2017",
            "results": "runs/bccd/results.json",
        },
        "settings": {
            "iou": schema.IOU,
            "background_iou": schema.BACKGROUND_IOU,
            "max_detections": 100,
            "lowest_score": 0.05,
        },
        "counts": {
            "images": images,
            "boxes": {"all": 400, "small": 60, "medium": 240, "large": 100},
            "crowds": 2,
            "detections": 520,
            "ignored": 3,
        },
        "notes": ["note: val.json has no category named 'unseen': not judged"],
        "summary": _twelve(),
        "recall_points": _grid(),
        "score_thresholds": _grid(),
        "score_edges": np.linspace(0, 1, schema.SCORE_BINS + 1).round(6).tolist(),
        "overall": {
            "best": _point(0.62, 0.9, 0.86),
            "everything": _point(0.0, 0.6, 0.95),
            "curves": _curves(0.9),
            "precision": _precision(0.9),
            "correct_scores": _scores(rng, 5, 1),
            "false_scores": _scores(rng, 1, 4),
        },
        "classes": classes,
        "confusion": {
            "score_threshold": 0.62,
            "labels": labels,
            "matrix": matrix.tolist(),
            "most": [{"truth": names[0], "detected": schema.BACKGROUND, "count": 9}],
        },
        "errors": {
            "ap50": 0.88,
            "kinds": _errors(rng),
            "false_positives": 0.06,
            "false_negatives": 0.05,
        },
        "calibration": _calibration(),
        "pictures": {
            "flawless": images // 2,
            "with_false": images // 3,
            "with_missed": images // 4,
            "empty": 0,
            "worst": sorted(pictures, key=lambda picture: picture["f1"])[: schema.GALLERY],
            "best": sorted(pictures, key=lambda picture: -picture["f1"])[: schema.GALLERY],
            "table": {
                "image_id": [picture["image_id"] for picture in pictures],
                "correct": [picture["correct"] for picture in pictures],
                "false": [picture["false"] for picture in pictures],
                "missed": [picture["missed"] for picture in pictures],
            },
        },
        "speed": {
            "images_per_second": 4.2,
            "seconds_per_image": 0.238095,
            "processes": 1,
            "batch_size": 2,
            "device_target": "CPU",
            "versions": {"mindspore": "2.10.0", "faster_rcnn": "1.0"},
        }
        if speed
        else None,
    }


def _grid() -> list[float]:
    return np.linspace(0, 1, schema.POINTS).round(6).tolist()


def _point(threshold: float, precision: float, recall: float) -> schema.OperatingPoint:
    return {
        "threshold": threshold,
        "precision": precision,
        "recall": recall,
        "f1": round(2 * precision * recall / (precision + recall), 6),
        "correct": round(100 * recall),
        "false": round(100 * recall / precision - 100 * recall),
        "missed": round(100 - 100 * recall),
    }


def _nothing() -> schema.OperatingPoint:
    return {
        "threshold": None,
        "precision": None,
        "recall": None,
        "f1": None,
        "correct": 0,
        "false": 0,
        "missed": 0,
    }


def _curves(top: float) -> schema.ThresholdCurves:
    t = np.linspace(0, 1, schema.POINTS)
    precision, recall = 0.5 + (top - 0.5) * t, top * (1 - t**3)
    f1 = 2 * precision * recall / (precision + recall)
    return {
        "precision": [*precision.round(6).tolist()[:-1], None],
        "recall": recall.round(6).tolist(),
        "f1": f1.round(6).tolist(),
    }


def _precision(top: float) -> schema.PrecisionCurves:
    t = np.linspace(0, 1, schema.POINTS)
    curve = np.where(t < top, 1 - t**4, 0)
    return {
        "iou50": curve.round(6).tolist(),
        "iou75": (0.8 * curve).round(6).tolist(),
        "mean": (0.7 * curve).round(6).tolist(),
    }


def _scores(rng: np.random.Generator, a: float, b: float) -> schema.ScoreDistribution:
    scores = rng.beta(a, b, 200)
    return {
        "count": 200,
        "mean": round(float(scores.mean()), 6),
        "min": round(float(scores.min()), 6),
        "max": round(float(scores.max()), 6),
        "above_99": round(float(np.quantile(scores, 0.01)), 6),
        "above_99_9": round(float(np.quantile(scores, 0.001)), 6),
        "histogram": np.histogram(scores, schema.SCORE_BINS, (0, 1))[0].tolist(),
    }


def _no_scores() -> schema.ScoreDistribution:
    return {
        "count": 0,
        "mean": None,
        "min": None,
        "max": None,
        "above_99": None,
        "above_99_9": None,
        "histogram": [0] * schema.SCORE_BINS,
    }


def _errors(rng: np.random.Generator) -> dict[schema.ErrorKind, schema.ErrorCost]:
    return {
        kind: {"count": int(rng.integers(1, 40)), "ap": round(float(rng.uniform(0, 0.06)), 6)}
        for kind in schema.ERROR_KINDS
    }


def _class(rng: np.random.Generator, name: str) -> schema.ClassReport:
    top = float(rng.uniform(0.7, 0.95))
    values: dict[str, Any] = {
        key: round(top * factor, 6)
        for key, factor in (
            ("ap", 0.7),
            ("ap50", 1.0),
            ("ap75", 0.75),
            ("ap_medium", 0.65),
            ("ap_large", 0.8),
            ("ar", 0.78),
            ("ar_medium", 0.72),
            ("ar_large", 0.85),
        )
    }
    return {
        "name": name,
        "boxes": {"all": 100, "small": 0, "medium": 70, "large": 30},
        "crowds": 1,
        "detections": 160,
        "ap_small": None,
        "ar_small": None,
        **values,
        "best": _point(0.55, top, top),
        "common": _point(0.62, top, top - 0.03),
        "everything": _point(0.0, 0.6, 0.95),
        "curves": _curves(top),
        "precision": _precision(top),
        "score_at_recall": [round(1 - t, 6) if t < top else None for t in _grid()],
        "correct_scores": _scores(rng, 5, 1),
        "false_scores": _scores(rng, 1, 4),
        "calibration_error": round(float(rng.uniform(0.02, 0.2)), 6),
        "errors": _errors(rng),
        "confused_with": {},
    }


def _unseen() -> schema.ClassReport:
    numbers: dict[str, Any] = {
        key: None
        for key in ("ap", "ap50", "ap75", "ar", "ap_small", "ap_medium", "ap_large")
        + ("ar_small", "ar_medium", "ar_large", "precision", "calibration_error")
    }
    nothing: list[Any] = [None] * schema.POINTS
    return {
        "name": "unseen",
        "boxes": {"all": 0, "small": 0, "medium": 0, "large": 0},
        "crowds": 0,
        "detections": 0,
        **numbers,
        "best": _nothing(),
        "common": _nothing(),
        "everything": _nothing(),
        "curves": {"precision": nothing, "recall": nothing, "f1": nothing},
        "score_at_recall": nothing,
        "correct_scores": _no_scores(),
        "false_scores": _no_scores(),
        "errors": {kind: {"count": 0, "ap": None} for kind in schema.ERROR_KINDS},
        "confused_with": {},
    }


def _twelve() -> Any:
    keys = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    keys += ("ar1", "ar10", "ar", "ar_small", "ar_medium", "ar_large")
    values: dict[str, float | None] = {key: round(0.62 - 0.01 * n, 6) for n, key in enumerate(keys)}
    return {**values, "ap_small": None, "ar_small": None}


def _calibration() -> schema.Calibration:
    bins: list[schema.CalibrationBin] = [
        {
            "low": round(n / 10, 6),
            "high": round((n + 1) / 10, 6),
            "count": 10 * n,
            "score": round(n / 10 + 0.05, 6) if n else None,
            "precision": round(0.9 * n / 10, 6) if n else None,
        }
        for n in range(schema.CALIBRATION_BINS)
    ]
    return {"bins": bins, "error": 0.08, "largest_error": 0.14}


def _picture(rng: np.random.Generator, number: int, names: tuple[str, ...]) -> Picture:
    boxes = [
        [*rng.uniform(0, 400, 2).round(1).tolist(), *rng.uniform(40, 120, 2).round(1).tolist()]
        for _ in range(8)
    ]
    labels = [names[int(rng.integers(len(names)))] for _ in boxes]
    scores = np.sort(rng.uniform(0.05, 1, 10))[::-1].round(6).tolist()
    verdicts: tuple[Verdict, ...] = (
        *(["correct"] * 6),
        "classification",
        "localisation",
        "duplicate",
        "background",
    )
    places = [*boxes, boxes[0], [450.0, 350.0, 60.0, 60.0]]
    detections: list[DetectedBox] = [
        {
            "bbox": [round(value + 2.0, 1) for value in place],
            "label": labels[n % 8],
            "score": score,
            "verdict": verdict,
            "iou": 0.0 if verdict == "background" else 0.75,
            "truth": None if verdict == "background" else labels[n % 8],
        }
        for n, (place, score, verdict) in enumerate(zip(places, scores, verdicts, strict=True))
    ]
    truth: list[TrueBox] = [
        {
            "bbox": box,
            "label": label,
            "crowd": False,
            "found_at": scores[n] if n < 6 else None,
            "error": "missed" if n == 7 else None,
        }
        for n, (box, label) in enumerate(zip(boxes, labels, strict=True))
    ]
    correct, false = int(rng.integers(0, 7)), int(rng.integers(0, 4))
    return {
        "image_id": number,
        "file_name": f"BloodImage_{number:05d}.jpg",
        "width": 640,
        "height": 480,
        "f1": round(2 * correct / (correct + false + 8), 6),
        "correct": correct,
        "false": false,
        "missed": 8 - correct,
        "truth": truth,
        "detections": detections,
    }
