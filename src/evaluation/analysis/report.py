# SPDX-License-Identifier: Apache-2.0
"""An evaluation, looked at closely: everything of evaluation_report.json. Without MindSpore."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from ...base.files import save_whole, write_json
from ..coco import CocoSummary, Evidence
from . import schema
from .confusion import confused_with, confusion
from .error_kinds import ErrorKinds, error_costs, error_kinds
from .matching import Matches, match_detections
from .pictures import PictureJudge
from .precision import (
    RECALL_POINTS,
    SCORE_THRESHOLDS,
    Ranking,
    best_threshold,
    operating_point,
    ranking,
    rounded,
    threshold_curves,
)
from .scores import SCORE_EDGES, calibration, score_distribution
from .text import report_lines

_SIZES = ("all", "small", "medium", "large")  # in the order of COCO's arrays
_IOU50, _IOU75 = 0, 5  # where they stand among COCO's ten
_SMALL, _MEDIUM = 32.0**2, 96.0**2  # largest areas
_TWELVE = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large") + (
    ("ar1", "ar10", "ar", "ar_small", "ar_medium", "ar_large")
)


def analyse(
    summary: CocoSummary,
    images: Sequence[Mapping[str, Any]],
    subject: schema.Subject,
    *,
    lowest_score: float | None = None,
    speed: schema.Speed | None = None,
) -> schema.EvaluationReport:
    """Return the report of an evaluation.

    Args:
        summary: what COCO says of it.
        images: the annotations' entries of the images, for names and sizes.
        subject: what was evaluated on what.
        lowest_score: detections below it were dropped by the detector; None when not known.
        speed: of the detector; None when the detections come from files.
    """
    evidence = summary.evidence
    matches = match_detections(evidence)
    kinds = error_kinds(matches)
    names = evidence.class_names
    every = _ranking_of(matches, None)
    common = best_threshold(every)
    errors, class_errors = error_costs(matches, kinds, len(names))
    return {
        "version": schema.VERSION,
        "subject": subject,
        "settings": {
            "iou": schema.IOU,
            "background_iou": schema.BACKGROUND_IOU,
            "max_detections": evidence.max_detections,
            "lowest_score": lowest_score,
        },
        "counts": {
            "images": len(evidence.image_ids),
            "boxes": _by_size(matches, matches.real),
            "crowds": int(matches.truth.crowd.sum()),
            "detections": len(evidence.found),
            "ignored": int(matches.ignored.sum()),
        },
        "notes": list(summary.notes),
        "summary": _twelve(summary),
        "recall_points": RECALL_POINTS.round(6).tolist(),
        "score_thresholds": SCORE_THRESHOLDS.tolist(),
        "score_edges": SCORE_EDGES.tolist(),
        "overall": {
            "best": operating_point(every, common),
            "everything": operating_point(every, 0.0),
            "curves": threshold_curves(every),
            "precision": _precision_curves(evidence, None),
            "correct_scores": score_distribution(every.scores[every.correct]),
            "false_scores": score_distribution(every.scores[~every.correct]),
        },
        "classes": _classes(summary, matches, kinds, class_errors, common),
        "confusion": confusion(matches, names, common),
        "errors": errors,
        "calibration": calibration(every.scores, every.correct),
        "pictures": PictureJudge(evidence, matches, kinds, images, common).pictures(),
        "speed": speed,
    }


def write_report(folder: str | Path, report: schema.EvaluationReport) -> Path:
    """Write a report whole or not at all; return the file.

    Args:
        folder: gets evaluation_report.json.
        report: what `analyse` returns.

    Raises:
        UserError: it cannot be written.
    """
    path = Path(folder, schema.REPORT_NAME)
    save_whole(path, lambda temporary: write_json(temporary, report, indent=None))
    return path


def show_report(
    report: schema.EvaluationReport, folder: str | Path, say: Callable[[str], None]
) -> None:
    """Write a report into a folder, and show what it says in short.

    Args:
        report: of an evaluation.
        folder: gets evaluation_report.json.
        say: prints a line.

    Raises:
        UserError: it cannot be written.
    """
    for line in ("", *report_lines(report)):
        say(line)
    say(f"evaluation report: {write_report(folder, report).resolve()}")


def _ranking_of(matches: Matches, label: int | None) -> Ranking:
    """The detections of a class, or of all for None, that are not ignored."""
    found, own, real = matches.found, matches.counted, matches.real
    if label is not None:
        own, real = own & (found.label == label), real & (matches.truth.label == label)
    return ranking(found.score[own], matches.correct[own], int(real.sum()))


def _classes(
    summary: CocoSummary,
    matches: Matches,
    kinds: ErrorKinds,
    errors: Sequence[dict[schema.ErrorKind, schema.ErrorCost]],
    common: float | None,
) -> list[schema.ClassReport]:
    evidence = summary.evidence
    wrong = kinds.of_kind("classification")
    confused = confused_with(matches, wrong, evidence.class_names)
    rows: list[schema.ClassReport] = []
    for label, row in enumerate(summary.per_class):
        ranked = _ranking_of(matches, label)
        own = matches.truth.label == label
        rows.append(
            {
                "name": row.name,
                "boxes": _by_size(matches, own & matches.real),
                "crowds": int((own & matches.truth.crowd).sum()),
                "detections": row.num_detections,
                **_numbers(evidence, label),
                "best": operating_point(ranked, best_threshold(ranked)),
                "common": operating_point(ranked, common),
                "everything": operating_point(ranked, 0.0),
                "curves": threshold_curves(ranked),
                "precision": _precision_curves(evidence, label),
                "score_at_recall": _scores_at_recall(evidence, label),
                "correct_scores": score_distribution(ranked.scores[ranked.correct]),
                "false_scores": score_distribution(ranked.scores[~ranked.correct]),
                "calibration_error": calibration(ranked.scores, ranked.correct)["error"],
                "errors": errors[label],
                "confused_with": confused[label],
            }
        )
    return rows


def _twelve(summary: CocoSummary) -> schema.Summary:
    values = [None if value < 0 else rounded(value) for value in summary.stats]
    return cast(schema.Summary, dict(zip(_TWELVE, values, strict=True)))


def _numbers(evidence: Evidence, label: int) -> schema.ClassNumbers:
    """AP and recall of a class, by IoU and size, from COCO's arrays."""
    precision, recall = evidence.precision[:, :, label], evidence.recall[:, label]
    numbers = {"ap50": _mean(precision[_IOU50, :, 0]), "ap75": _mean(precision[_IOU75, :, 0])}
    for place, size in enumerate(_SIZES):
        ending = "" if size == "all" else f"_{size}"
        numbers[f"ap{ending}"] = _mean(precision[:, :, place])
        numbers[f"ar{ending}"] = _mean(recall[:, place])
    return cast(schema.ClassNumbers, numbers)


def _mean(values: np.ndarray) -> float | None:
    values = values[values > -1]
    return rounded(values.mean()) if values.size else None


def _precision_curves(evidence: Evidence, label: int | None) -> schema.PrecisionCurves | None:
    """Of a class, or for None the mean of all that have true boxes."""
    of_size = evidence.precision[..., 0]  # (10, 101, C), all sizes
    chosen = np.arange(of_size.shape[2]) if label is None else np.array([label])
    chosen = chosen[of_size[0, 0, chosen] > -1]
    if not len(chosen):
        return None
    curves = of_size[:, :, chosen].mean(2)
    return {
        "iou50": curves[_IOU50].round(6).tolist(),
        "iou75": curves[_IOU75].round(6).tolist(),
        "mean": curves.mean(0).round(6).tolist(),
    }


def _scores_at_recall(evidence: Evidence, label: int) -> list[float | None]:
    """The threshold of each recall point at IoU 0.50, rounded down: it shows the detection."""
    precision = evidence.precision[_IOU50, :, label, 0]
    scores = np.floor(evidence.scores[_IOU50, :, label, 0] * 1e6) / 1e6
    return [
        score if reached else None
        for score, reached in zip(scores.tolist(), (precision > 0).tolist(), strict=True)
    ]


def _by_size(matches: Matches, which: np.ndarray) -> schema.BySize:
    """Count true boxes by COCO's sizes, which share their edges; here the smaller one has it."""
    area = matches.truth.area[which]
    small, medium = int((area <= _SMALL).sum()), int((area <= _MEDIUM).sum())
    return {"all": len(area), "small": small, "medium": medium - small, "large": len(area) - medium}
