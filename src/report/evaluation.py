# SPDX-License-Identifier: Apache-2.0
"""What `evaluation_report.json` says, as tables and charts of the page.

The file may be a stranger's: what is not of the kind that its schema names counts as missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base.messages import counted
from ..evaluation.analysis.schema import ERROR_KINDS
from ..pages.charts import COLORS, Chart, Curve, line_chart
from ..pages.elements import Cell, Column, Table, Tile, count_cell, number_cell
from . import checked

MOST_CLASSES = 2000  # rows of a table
_MOST_MATRIX = 25  # classes of the confusion matrix that can be read
_SUMMARY = {
    "ap": ("AP", "IoU 0.50 to 0.95"),
    "ap50": ("AP50", "IoU 0.50"),
    "ap75": ("AP75", "IoU 0.75"),
    "ap_small": ("AP small", "up to 32 x 32 pixels"),
    "ap_medium": ("AP medium", "up to 96 x 96 pixels"),
    "ap_large": ("AP large", "larger boxes"),
    "ar": ("AR", "recall, IoU 0.50 to 0.95"),
}
KINDS = {
    "classification": "on an object, but of another class",
    "localisation": "the right class, but not well enough on the object",
    "both": "another class, and not well enough on the object",
    "duplicate": "on an object that a better detection has found already",
    "background": "on nothing",
    "missed": "an object that no detection is near",
}


@dataclass(frozen=True, slots=True)
class Confusion:
    """The confusion matrix, for reading.

    Attributes:
        labels: of rows (truth) and columns (detections); "background" is the last.
        rows: of (count, share of its row's sum) each.
        note: what is not in it.
        most: which classes are taken for which most often.
    """

    labels: Sequence[str]
    rows: Sequence[Sequence[tuple[int, float]]]
    note: str
    most: Table


@dataclass(frozen=True, slots=True)
class EvaluationPart:
    """Everything that the page says of an evaluation, but for the pictures.

    Attributes:
        tiles: COCO's numbers, speed, what was looked at.
        lead: what was evaluated on what, a line.
        notes: what one has to know to read the numbers.
        classes: a row for each class.
        charts: curves of precision and recall, and of calibration.
        errors: a row for each kind of error; None where the file has none.
        confusion: None where the file has none.
        threshold: score threshold that suits all classes together; None when there is none.
    """

    tiles: Sequence[Tile]
    lead: str
    notes: Sequence[str]
    classes: Table
    charts: Sequence[Chart]
    errors: Table | None
    confusion: Confusion | None
    threshold: float | None


def evaluation_part(report: Mapping[str, Any]) -> EvaluationPart | None:
    """Make tables and charts of an evaluation; None of an empty report.

    Args:
        report: the content of `evaluation_report.json`, unchecked.
    """
    if not report:
        return None
    best = checked.mapping(checked.mapping(report.get("overall")).get("best"))
    classes = checked.mappings(report.get("classes"), MOST_CLASSES)
    return EvaluationPart(
        tiles=_tiles(report),
        lead=_lead(report),
        notes=[line for line in map(checked.text, checked.items(report.get("notes"), 20)) if line],
        classes=_class_table(classes),
        charts=_charts(report, classes),
        errors=_error_table(checked.mapping(report.get("errors"))),
        confusion=_confusion(checked.mapping(report.get("confusion"))),
        threshold=checked.number(best.get("threshold")),
    )


def _tiles(report: Mapping[str, Any]) -> list[Tile]:
    summary = checked.mapping(report.get("summary"))
    tiles = []
    for key, (label, note) in _SUMMARY.items():
        value = checked.number(summary.get(key))
        if value is not None:
            tiles.append(Tile(label, f"{value:.3f}", note))
    speed = checked.number(checked.mapping(report.get("speed")).get("images_per_second"))
    if speed is not None:
        device = checked.text(checked.mapping(report.get("speed")).get("device_target"), 20)
        tiles.append(Tile("Images per second", f"{speed:.2f}", device))
    return tiles


def _lead(report: Mapping[str, Any]) -> str:
    subject = checked.mapping(report.get("subject"))
    counts = checked.mapping(report.get("counts"))
    epoch = checked.count(subject.get("epoch"))
    after = f" (epoch {epoch})" if epoch is not None else ""
    boxes = checked.count(checked.mapping(counts.get("boxes")).get("all"))
    images, found = checked.count(counts.get("images")), checked.count(counts.get("detections"))
    return (
        f"{checked.text(subject.get('detector')) or 'A detector'}{after} on "
        f"{checked.text(subject.get('annotations')) or 'pictures'}: "
        f"{counted(images or 0, 'picture')}, {counted(boxes or 0, 'box', 'boxes')}, "
        f"{counted(found or 0, 'detection')}."
    )


# --------------------------------------------------------------------------- classes


_CLASS_COLUMNS = (
    Column("class"),
    Column("boxes", True, "true boxes without crowd regions"),
    Column("found", True, "detections, whatever their score"),
    Column("AP", True, "mean over IoU 0.50 to 0.95"),
    Column("AP50", True, "at IoU 0.50"),
    Column("AP75", True, "at IoU 0.75"),
    Column("small", True, "AP of boxes up to 32 x 32 pixels"),
    Column("medium", True, "AP of boxes up to 96 x 96 pixels"),
    Column("large", True, "AP of larger boxes"),
    Column("AR", True, "recall, mean over IoU 0.50 to 0.95"),
    Column("best threshold", True, "score from which on F1 is highest, at IoU 0.50"),
    Column("precision", True, "share of detections that are right, at that threshold"),
    Column("recall", True, "share of boxes that are found, at that threshold"),
    Column("F1", True, "of the two"),
)
_APS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar")


def _class_table(classes: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    for entry in classes:
        best = checked.mapping(entry.get("best"))
        boxes = checked.count(checked.mapping(entry.get("boxes")).get("all"))
        cells = [
            Cell(checked.text(entry.get("name"))),
            count_cell(boxes),
            count_cell(checked.count(entry.get("detections"))),
        ]
        cells += [_ap_cell(entry, key) for key in _APS]
        cells.append(number_cell(checked.number(best.get("threshold")), 2))
        cells += [number_cell(checked.number(best.get(k))) for k in ("precision", "recall", "f1")]
        rows.append(cells)
    return Table(_CLASS_COLUMNS, rows)


def _ap_cell(entry: Mapping[str, Any], key: str) -> Cell:
    value = checked.number(entry.get(key))
    share = None if value is None or key != "ap" else min(max(value, 0.0), 1.0)
    return number_cell(value, share=share)


# --------------------------------------------------------------------------- charts


def _charts(report: Mapping[str, Any], classes: Sequence[Mapping[str, Any]]) -> list[Chart]:
    overall = checked.mapping(report.get("overall"))
    recall = checked.numbers(report.get("recall_points"), 1001)
    thresholds = checked.numbers(report.get("score_thresholds"), 1001)
    precision = checked.mapping(overall.get("precision"))
    curves = checked.mapping(overall.get("curves"))
    shown = sorted(classes, key=lambda entry: -_num_boxes(entry))[:COLORS]
    few = "each class" if len(classes) <= COLORS else f"the {COLORS} commonest classes"
    charts = [
        _share_chart(
            "Precision over recall, mean of the classes",
            "recall",
            recall,
            [
                ("IoU 0.50", precision.get("iou50")),
                ("IoU 0.75", precision.get("iou75")),
                ("mean of 0.50 to 0.95", precision.get("mean")),
            ],
        ),
        _share_chart(
            f"Precision over recall of {few}, IoU 0.50",
            "recall",
            recall,
            [
                (checked.text(c.get("name"), 40), checked.mapping(c.get("precision")).get("iou50"))
                for c in shown
            ],
        ),
        _share_chart(
            "Over the score threshold, all classes",
            "score threshold",
            thresholds,
            [
                ("precision", curves.get("precision")),
                ("recall", curves.get("recall")),
                ("F1", curves.get("f1")),
            ],
        ),
        _calibration_chart(checked.mapping(report.get("calibration"))),
    ]
    return [chart for chart in charts if chart]


def _num_boxes(entry: Mapping[str, Any]) -> int:
    return checked.count(checked.mapping(entry.get("boxes")).get("all")) or 0


def _share_chart(
    title: str, x_label: str, x: np.ndarray, curves: Sequence[tuple[str, Any]]
) -> Chart | None:
    """Curves of shares over shares; those whose length does not fit are left out."""
    if not x.size or not np.isfinite(x).all() or (np.diff(x) < 0).any():
        return None
    values = [(name, checked.numbers(y, len(x))) for name, y in curves]
    return line_chart(
        title,
        x,
        [Curve(n, y, color) for color, (n, y) in enumerate(values, 1) if len(y) == len(x)],
        x_label=x_label,
        x_digits=2,
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.02),
    )


def _calibration_chart(calibration: Mapping[str, Any]) -> Chart | None:
    bins = checked.mappings(calibration.get("bins"), 100)
    score, precision = (
        checked.numbers([entry.get(key) for entry in bins]) for key in ("score", "precision")
    )
    known = np.isfinite(score) & np.isfinite(precision)
    order = np.argsort(score[known], kind="stable")
    error = checked.number(calibration.get("error"))
    about = "" if error is None else f", off by {error:.3f} on average"
    if not known.any():
        return None
    return line_chart(
        f"Calibration: is a score the share that is right{about}",
        score[known][order],
        [Curve("share that is right", precision[known][order], 1, "dots")],
        x_label="mean score",
        x_digits=3,
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.02),
        diagonal=True,
    )


# --------------------------------------------------------------------------- errors


def _error_table(errors: Mapping[str, Any]) -> Table | None:
    kinds = checked.mapping(errors.get("kinds"))
    if not kinds:
        return None
    found = {kind: checked.mapping(kinds.get(kind)) for kind in ERROR_KINDS}
    costs = {kind: checked.number(entry.get("ap")) for kind, entry in found.items()}
    most = max((cost for cost in costs.values() if cost is not None), default=0.0)
    rows = []
    for kind, entry in found.items():
        cost = costs[kind]
        share = min(max(cost, 0.0) / most, 1.0) if cost is not None and most > 0 else None
        rows.append(
            [
                Cell(kind),
                Cell(KINDS[kind]),
                count_cell(checked.count(entry.get("count"))),
                number_cell(cost, share=share),
            ]
        )
    columns = (
        Column("kind"),
        Column("meaning"),
        Column("errors", True),
        Column("AP50 lost", True, "what AP50 would gain if these errors alone were put right"),
    )
    return Table(columns, rows)


def _confusion(confusion: Mapping[str, Any]) -> Confusion | None:
    labels = [checked.text(label, 40) for label in checked.items(confusion.get("labels"))]
    rows = checked.items(confusion.get("matrix"), MOST_CLASSES + 1)
    matrix = [[checked.count(value) or 0 for value in checked.items(row)] for row in rows]
    if not labels or [len(row) for row in matrix] != [len(labels)] * len(labels):
        return None
    counts = np.array(matrix, np.float64)
    kept, note = _worst_classes(counts), ""
    if len(kept) < len(labels):
        note = f"The {len(kept) - 1} of {len(labels) - 1} classes with the most confusions. "
    threshold = checked.number(confusion.get("score_threshold"))
    if threshold is not None:
        note += f"Detections with a score of at least {threshold:.3f}."
    sums = np.maximum(counts.sum(axis=1), 1)
    most = [
        [
            Cell(checked.text(entry.get("truth"), 40)),
            Cell(checked.text(entry.get("detected"), 40)),
            count_cell(checked.count(entry.get("count"))),
        ]
        for entry in checked.mappings(confusion.get("most"), 20)
    ]
    return Confusion(
        labels=[labels[i] for i in kept],
        rows=[[(int(counts[i, j]), float(counts[i, j] / sums[i])) for j in kept] for i in kept],
        note=note,
        most=Table((Column("truth"), Column("detected as"), Column("times", True)), most),
    )


def _worst_classes(counts: np.ndarray) -> list[int]:
    """Positions of the classes with the most confusions, in their order, and the background."""
    wrong = counts - np.diag(np.diag(counts))
    wrong = wrong.sum(axis=0) + wrong.sum(axis=1)
    chosen = np.argsort(-wrong[:-1], kind="stable")[:_MOST_MATRIX]
    return [*sorted(chosen.tolist()), len(counts) - 1]
