# SPDX-License-Identifier: Apache-2.0
"""Which weights of a run are the best so far, and when it does not get better any more."""

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..base.errors import UserError
from ..base.messages import counted, short
from ..run_record.schema import (
    COCO_METRICS,
    NUMBERS_OF_TRAINING,
    PER_CLASS,
    PER_CLASS_SEPARATOR,
    VALIDATION_LOSSES,
    class_column,
    lower_is_better,
)


class BestMetric:
    """Follows one number of the record.

    Args:
        metric: its name: of an evaluation (`ap`, `ap/cat`, `val_total_loss`) or of a training row.
        patience: end the run when it was not better so many times in a row; 0: never.
        delta: by how much it has to be better, for `patience`.
        state: of an earlier part of the run; one of another metric does not count.
        remark: what has to be known to read the number; empty: nothing.

    Attributes:
        metric: its name.
        of_evaluation: whether evaluations have it, not training rows.
    """

    def __init__(
        self,
        metric: str,
        *,
        patience: int = 0,
        delta: float = 0.0,
        state: Mapping[str, Any] | None = None,
        remark: str = "",
    ) -> None:
        self._remark = f", {remark}" if remark else ""
        self.metric, self.patience, self._delta = metric, patience, delta
        self.of_evaluation = metric not in NUMBERS_OF_TRAINING
        self._sign = -1.0 if lower_is_better(metric) else 1.0
        known = state if state and state.get("metric") == metric else {}
        self._value: float | None = known.get("value")
        self._epoch: int = known.get("epoch", 0)
        self._level: float | None = known.get("level", self._value)
        self._waited: int = known.get("waited", 0)
        self._judged: int = known.get("judged", 0)
        self._before = self._value, self._epoch

    def take(self, row: Mapping[str, Any], epoch: int) -> bool:
        """Look at a row; say whether its weights are the best so far.

        Args:
            row: of the record; one without the number changes nothing.
            epoch: of the row.
        """
        value = value_of(row, self.metric)
        if value is None:
            return False
        if self._level is None or self._sign * (value - self._level) > self._delta:
            self._level, self._waited = value, 0
        elif epoch > self._judged:  # a run that goes on may evaluate an epoch again
            self._waited += 1
        self._judged = epoch
        if self._value is not None and self._sign * (value - self._value) <= 0:
            return False
        self._before = self._value, self._epoch
        self._value, self._epoch = value, epoch
        return True

    def not_kept(self) -> None:
        """Take back that the newest weights are the best: they could not be written."""
        self._value, self._epoch = self._before

    def is_over(self) -> bool:
        """Say whether the run is to end, since the number gets no better."""
        return self.patience > 0 and self._waited >= self.patience

    def why_over(self) -> str:
        """Say why, when the run is over."""
        times = counted(self._waited, "evaluation" if self.of_evaluation else "epoch")
        return (
            f"{self.metric} was not better by more than {self._delta:g} in {times}; the best so "
            f"far, {self}"
        )

    def state(self) -> dict[str, Any]:
        """Return what another run needs to go on, as plain JSON values; empty before a number."""
        if self._level is None:
            return {}
        return {
            "metric": self.metric,
            "value": self._value,
            "epoch": self._epoch,
            "level": self._level,
            "waited": self._waited,
            "judged": self._judged,
        }

    def __str__(self) -> str:
        if self._value is None:
            return f"{self.metric}: no number yet"
        return f"{self.metric} {self._value:.4g} (epoch {self._epoch}{self._remark})"


def value_of(row: Mapping[str, Any], metric: str) -> float | None:
    """Return a number of a row; None where it has none, or none that is finite.

    Args:
        row: of the record.
        metric: its name; `ap/<class>` is a class's AP.
    """
    first, separator, name = metric.partition(PER_CLASS_SEPARATOR)
    value = row.get(PER_CLASS, {}).get(name) if separator else row.get(first)
    # Nothing is better than NaN, or worse: any weights would be the best, or the run be over.
    return None if value is None or not math.isfinite(value) else float(value)


def require_metric(
    metric: str, origin: str, class_names: Sequence[str], *, evaluates: bool, with_losses: bool
) -> None:
    """Check that a run has the number that says which of its weights are the best.

    Args:
        metric: its name.
        origin: where the setting comes from, for errors.
        class_names: of the run.
        evaluates: whether it evaluates.
        with_losses: whether its evaluations have losses.

    Raises:
        UserError: it does not.
    """
    classes = [class_column(name) for name in class_names]
    of_evaluations = [*COCO_METRICS, *classes, *VALIDATION_LOSSES]
    known = [*of_evaluations, *NUMBERS_OF_TRAINING]
    if metric not in known:
        near = difflib.get_close_matches(metric[:100].casefold(), known, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"such as {', '.join(COCO_METRICS[:3])}"
        raise UserError(
            f"{origin}: best_metric: {short(metric)} is no number of a run's record; {hint}"
        )
    if metric in VALIDATION_LOSSES and not with_losses:
        raise UserError(
            f"{origin}: best_metric: {metric} is computed with eval_losses only; set it to True"
        )
    if metric in of_evaluations and not evaluates:
        raise UserError(
            f"{origin}: best_metric: {metric} is a number of evaluations, which there are none of; "
            "set eval_interval, or take a number of the training, such as total_loss"
        )
