# SPDX-License-Identifier: Apache-2.0
"""What a run has left in its folder, which may be damaged, a stranger's, or of an earlier version.

What is missing or cannot be read is said in a note, and the rest is used.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..base.foreign_files import is_regular_file, read_json
from ..base.messages import counted
from ..checkpoints.names import BEST_NAME, checkpoint_position, find_checkpoints
from ..checkpoints.run_config import RUN_CONFIG, read_unasked
from ..evaluation.analysis.schema import REPORT_NAME
from ..model_utils.config import is_saved
from ..pictures.loss_curve import global_steps, read_loss_log
from ..run_record.reading import read_record
from ..run_record.schema import METRICS, STOPPED_EARLY, Row
from . import checked

CHECKPOINTS = "ckpt_0"
EVALUATION_FOLDERS = ("", "eval")  # of the run
_LARGEST_EVALUATION = 1 << 26  # bytes
_LARGEST_LOG = 1 << 28


@dataclass
class RunFiles:
    """What was found.

    Attributes:
        folder: of the run.
        settings_file: its configuration; None without one.
        settings: key -> value as that file has them, unchecked.
        training: rows of losses in the order of training; from the loss log of a run without rows.
        evaluations: a row for each evaluation during training.
        environment: of `environment.json`.
        evaluation: of `evaluation_report.json`, the newest; unchecked.
        best: the checkpoint with the best AP; None without one.
        newest: the newest checkpoint that ends in an epoch or within one; None without one.
        position: (epoch, step in it) of that.
        notes: what could not be read.
    """

    folder: Path
    settings_file: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    training: list[Row] = field(default_factory=list)
    evaluations: list[Row] = field(default_factory=list)
    environment: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    best: Path | None = None
    newest: Path | None = None
    position: tuple[int, int] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def stopped_early(self) -> str:
        """Why the run ended before its last epoch; "" where it did not."""
        return checked.text(self.environment.get(STOPPED_EARLY))

    @property
    def checkpoint(self) -> Path | None:
        """The checkpoint to use: the best, or else the newest."""
        return self.best or self.newest


def read_run(folder: str | Path) -> RunFiles:
    """Read what is in the folder of a run.

    Args:
        folder: `output_dir` of a training.

    Raises:
        UserError: it is no folder, or nothing in it is of a run.
    """
    run = RunFiles(Path(folder))
    if not run.folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the output_dir of a training")
    for read in (_read_settings, _read_rows, _read_loss_log, _read_evaluation, _find_checkpoints):
        try:
            read(run)
        except UserError as error:
            run.notes.append(str(error))
        except OSError as error:
            run.notes.append(f"{error.filename or folder}: {error.strerror or error}")
    if not (run.settings or run.training or run.evaluations or run.evaluation or run.newest):
        reasons = "".join(f"; {note}" for note in run.notes)
        raise UserError(
            f"{folder}: nothing of a training is in it{reasons}; give the output_dir of one"
        )
    return run


def _read_settings(run: RunFiles) -> None:
    """The configuration; where the user's own file has the usual name, a run writes another."""
    usual, other = run.folder / RUN_CONFIG, run.folder / f"effective_{RUN_CONFIG}"
    path = other if is_saved(other) and not is_saved(usual) else usual
    if os.path.lexists(path):
        run.settings = read_unasked(path)
        run.settings_file = path


def _read_rows(run: RunFiles) -> None:
    record = read_record(run.folder)
    run.training, run.evaluations = record.training, record.evaluations
    run.environment = record.environment
    if record.strange:
        run.notes.append(f"{METRICS}: {counted(record.strange, 'line')} left out: no rows")


def _read_loss_log(run: RunFiles) -> None:
    """The losses of a run that has no rows."""
    log = run.folder / "loss_0.log"
    if not run.training and is_regular_file(log):
        if log.stat().st_size > _LARGEST_LOG:
            raise UserError(f"{log}: larger than {_LARGEST_LOG >> 20} MB; shorten it")
        lines = read_loss_log(log)
        steps, _ = global_steps(lines)
        run.training = [
            {"step": int(step), "epoch": line.epoch, **line.losses}
            for step, line in zip(steps, lines, strict=True)
        ]


def _read_evaluation(run: RunFiles) -> None:
    paths = [run.folder / folder / REPORT_NAME for folder in EVALUATION_FOLDERS]
    found = [path for path in paths if is_regular_file(path)]
    if not found:
        return
    newest = max(found, key=lambda path: path.stat().st_mtime)
    try:
        run.evaluation = checked.mapping(read_json(newest, _LARGEST_EVALUATION))
    except ValueError as error:
        raise UserError(f"{newest}: is not JSON ({error})") from None


def _find_checkpoints(run: RunFiles) -> None:
    folder = run.folder / CHECKPOINTS
    if is_regular_file(folder / BEST_NAME):
        run.best = folder / BEST_NAME
    found = find_checkpoints(folder)
    if found:
        run.newest, run.position = found[-1], checkpoint_position(found[-1].name)
