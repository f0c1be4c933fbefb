# SPDX-License-Identifier: Apache-2.0
"""A report as text: what to look at first, in at most 40 lines whatever the number of classes."""

from collections.abc import Sequence

from ...base.messages import counted, shown
from . import schema
from .picture_schema import Picture

_MOST_CLASSES = 16  # rows of the table; the file has all
_MOST_CONFUSED = 3
_MOST_PICTURES = 3
_NAME = 24  # most characters of a class' name
_COLUMNS = ("AP", "AP50", "AP75", "small", "medium", "large", "score", "precision", "recall", "F1")
_MEANING: dict[schema.ErrorKind, str] = {
    "classification": "on an object of another class",
    "localisation": "on the right object, but too far off",
    "both": "wrong class, and too far off",
    "duplicate": "second detection of an object",
    "background": "on no object",
    "missed": "objects that nothing points at",
}


def report_lines(report: schema.EvaluationReport) -> list[str]:
    """Return a report as lines.

    Args:
        report: of an evaluation.
    """
    if not report["counts"]["boxes"]["all"]:
        return ["no closer look: there is no box to judge by"]
    return [
        *_class_table(report),
        "",
        *_error_table(report["errors"]),
        "",
        *_confused(report["confusion"]),
        *_calibration(report["calibration"]),
        *_pictures(report["pictures"]),
    ]


def _class_table(report: schema.EvaluationReport) -> list[str]:
    rows = [row for row in report["classes"] if row["boxes"]["all"]]
    rows.sort(key=lambda row: row["ap"] or 0.0)
    named = rows[:_MOST_CLASSES]
    names = [shown(row["name"], _NAME) for row in named]
    width = max(map(len, ["all classes", *names]))
    heading = " ".join(f"{title:>9}" for title in _COLUMNS)
    lines = [
        "precision, recall and F1 at IoU 0.50, with each class' best score threshold:",
        f"{'class':<{width}} {heading}",
    ]
    for name, row in zip(names, named, strict=True):
        lines.append(f"{name:<{width}} {_row(row, row['best'])}")
    if len(rows) > len(named):
        left = len(rows) - len(named)
        lines.append(
            f"... and {counted(left, 'class', 'classes')} with a higher AP: {schema.REPORT_NAME}"
        )
    best = report["overall"]["best"]
    lines.append(f"{'all classes':<{width}} {_row(report['summary'], best)}")
    return lines


def _row(numbers: schema.ClassReport | schema.Summary, point: schema.OperatingPoint) -> str:
    values = [
        numbers["ap"],
        numbers["ap50"],
        numbers["ap75"],
        numbers["ap_small"],
        numbers["ap_medium"],
        numbers["ap_large"],
        point["threshold"],
        point["precision"],
        point["recall"],
        point["f1"],
    ]
    return " ".join(f"{_number(value):>9}" for value in values)


def _error_table(errors: schema.Errors) -> list[str]:
    lines = [f"errors, and what AP50 ({_number(errors['ap50'])}) would gain without them (TIDE):"]
    for kind in schema.ERROR_KINDS:
        cost = errors["kinds"][kind]
        gain = _number(cost["ap"])
        lines.append(f"{kind:<15} {cost['count']:>7}  {gain:>6}  {_MEANING[kind]}")
    return lines


def _confused(confusion: schema.Confusion) -> Sequence[str]:
    cells = [
        f"{shown(cell['truth'], _NAME)} as {shown(cell['detected'], _NAME)} ({cell['count']})"
        for cell in confusion["most"]
        if schema.BACKGROUND not in (cell["truth"], cell["detected"])
    ]
    return [f"taken for another class: {', '.join(cells[:_MOST_CONFUSED])}"] if cells else []


def _calibration(calibration: schema.Calibration) -> Sequence[str]:
    error = calibration["error"]
    if error is None:
        return []
    return [
        f"calibration: scores are off the share of correct detections by {error:.3f} on average"
    ]


def _pictures(pictures: schema.Pictures) -> Sequence[str]:
    lines = [
        f"pictures: {pictures['flawless']} flawless, {pictures['with_false']} with false "
        f"detections, {pictures['with_missed']} with missed objects"
    ]
    worst = [_picture(picture) for picture in pictures["worst"][:_MOST_PICTURES]]
    return [*lines, f"worst: {', '.join(worst)}"] if worst else lines


def _picture(picture: Picture) -> str:
    name = picture["file_name"] or f"image {picture['image_id']}"
    return (
        f"{shown(name)} (correct {picture['correct']}, false {picture['false']}, "
        f"missed {picture['missed']})"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
