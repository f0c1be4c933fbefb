# SPDX-License-Identifier: Apache-2.0
"""Events for TensorBoard: every number of the record, a sheet of detections, PR curves."""

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import UserError
from ..evaluation.analysis.matching import Matches, match_detections
from ..pictures.drawing import read_picture
from ..pictures.visualize import DETECTIONS, draw_detections
from .callback import Callback, Evaluation, RunInfo
from .schema import EVENTS_FOLDER, KIND, PER_CLASS, PLACE, VALIDATION_LOSSES

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

_PICTURES = 8  # on the sheet
_MOST_CURVES = 100  # classes that have one of their own
_THRESHOLDS = np.linspace(0.0, 1.0, 127)  # as many as TensorBoard has by default
_FLUSH_SECONDS = 10


def is_installed() -> bool:
    """Say whether tensorboardX can be imported."""
    try:
        import tensorboardX  # noqa: F401
    except ImportError:
        return False
    return True


def require_installed() -> None:
    """Check that tensorboardX can be imported.

    Raises:
        UserError: it cannot.
    """
    if not is_installed():
        raise UserError(
            "tensorboard: on needs the package tensorboardX, which is not installed; run `pip "
            "install tensorboardX` (the extra [tensorboard] of this project), or set it to auto"
        )


class TensorBoardEvents(Callback):
    """Writes `tensorboard/` in the folder of a run."""

    def __init__(self) -> None:
        self._writer: SummaryWriter | None = None
        self._run: RunInfo | None = None

    def on_start(self, run: RunInfo) -> None:
        """Begin a file of events; those of later steps, or of an earlier run, count no longer."""
        from tensorboardX import SummaryWriter

        self._run = run
        self._writer = SummaryWriter(
            str(run.folder / EVENTS_FOLDER),
            purge_step=run.step + 1 if run.resumed else 0,
            flush_secs=_FLUSH_SECONDS,
        )

    def on_train_row(self, row: Mapping[str, Any]) -> None:
        """Write the numbers of a row."""
        self._numbers("train", row)

    def on_evaluation(self, row: Mapping[str, Any], evaluation: Evaluation) -> None:
        """Write the numbers of an evaluation, and what it has found."""
        losses = {name: row[name] for name in VALIDATION_LOSSES if name in row}
        self._numbers("eval", {name: row[name] for name in row if name not in losses})
        short = {name.removeprefix("val_"): value for name, value in losses.items()}
        self._numbers("validation", {**{name: row[name] for name in (*PLACE, "time")}, **short})
        self._curves(row["step"], evaluation)
        self._sheet(row["step"], evaluation)

    def on_end(self, exit_code: int) -> None:
        """Write what is left."""
        if self._writer:
            self._writer.close()

    def _numbers(self, group: str, row: Mapping[str, Any]) -> None:
        assert self._writer is not None
        numbers = {name: row[name] for name in row if name not in (KIND, PER_CLASS, *PLACE, "time")}
        named = {f"{group}/{name}": value for name, value in numbers.items()}
        named |= {f"{group}/ap/{name}": ap for name, ap in row.get(PER_CLASS, {}).items()}
        for tag, value in named.items():
            if value is not None:
                self._writer.add_scalar(tag, value, row["step"], walltime=row["time"])

    def _curves(self, step: int, evaluation: Evaluation) -> None:
        """Precision over recall at IoU 0.5, of all classes together and of each one."""
        assert self._writer is not None
        names = evaluation.summary.evidence.class_names
        matches = match_detections(evaluation.summary.evidence)
        labels: dict[str, int | None] = {"all": None}
        if len(names) <= _MOST_CURVES:
            labels |= {f"class/{name}": label for label, name in enumerate(names)}
        for name, label in labels.items():
            counts = counts_by_threshold(matches, label)
            if counts is not None:
                self._writer.add_pr_curve_raw(
                    f"pr/{name}", *counts, global_step=step, num_thresholds=len(_THRESHOLDS)
                )

    def _sheet(self, step: int, evaluation: Evaluation) -> None:
        assert self._writer is not None and self._run is not None
        evaluated = set(evaluation.summary.evidence.image_ids)
        images = [image for image in evaluation.truth["images"] if image["id"] in evaluated]
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(UserError):
            png = Path(folder, DETECTIONS)
            draw_detections(
                [dict(result) for result in evaluation.results],
                {**evaluation.truth, "images": images},
                evaluation.image_folder,
                png,
                max_images=_PICTURES,
                max_pixels=self._run.config.max_image_pixels,
            )
            self._writer.add_image("detections", read_picture(png), step, dataformats="HWC")


def counts_by_threshold(matches: Matches, label: int | None) -> tuple[np.ndarray, ...] | None:
    """Return what a PR curve of TensorBoard's is made of; None without a box to be found.

    Args:
        matches: of an evaluation, at IoU 0.5.
        label: of the class, from 0; None: all.

    Returns:
        true positives, false positives, true negatives (0: there are none in detection), false
        negatives, precision, recall; each (127,) float64, at rising thresholds of the score.
    """
    own, real = matches.counted, matches.real
    if label is not None:
        own, real = own & (matches.found.label == label), real & (matches.truth.label == label)
    boxes = int(real.sum())
    if not boxes:
        return None
    scores, correct = matches.found.score[own], matches.correct[own]
    right, wrong = (
        np.array([(part >= threshold).sum() for threshold in _THRESHOLDS], np.float64)
        for part in (scores[correct], scores[~correct])
    )
    precision = np.divide(right, right + wrong, out=np.ones_like(right), where=right + wrong > 0)
    return right, wrong, np.zeros_like(right), boxes - right, precision, right / boxes
