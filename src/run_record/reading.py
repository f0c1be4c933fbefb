# SPDX-License-Identifier: Apache-2.0
"""Reading the record of a run, which may be damaged, still being written, or a stranger's."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from ..base.errors import UserError
from ..base.foreign_files import open_regular, read_json
from .schema import ENVIRONMENT, EVAL, KIND, METRICS, PER_CLASS, PLACE, TRAIN, Row

MOST_ROWS = 2_000_000
LONGEST_ROW = 1 << 20  # bytes; a row with the APs of 20,000 classes has 600,000
_LARGEST_ENVIRONMENT = 1 << 22
_MOST_KEYS = 200  # of a row
_LARGEST = 2**53  # whole numbers that a float still holds
_LARGEST_FLOAT = 3.5e38  # all that float32 holds; sums and ranges of these are finite


class RunRecord(NamedTuple):
    """What a run has written down.

    Attributes:
        training: rows of kind "train", in the order of the file.
        evaluations: rows of kind "eval".
        environment: of `environment.json`; empty when there is none.
        strange: lines of `metrics.jsonl` that are no rows, and are left out.
    """

    training: list[Row]
    evaluations: list[Row]
    environment: dict[str, Any]
    strange: int


def parse_row(line: bytes) -> Row | None:
    """Return the row of a line; None for what no run has written.

    Numbers that are not finite, or beyond what float32 holds, become None, also those of classes.

    Args:
        line: of `metrics.jsonl`, with its newline.
    """
    if not line.endswith(b"\n") or len(line) > LONGEST_ROW:
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or row.get(KIND) not in (TRAIN, EVAL) or len(row) > _MOST_KEYS:
        return None
    if not all(type(row.get(key)) is int and 0 <= row[key] <= _LARGEST for key in PLACE):
        return None
    per_class = row.pop(PER_CLASS, None)
    numbers = {key: value for key, value in row.items() if key != KIND}
    parts = [numbers, per_class] if isinstance(per_class, dict) else [numbers]
    if not all(_is_number(value) for part in parts for value in part.values()):
        return None
    found: Row = {KIND: row[KIND], **{key: _finite(value) for key, value in numbers.items()}}
    if isinstance(per_class, dict):
        found[PER_CLASS] = {name: _finite(value) for name, value in per_class.items()}
    return found


def read_record(folder: str | Path) -> RunRecord:
    """Read the rows and the environment of a run.

    A run may be writing them: a last line that is not whole is left out.

    Args:
        folder: of the run. A file that is missing counts as empty.

    Raises:
        UserError: a file cannot be read, or `environment.json` is no JSON object.
    """
    rows, strange = _read_rows(Path(folder, METRICS))
    by_kind: dict[str, list[Row]] = {TRAIN: [], EVAL: []}
    for row in rows:
        by_kind[row[KIND]].append(row)
    return RunRecord(by_kind[TRAIN], by_kind[EVAL], read_environment(folder), strange)


def read_environment(folder: str | Path) -> dict[str, Any]:
    """Read a run's `environment.json`; empty when there is none.

    Args:
        folder: of the run.

    Raises:
        UserError: it cannot be read, or is no JSON object.
    """
    path = Path(folder, ENVIRONMENT)
    try:
        content = read_json(path, _LARGEST_ENVIRONMENT)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no JSON object; remove the file")
    return content


def _read_rows(path: Path) -> tuple[list[Row], int]:
    rows: list[Row] = []
    strange = 0
    try:
        with open_regular(path) as file:
            while line := file.readline(LONGEST_ROW + 1):
                row = parse_row(line)
                if row is not None:
                    rows.append(row)
                elif line.endswith(b"\n") or len(line) > LONGEST_ROW:
                    strange += 1
                if len(rows) > MOST_ROWS:
                    raise UserError(f"{path}: has more than {MOST_ROWS} rows; shorten it")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _unreadable(path, error) from None
    return rows, strange


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _finite(value: Any) -> int | float | None:
    if value is None or isinstance(value, int):
        return value if value is None or abs(value) <= _LARGEST else None
    return value if abs(value) <= _LARGEST_FLOAT else None  # not so of NaN


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or error
    return UserError(f"{path}: cannot be read ({reason}); remove the file, or name another run")
