# SPDX-License-Identifier: Apache-2.0
"""The rows of a run's record, made of what training and evaluation give."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..FasterRcnn.names import LOSS_NAMES, total_loss
from .schema import COCO_METRICS, EVAL, KIND, PER_CLASS, TRAIN, VALIDATION_LOSSES, Row

_DIGITS = 7  # that a float32 has


class Place(NamedTuple):
    """Where in the run a row belongs.

    Attributes:
        step: of the run, from 1.
        epoch: from 1.
        images: of the epoch that all ranks have seen.
        time: seconds since 1970.
    """

    step: int
    epoch: int
    images: int
    time: float

    def cells(self) -> Row:
        """Return the row's part that says so."""
        return {**self._asdict(), "time": round(self.time, 3)}


def training_row(
    place: Place,
    losses: Sequence[float],
    *,
    learning_rate: float,
    gradient_norm: float | None,
    loss_scale: float,
    seconds: float | None,
    images_per_step: int,
    memory: int | None,
) -> Row:
    """Return a row of kind "train".

    Args:
        place: of the last step in it.
        losses: (6,) means in the order of `names.Losses`.
        learning_rate, loss_scale: of the last step.
        gradient_norm: mean over the steps that were not skipped.
        seconds: mean of a step.
        images_per_step: of all ranks.
        memory: the most bytes so far.
    """
    cells = place.cells()
    time = cells.pop("time")
    numbers = {
        "total_loss": total_loss(losses),
        **dict(zip(LOSS_NAMES, losses, strict=True)),
        "learning_rate": learning_rate,
        "gradient_norm": gradient_norm,
        "loss_scale": loss_scale,
        "seconds": seconds,
        "images_per_second": images_per_step / seconds if seconds else None,
        "memory_mb": None if memory is None else memory / 1e6,
    }
    return {
        KIND: TRAIN,
        **cells,
        **{name: _short(value) for name, value in numbers.items()},
        "time": time,
    }


def evaluation_row(
    place: Place,
    stats: Sequence[float],
    per_class: Mapping[str, float],
    *,
    losses: Sequence[float] | None,
    num_images: int,
    num_detections: int,
    seconds: float,
    images_per_second: float,
) -> Row:
    """Return a row of kind "eval".

    Args:
        place: of the last step before it.
        stats: (12,) COCO's numbers, in pycocotools' order; -1 where nothing can be said.
        per_class: AP by the name of the class; -1 as above.
        losses: (6,) on the validation images, None when they were not computed.
        num_images: that were evaluated.
        num_detections: in them.
        seconds: of all of it.
        images_per_second: of detecting.
    """
    cells = place.cells()
    time = cells.pop("time")
    validation = [] if losses is None else [total_loss(losses), *losses]
    return {
        KIND: EVAL,
        **cells,
        **{name: _said(value) for name, value in zip(COCO_METRICS, stats, strict=True)},
        PER_CLASS: {name: _said(value) for name, value in per_class.items()},
        **{name: _short(v) for name, v in zip(VALIDATION_LOSSES, validation, strict=False)},
        "num_images": num_images,
        "num_detections": num_detections,
        "seconds": _short(seconds),
        "images_per_second": _short(images_per_second),
        "time": time,
    }


def _said(value: float) -> float | None:
    """A number of COCO's table; None where nothing can be said."""
    return float(value) if value >= 0 else None


def _short(value: float | None) -> float | None:
    """A number with as many digits as it has; None where it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{_DIGITS}g}")
