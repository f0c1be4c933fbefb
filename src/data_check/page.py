# SPDX-License-Identifier: Apache-2.0
"""What was found, as one HTML page."""

import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..base.errors import UserError
from ..base.files import write_text_atomic
from ..base.foreign_files import read_bounded
from ..base.messages import counted, one_line
from ..base.program import command
from ..images.geometry import ResizeRule
from ..pages.charts import Chart, Curve, line_chart
from ..pages.elements import Cell, Column, CommandLine, Table, Tile, count_cell, number_cell
from ..pages.page import render_page
from .examples import Gallery, duplicate_examples, finding_examples, sample_examples
from .findings import Findings, SplitNumbers
from .overlaps import FAIR, GOOD
from .statistics import ORIENTATIONS, SIZE_NAMES, count_classes

_TEMPLATES = Path(__file__).parent / "templates"
_MOST_YAML = 1 << 16  # bytes that are shown
_STEPS = 100  # of a curve


def write_page(path: str, found: Findings, advice: str) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        found: in the data.
        advice: path of the YAML file, which the page shows; it need not exist.

    Raises:
        UserError: it cannot be written.
    """
    config = found.config
    gallery = Gallery(config.class_names, int(config.max_image_pixels))
    values = {
        "title": _title(found),
        "tiles": _tiles(found),
        "problems": found.problems,
        "notes": found.notes,
        "findings": finding_examples(found, gallery),
        "advice": _advice_table(found),
        "advice_path": one_line(advice),
        "yaml": _text(advice),
        "commands": _commands(found, advice),
        "classes": _class_table(found),
        "splits": _split_table(found.numbers),
        "charts": [chart for chart in _charts(found) if chart is not None],
        "anchors": _anchor_table(found),
        "shapes": _shape_table(found),
        "duplicates": duplicate_examples(found, gallery),
        "num_duplicates": len(found.duplicates),
        "samples": sample_examples(found, gallery),
    }
    html = render_page("data_check.html", values, folder=_TEMPLATES, scripts=["charts.js"])
    try:
        write_text_atomic(path, html)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None


def _title(found: Findings) -> str:
    path = os.path.abspath(found.config.coco_root or found.splits[0].source.image_dir)
    return f"Data check: {one_line(os.path.basename(path) or path, 80)}"


def _text(path: str) -> str:
    try:
        return read_bounded(path, _MOST_YAML).decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def next_command(found: Findings, advice: str) -> str:
    """Return what to go on with: a validation part, or else the training.

    Args:
        found: in the data.
        advice: path of the YAML file.
    """
    if not found.has_validation and found.config.coco_root:
        return f"{command('split')} {shlex.quote(one_line(found.config.coco_root))}"
    return _training(advice)


def _training(advice: str) -> str:
    return f"{command('train')} {_settings(advice)} --output_dir train"


def _settings(advice: str) -> str:
    return f"--config_path {shlex.quote(one_line(advice))}"


def _commands(found: Findings, advice: str) -> list[CommandLine]:
    settings, training = _settings(advice), _training(advice)
    step = next_command(found, advice)
    first = [] if step == training else [CommandLine("Make a validation part", step)]
    return [
        *first,
        CommandLine("Train with this advice", training),
        CommandLine(
            "Train with it from pretrained weights", f"{training} --pre_trained CHECKPOINT"
        ),
        CommandLine(
            "Look at the pictures, their boxes, and what augmentation makes of them",
            f"{command('browse')} {settings}",
        ),
        CommandLine(
            "Check again with this advice as the present settings",
            f"{command('check')} {settings} --output_dir data_check_2",
        ),
    ]


# --------------------------------------------------------------------------- numbers and tables


def _tiles(found: Findings) -> list[Tile]:
    tiles = [
        Tile(
            "training" if numbers.name == "train" else "validation",
            f"{numbers.images:,}",
            counted(numbers.boxes, "box", "boxes"),
        )
        for numbers in found.numbers
    ]
    tiles.append(Tile("classes", str(len(found.config.class_names))))
    leaks = sum(group.is_leak for group in found.duplicates)
    tiles.append(Tile("groups alike", str(len(found.duplicates)), f"{leaks} across splits"))
    if found.advised.anchor_rows:
        present, advised = (row.fit.good for row in found.advised.anchor_rows[1:3])
        note = f"{present:.0%} with the present ones"
        tiles.append(Tile(f"advised anchors above {GOOD}", f"{advised:.0%}", note))
    tiles.append(Tile("problems", str(len(found.problems))))
    return tiles


def _advice_table(found: Findings) -> Table:
    rows = [
        [
            Cell(item.topic),
            Cell(item.now),
            Cell(item.advised if item.keys else "as it is"),
            Cell(item.why),
        ]
        for item in found.advised.items
    ]
    return Table([Column("of"), Column("now"), Column("advised"), Column("why")], rows)


def _class_table(found: Findings) -> Table:
    columns = [Column("class")]
    for numbers in found.numbers:
        columns += [
            Column(f"{numbers.name}: boxes", True),
            Column("share", True, "of the boxes"),
            Column("pictures", True, "that have one"),
        ]
    advised = found.advised.placed
    scale = "network's scale" if advised is None else "advised canvas"
    help_ = "share of the training boxes, by their pixels in the network's input"
    columns += [Column(f"{name}, {scale}", True, help_) for name in SIZE_NAMES]
    classes = found.numbers[0].classes
    if advised is not None:
        classes = count_classes(found.numbers[0].table, advised, found.config.class_names)
    rows = []
    for position, name in enumerate(found.config.class_names):
        row = [Cell(name)]
        for numbers in found.numbers:
            one = numbers.classes[position]
            largest = max((c.boxes for c in numbers.classes), default=0)
            row += [
                count_cell(one.boxes, share=one.boxes / max(largest, 1)),
                _percent(one.boxes / max(numbers.boxes, 1)),
                count_cell(one.images),
            ]
        row += [_percent(share) for share in classes[position].sizes]
        rows.append(row)
    return Table(columns, rows)


def _percent(share: float, digits: int = 1) -> Cell:
    return Cell(f"{share:.{digits}%}", share)


def _split_table(splits: Sequence[SplitNumbers]) -> Table:
    columns = [Column(""), *(Column(numbers.name, True) for numbers in splits)]

    def row(title: str, cells: Iterator[Cell]) -> list[Cell]:
        return [Cell(title), *cells]

    rows = [
        row("pictures", (count_cell(n.images) for n in splits)),
        row("boxes", (count_cell(n.boxes) for n in splits)),
        row("crowd regions", (count_cell(n.crowd) for n in splits)),
        row("boxes a picture, mean", (number_cell(n.boxes_a_picture.mean, 1) for n in splits)),
        row("boxes a picture, 99 %", (number_cell(n.boxes_a_picture.p99, 0) for n in splits)),
        row("boxes a picture, most", (count_cell(n.boxes_a_picture.most) for n in splits)),
        row("boxes beyond num_gts", (count_cell(n.boxes_a_picture.lost) for n in splits)),
        row("boxes that no anchor reaches", (count_cell(n.unreached) for n in splits)),
    ]
    for i, name in enumerate(ORIENTATIONS):
        rows.append(row(f"{name} pictures", (_percent(n.orientations[i]) for n in splits)))
    for i, name in enumerate(SIZE_NAMES):
        rows.append(
            row(f"{name} boxes, present canvas", (_percent(n.net_sizes[i]) for n in splits))
        )
        rows.append(row(f"{name} boxes, in pictures", (_percent(n.own_sizes[i]) for n in splits)))
    for i, name in enumerate(("smallest", "median", "largest")):
        sizes = [n.picture_sizes[i] for n in splits]
        rows.append(row(f"{name} picture", (Cell(f"{w}x{h}", h * w) for h, w in sizes)))
    return Table(columns, rows)


def _anchor_table(found: Findings) -> Table:
    columns = [
        Column("anchors"),
        Column("canvas"),
        Column("scales"),
        Column("ratios"),
        Column("filter"),
        Column(f"above {GOOD}", True, "share of the training boxes whose best anchor overlaps so"),
        Column(f"above {FAIR}", True, "share of the training boxes whose best anchor overlaps so"),
        Column("mean", True, "of the best overlaps"),
        Column("not reached", True, "boxes that no anchor overlaps by min_pos_iou"),
    ]
    rows = [
        [
            Cell(row.label),
            Cell(row.canvas),
            Cell(", ".join(f"{scale:g}" for scale in row.anchors.scales)),
            Cell(", ".join(f"{ratio:g}" for ratio in row.anchors.ratios)),
            Cell(row.anchors.which),
            Cell(f"{row.fit.good:.1%}", row.fit.good, row.fit.good),
            Cell(f"{row.fit.fair:.1%}", row.fit.fair, row.fit.fair),
            number_cell(row.fit.mean),
            _percent(row.unreached),
        ]
        for row in found.advised.anchor_rows
    ]
    return Table(columns, rows)


def _shape_table(found: Findings) -> Table | None:
    shapes = found.advised.shapes
    if shapes is None:
        return None
    rows = [
        [
            number_cell(float(width), 0),
            number_cell(float(height), 0),
            number_cell(float(height / width), 2),
            Cell(f"{share:.1%}", float(share), float(share / shapes.shares.max())),
        ]
        for (width, height), share in zip(shapes.sides, shapes.shares, strict=True)
    ]
    columns = [Column(n, True) for n in ("width", "height", "ratio", "share")]
    return Table(
        columns,
        rows,
        "Typical shapes by k-means on IoU, network-input pixels of the advised canvas; a box "
        f"overlaps its shape by {shapes.mean:.2f} on average",
    )


# --------------------------------------------------------------------------- charts


def _charts(found: Findings) -> Iterator[Chart | None]:
    now, then = found.advised.overlaps
    if len(now):
        x = np.linspace(0.0, 1.0, _STEPS + 1)
        yield line_chart(
            "Boxes whose best anchor overlaps them by more than x",
            x,
            [Curve("now", _above(now, x), 2, "dashed"), Curve("advised", _above(then, x), 1)],
            x_label="overlap (IoU)",
            x_digits=2,
            y_range=(0.0, 1.0),
        )
    table, placed = found.numbers[0].table, found.advised.placed
    if placed is not None:
        own = np.sqrt(table.placed(ResizeRule.from_config(found.config)).areas)
        advised = np.sqrt(placed.areas)
        top = max(float(np.quantile(np.concatenate([own, advised]), 0.98)), 1.0)
        x = np.linspace(0.0, top, _STEPS + 1)
        yield line_chart(
            "Training boxes up to a size at the network's scale",
            x,
            [
                Curve("now", 1.0 - _above(own, x), 2, "dashed"),
                Curve("advised canvas", 1.0 - _above(advised, x), 1),
            ],
            x_label="root of the area, pixels",
            y_range=(0.0, 1.0),
        )
    most = max((int(np.quantile(n.counts, 0.995)) for n in found.numbers if n.images), default=0)
    x = np.arange(max(most, 1) + 1.0)
    yield line_chart(
        "Share of the pictures with x boxes",
        x,
        [
            Curve(
                n.name,
                np.bincount(np.minimum(n.counts, len(x) - 1), minlength=len(x)) / n.images,
                i,
            )
            for i, n in enumerate(found.numbers, start=1)
        ],
        x_label="boxes",
    )


def _above(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Share of the values above each x."""
    return 1.0 - np.searchsorted(np.sort(values), x, side="right") / len(values)
