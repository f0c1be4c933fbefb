# SPDX-License-Identifier: Apache-2.0
"""The rows of a run on the disk: one JSON object a line, and the same as two tables."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..base.console import warn
from ..base.errors import UserError
from ..base.foreign_files import open_regular
from ..base.line_log import LineLog, set_aside, take_over, unwritable
from .reading import LONGEST_ROW, parse_row
from .schema import (
    EVAL,
    EVAL_COLUMNS,
    EVALUATION_TABLE,
    KIND,
    METRICS,
    PER_CLASS,
    TRAIN,
    TRAIN_COLUMNS,
    TRAINING_TABLE,
    Row,
    class_column,
)

Place = tuple[int, int]  # epoch, images of it: grows also when the number of processes changes


class MetricsLog:
    """Writes `metrics.jsonl`, `metrics.csv` and `evaluations.csv`.

    A row is on the disk whole or not at all, also after a kill. The tables follow from the rows,
    so a run that goes on writes them anew.

    Args:
        folder: of the run.
        class_names: columns of the table of evaluations.
        resume_at: (epoch, images of it) where the run goes on; rows after it, written by a run that
            was killed later, are taken out. None: a new run, which leaves nothing of an earlier
            one, and keeps aside what no run has written.

    Attributes:
        newest_training: the last row of the training that was kept; empty without one.

    Raises:
        UserError: a file cannot be begun.
    """

    def __init__(
        self, folder: Path, class_names: Sequence[str], resume_at: Place | None = None
    ) -> None:
        self.path = folder / METRICS
        lines = _lines_until(self.path, resume_at or (0, 0))
        self._lines = LineLog(self.path, lines)
        rows = list(_rows(lines))
        self._tables = {
            TRAIN: _Table(folder / TRAINING_TABLE, TRAIN_COLUMNS, rows, TRAIN),
            EVAL: _Table(
                folder / EVALUATION_TABLE,
                (*EVAL_COLUMNS, *map(class_column, class_names)),
                rows,
                EVAL,
            ),
        }
        evaluated = [_place(row) for row in rows if row[KIND] == EVAL]
        self._evaluated = evaluated[-1] if evaluated else None
        self.newest_training: Row = next((row for row in reversed(rows) if row[KIND] == TRAIN), {})

    def add(self, row: Row) -> None:
        """Write a row; an evaluation takes the place of one of the same place.

        Args:
            row: of kind "train" or "eval", of finite numbers and None.
        """
        if row[KIND] == EVAL:
            if self._evaluated == _place(row):  # done before the run was stopped, and now again
                self._drop_evaluation(_place(row))
            self._evaluated = _place(row)
        self._lines.write(json.dumps(row, allow_nan=False))
        self._tables[row[KIND]].add(row)

    def sync(self) -> None:
        """Put what has been written on the disk, as far as that is possible."""
        self._lines.sync()
        for table in self._tables.values():
            table.sync()

    def _drop_evaluation(self, place: Place) -> None:
        self.sync()
        try:
            lines = _lines_until(self.path, place)
            kept = [
                line
                for line, row in zip(lines, _rows(lines), strict=True)
                if row[KIND] != EVAL or _place(row) != place
            ]
            self._lines = LineLog(self.path, kept)
            self._tables[EVAL].begin(_rows(kept))
        except UserError as error:  # a full disk must not end the training
            warn(f"WARNING: {error}; the evaluation stands there twice")


class _Table:
    """The rows of a kind as CSV, with a line of names first.

    Args:
        path: the file.
        columns: their names.
        rows: to begin with, of every kind.
        kind: of the rows that it has.
    """

    def __init__(self, path: Path, columns: Sequence[str], rows: Iterable[Row], kind: str) -> None:
        self.path, self._columns, self._kind = path, columns, kind
        _keep_stranger(path, columns[: len(EVAL_COLUMNS if kind == EVAL else TRAIN_COLUMNS)])
        self.begin(rows)

    def begin(self, rows: Iterable[Row]) -> None:
        """Start the file anew; raises `UserError` when it cannot be written."""
        lines = [_csv(self._columns)]
        lines += [self._line(row) for row in rows if row[KIND] == self._kind]
        self._lines = LineLog(self.path, lines)

    def add(self, row: Row) -> None:
        """Write a row."""
        self._lines.write(self._line(row))

    def sync(self) -> None:
        """Put what has been written on the disk."""
        self._lines.sync()

    def _line(self, row: Row) -> str:
        classes = {class_column(name): ap for name, ap in row.get(PER_CLASS, {}).items()}
        cells = {**row, **classes}
        return _csv([cells.get(column) for column in self._columns])


def _csv(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def _place(row: Row) -> Place:
    return row["epoch"], row["images"]


def _rows(lines: Iterable[str]) -> Iterator[Row]:
    for line in lines:
        row = parse_row(f"{line}\n".encode())
        assert row is not None  # `_lines_until` has kept it
        yield row


def _lines_until(path: Path, place: Place) -> list[str]:
    def judge(line: bytes) -> bool | None:
        row = parse_row(line)
        return None if row is None else _place(row) <= place

    return take_over(path, judge, what="record of a run", longest=LONGEST_ROW)


def _keep_stranger(path: Path, columns: Sequence[str]) -> None:
    """Give a file another name that is no table of a run: it may be the user's."""
    begins = _csv(columns).encode()
    try:
        with open_regular(path, follow_links=False) as file:
            if file.read(len(begins)) == begins:
                return
    except FileNotFoundError:
        return
    except OSError:
        pass
    try:
        aside = set_aside(path)
    except OSError as error:
        raise unwritable(path, error) from error
    warn(f"WARNING: {path}: is no table of a run; kept as {aside.name}")
