# SPDX-License-Identifier: Apache-2.0
"""What a run learns from and is judged by: its pictures and boxes, counted."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..base.errors import UserError
from ..base.messages import one_line
from ..data.record_set import open_alone
from ..data.records import AnnotationReport, ImageRecord
from ..data.source import DataSource, data_source
from ..data.validation_part import is_training_data
from ..model_utils.config import Config
from ..pages.elements import Cell, Column, Table, count_cell, number_cell

SPLITS = {"train": "training", "val": "validation"}
_LARGEST_ANNOTATIONS = 200_000_000  # bytes that are read when there are no records
_SMALL, _MEDIUM = 32**2, 96**2  # square pixels, COCO's bounds


@dataclass(frozen=True)
class Split:
    """A split as a run has it.

    Attributes:
        source: where it comes from.
        records: its pictures with their boxes.
        sizes: (N, 2) int32 heights and widths in pixels; empty where they are not known.
        report: what reading and converting found.
    """

    source: DataSource
    records: Sequence[ImageRecord]
    sizes: np.ndarray
    report: AnnotationReport


@dataclass
class DataSummary:
    """Both splits, as far as they are there.

    Attributes:
        splits: by name, "train" and "val".
        notes: what is not there, and why.
    """

    splits: dict[str, Split] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def has_no_validation(self) -> bool:
        """Whether the pictures to evaluate on are those of the training."""
        if "train" not in self.splits or "val" not in self.splits:
            return False
        training, validation = (self.splits[name].source.anno_path for name in ("train", "val"))
        return is_training_data(training, validation)


def summarize_data(config: Config) -> DataSummary:
    """Look at the converted records of a run, or else at its annotations.

    Args:
        config: of the run; uses the keys of the data.
    """
    summary = DataSummary()
    for split, title in SPLITS.items():
        try:
            summary.splits[split] = _read_split(data_source(config, split))
        except UserError as error:
            summary.notes.append(one_line(f"{title} data: {error}"))
    return summary


def _read_split(source: DataSource) -> Split:
    try:
        records = open_alone(os.path.join(source.mindrecord_dir, source.name()))
        return Split(source, records.records, records.sizes, records.report)
    except (OSError, ValueError):  # never converted here, or damaged
        pass
    try:
        size = os.path.getsize(source.anno_path)
    except OSError as error:
        raise UserError(f"{source.anno_path}: {error.strerror}") from None
    if size > _LARGEST_ANNOTATIONS:
        raise UserError(
            f"{source.anno_path}: has {size / 1e6:.0f} MB and no records in "
            f"{source.mindrecord_dir}, which a report looks at"
        )
    read, report = source.read(max_boxes=source.max_boxes)
    sizes = [record.stated_size for record in read]
    known = np.array(sizes if None not in sizes else [], np.int32).reshape(-1, 2)
    return Split(source, read, known, report)


def split_table(summary: DataSummary) -> Table:
    """Return a row of totals for each split.

    Args:
        summary: of the data.
    """
    columns = (
        Column("split"),
        Column("pictures", True),
        Column("boxes", True),
        Column("crowd regions", True, "regions of many objects, which count neither way"),
        Column("boxes a picture", True, "mean"),
        Column("most", True, "boxes of one picture"),
        Column("without boxes", True, "pictures"),
        Column("widths"),
        Column("heights"),
    )
    rows = []
    for name, split in summary.splits.items():
        boxes = np.array([len(record.labels) for record in split.records])
        crowds = sum(int(record.crowd.sum()) for record in split.records)
        rows.append(
            (
                Cell(SPLITS[name]),
                count_cell(len(boxes)),
                count_cell(int(boxes.sum())),
                count_cell(crowds),
                number_cell(float(boxes.mean()) if len(boxes) else None, 1),
                count_cell(int(boxes.max(initial=0))),
                count_cell(int((boxes == 0).sum())),
                _range_cell(split.sizes[:, 1]),
                _range_cell(split.sizes[:, 0]),
            )
        )
    return Table(columns, rows)


def _range_cell(values: np.ndarray) -> Cell:
    if not values.size:
        return Cell("-")
    low, middle, high = int(values.min()), int(np.median(values)), int(values.max())
    text = str(low) if low == high else f"{low} to {high}, half up to {middle}"
    return Cell(text, float(middle))


def class_table(summary: DataSummary, class_names: Sequence[str]) -> Table:
    """Return a row for each class: its boxes in each split, by COCO's sizes in the training split.

    Args:
        summary: of the data.
        class_names: without the background, in label order.
    """
    counted = {name: _count(split, len(class_names)) for name, split in summary.splits.items()}
    columns = [Column("class")]
    values: list[list[Cell]] = [[Cell(name)] for name in class_names]
    for name in summary.splits:
        title = SPLITS[name]
        columns += [
            Column(f"{title} boxes", True, "without crowd regions; the bar is their share"),
            Column(f"{title} pictures", True, "with at least one"),
        ]
        boxes, pictures, _ = counted[name]
        for row, number, among in zip(values, boxes, pictures, strict=True):
            share = float(number / max(boxes.sum(), 1))
            row += [count_cell(int(number), share=share), count_cell(int(among))]
    if "train" in summary.splits:
        columns += [
            Column("small", True, "training boxes of less than 32 x 32 pixels of their picture"),
            Column("medium", True, "training boxes of up to 96 x 96 pixels"),
            Column("large", True, "larger training boxes"),
        ]
        for row, of_class in zip(values, counted["train"][2], strict=True):
            row += [count_cell(int(number)) for number in of_class]
    return Table(columns, values)


def _count(split: Split, num_classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each class (C,) boxes, (C,) pictures with some, and (C, 3) boxes by size."""
    sizes = np.zeros((num_classes, 3), np.int64)
    if not split.records:
        return sizes.sum(axis=1), sizes.sum(axis=1), sizes
    labels = np.concatenate([record.labels for record in split.records]).astype(np.int64)
    boxes = np.concatenate([record.boxes for record in split.records]).reshape(-1, 4)
    crowd = np.concatenate([record.crowd for record in split.records])
    counts = [len(record.labels) for record in split.records]
    picture = np.repeat(np.arange(len(counts)), counts)
    wanted = ~crowd & (labels >= 1) & (labels <= num_classes)
    labels, boxes, picture = labels[wanted] - 1, boxes[wanted], picture[wanted]
    sides = boxes[:, 2:] - boxes[:, :2]
    np.add.at(sizes, (labels, np.digitize(sides[:, 0] * sides[:, 1], (_SMALL, _MEDIUM))), 1)
    pairs = np.unique(labels * len(counts) + picture) // len(counts)
    return sizes.sum(axis=1), np.bincount(pairs, minlength=num_classes), sizes


def findings(summary: DataSummary) -> list[str]:
    """Return what reading and converting found, and what is not there, a line each.

    Args:
        summary: of the data.
    """
    lines = [
        one_line(f"{SPLITS[name]}: {line.strip()}")
        for name, split in summary.splits.items()
        for line in split.report.lines()[1:]
    ]
    return [*lines, *summary.notes]
