# SPDX-License-Identifier: Apache-2.0
"""Curves of a training, and what its evaluations said after each epoch."""

from collections.abc import Iterable, Sequence

import numpy as np

from ..pages.charts import COLORS, Chart, Curve, line_chart
from ..pages.elements import Cell, Column, Table, Tile, count_cell, number_cell
from ..pictures.loss_curve import smooth
from ..run_record.schema import PER_CLASS, Row

_PARTS = {
    "rpn_cls_loss": "RPN class",
    "rpn_reg_loss": "RPN box",
    "rcnn_cls_loss": "RCNN class",
    "rcnn_reg_loss": "RCNN box",
}
_MEASURES = (  # (title, key, digits)
    ("Learning rate", "learning_rate", 6),
    ("Gradient norm", "gradient_norm", 3),
    ("Images per second", "images_per_second", 2),
    ("Memory, MB", "memory_mb", 0),
)
_PRECISIONS = {
    "ap": ("AP", "mean over IoU 0.50 to 0.95"),
    "ap50": ("AP50", "at IoU 0.50"),
    "ap75": ("AP75", "at IoU 0.75"),
    "ap_small": ("AP small", "boxes of less than 32 x 32 pixels"),
    "ap_medium": ("AP medium", "boxes of up to 96 x 96 pixels"),
    "ap_large": ("AP large", "larger boxes"),
    "ar100": ("AR", "recall of up to 100 detections, mean over IoU 0.50 to 0.95"),
}
_VALIDATION_LOSSES = {
    "val_total_loss": "total",
    **{f"val_{key}": name for key, name in _PARTS.items()},
}
_MOST_CLASS_COLUMNS = 30


def training_charts(rows: Sequence[Row]) -> list[Chart]:
    """Draw losses, and what else the rows tell, over the steps.

    Args:
        rows: of a training, in its order.
    """
    if len(rows) < 2:  # of one there are `training_tiles`
        return []
    steps = _column(rows, "step")
    ends = _epoch_ends(rows)
    width = max(1, len(rows) // 15)

    total = _column(rows, "total_loss")
    charts = [
        line_chart(
            "Total loss",
            steps,
            [
                Curve("as logged", total, style="faint"),
                Curve("moving average", _smooth(total, width)),
            ],
            x_label="step",
            digits=5,
            marks=ends,
        ),
        line_chart(
            "Its four parts, moving averages",
            steps,
            [
                Curve(name, _smooth(_column(rows, key), width), color)
                for color, (key, name) in enumerate(_PARTS.items(), start=1)
            ],
            x_label="step",
            digits=5,
            marks=ends,
        ),
    ]
    for title, key, digits in _MEASURES:
        curve = Curve(title, _column(rows, key), 1)
        charts.append(line_chart(title, steps, [curve], x_label="step", digits=digits, marks=ends))
    return [chart for chart in charts if chart]


def training_tiles(rows: Sequence[Row]) -> list[Tile]:
    """Return the numbers of a training that is too short for curves; none of others.

    Args:
        rows: of a training.
    """
    if len(rows) != 1:
        return []
    named = {"total_loss": "Total loss", **_PARTS, **{key: title for title, key, _ in _MEASURES}}
    digits = {key: "3g" if key == "learning_rate" else f"{most}f" for _, key, most in _MEASURES}
    return [
        Tile(title, f"{rows[0][key]:,.{digits.get(key, '4f')}}")
        for key, title in named.items()
        if rows[0].get(key) is not None
    ]


def evaluation_charts(rows: Sequence[Row], class_names: Sequence[str]) -> list[Chart]:
    """Draw what the evaluations of a training said, over the epochs.

    Args:
        rows: of its evaluations.
        class_names: those to draw, as far as there are colours for.
    """
    if len(rows) < 2:  # the table says it
        return []
    epochs = _column(rows, "epoch")
    groups = [
        (
            "Average precision",
            [(_PRECISIONS[key][0], _column(rows, key)) for key in ("ap", "ap50", "ap75")],
        ),
        (
            "AP of each class" if len(class_names) <= COLORS else f"AP of {COLORS} classes",
            [(name, _of_class(rows, name)) for name in class_names[:COLORS]],
        ),
        (
            "Losses on the validation pictures",
            [(name, _column(rows, key)) for key, name in _VALIDATION_LOSSES.items()],
        ),
    ]
    charts = [
        line_chart(
            title,
            epochs,
            [Curve(name, y, color) for color, (name, y) in enumerate(curves, start=1)],
            x_label="epoch",
            digits=4,
        )
        for title, curves in groups
    ]
    return [chart for chart in charts if chart]


def evaluation_table(rows: Sequence[Row], class_names: Sequence[str]) -> Table:
    """Return a row for each evaluation; numbers that none of them has get no column.

    Args:
        rows: of the evaluations of a training.
        class_names: that get a column each, if they are few.
    """
    keys = [key for key in (*_PRECISIONS, *_VALIDATION_LOSSES) if any_number(rows, key)]
    titles = {**_PRECISIONS, **{k: (f"loss {v}", "") for k, v in _VALIDATION_LOSSES.items()}}
    names = class_names if len(class_names) <= _MOST_CLASS_COLUMNS else ()
    columns = [Column("epoch", True), Column("step", True)]
    columns += [Column(titles[key][0], True, titles[key][1]) for key in keys]
    columns += [Column(name, True, "AP of this class") for name in names]
    best = best_row(rows)
    values = []
    for row in rows:
        mark = " (best)" if row is best else ""
        cells = [Cell(f"{row['epoch']}{mark}", float(row["epoch"])), count_cell(row["step"])]
        cells += [number_cell(row.get(key), 3 if key in _PRECISIONS else 4) for key in keys]
        cells += [number_cell(row.get(PER_CLASS, {}).get(name)) for name in names]
        values.append(cells)
    return Table(columns, values)


def best_row(rows: Iterable[Row]) -> Row | None:
    """Return the evaluation with the highest AP, the first of equals; None without any.

    Args:
        rows: of the evaluations of a training.
    """
    judged = [row for row in rows if row.get("ap") is not None]
    return max(judged, key=lambda row: row["ap"], default=None)


def any_number(rows: Iterable[Row], key: str) -> bool:
    """Say whether a row has a number under a key.

    Args:
        rows: of a training or of its evaluations.
        key: of the number.
    """
    return any(row.get(key) is not None for row in rows)


def _column(rows: Sequence[Row], key: str) -> np.ndarray:
    """(N,) float64, NaN where a row has no such number."""
    found = (row.get(key) for row in rows)
    return np.array([np.nan if value is None else value for value in found], np.float64)


def _of_class(rows: Sequence[Row], name: str) -> np.ndarray:
    found = (row.get(PER_CLASS, {}).get(name) for row in rows)
    return np.array([np.nan if value is None else value for value in found], np.float64)


def _smooth(values: np.ndarray, width: int) -> np.ndarray:
    """The moving average of the numbers there are."""
    known = np.isfinite(values)
    averaged = np.full(len(values), np.nan)
    averaged[known] = smooth(values[known], width)
    return averaged


def _epoch_ends(rows: Sequence[Row]) -> list[float]:
    """The last step of each epoch."""
    ends = {row["epoch"]: float(row["step"]) for row in rows}
    return [ends[epoch] for epoch in sorted(ends)]
