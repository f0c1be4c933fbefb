# SPDX-License-Identifier: Apache-2.0
"""When a run cannot go on, and what is said then."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..base.messages import counted
from ..FasterRcnn.names import LOSS_NAMES
from ..network_define import LossScaler

MAX_SKIPPED_STEPS = 50  # in a row; more than a dynamic scale needs from its highest value down to 1


class TrainingDiverged(Exception):
    """The run cannot go on: a loss is not finite, or no gradient has been for too long."""


class FinishedStep(NamedTuple):
    """What a step of training has given on this rank.

    Attributes:
        epoch: its epoch, from 1.
        step_in_epoch: its number in the epoch, from 1.
        global_step: its number in the run, from 1.
        rate: its learning rate.
        losses: (6,) float32, in the order of `LOSS_NAMES`.
        grad_norm: the gradients' norm over all ranks; not finite when they overflowed.
        image_ids: of its batch.
        loss_scale: the factor on the loss that was differentiated.
    """

    epoch: int
    step_in_epoch: int
    global_step: int
    rate: float
    losses: np.ndarray
    grad_norm: float
    image_ids: Sequence[object]
    loss_scale: float = 1.0

    def place(self) -> str:
        """Say in words which step it is."""
        return f"epoch {self.epoch} step {self.step_in_epoch}"


class DivergenceGuard:
    """Looks at every step's losses and gradients, and adapts the loss scale to them.

    Args:
        scaler: the loss scale.
        say: prints a line.
        skipped: how many steps have been skipped in a row, when a run goes on.
    """

    def __init__(self, scaler: LossScaler, say: Callable[[str], None], *, skipped: int = 0) -> None:
        self.scaler, self.skipped = scaler, skipped
        self._say = say

    def check(self, step: FinishedStep) -> None:
        """Stop a run that has diverged; count the steps whose gradients overflowed.

        Args:
            step: the step that has just been made.

        Raises:
            TrainingDiverged: for a loss that is not finite, or more than `MAX_SKIPPED_STEPS`
                skipped in a row.
        """
        is_finite = bool(np.isfinite(step.grad_norm))
        self.scaler.update(is_finite)
        self.skipped = 0 if is_finite else self.skipped + 1
        if not np.isfinite(step.losses).all():
            raise TrainingDiverged(_message("a loss is not finite", step))
        if self.skipped > MAX_SKIPPED_STEPS:
            cause = f"the gradients of {counted(self.skipped, 'step')} in a row are not finite"
            raise TrainingDiverged(_message(cause, step))
        if not is_finite:
            self._say(
                f"{step.place()}: gradients overflowed, step skipped"
                f" (loss scale now {self.scaler.scale:g})"
            )


def _message(cause: str, step: FinishedStep) -> str:
    named = ", ".join(f"{n} {v:.5g}" for n, v in zip(LOSS_NAMES, step.losses, strict=True))
    return (
        f"{cause} at {step.place()} (step {step.global_step} of the run, "
        f"learning rate {step.rate:.6g}): {named}; images {list(step.image_ids)}; lower base_lr, "
        "lengthen warmup_step or set grad_clip, and look at these images' boxes"
    )
