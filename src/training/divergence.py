# SPDX-License-Identifier: Apache-2.0
"""When a run cannot go on, and what is said then."""

from collections.abc import Sequence

import numpy as np

from ..FasterRcnn.names import LOSS_NAMES

MAX_SKIPPED_STEPS = 50  # in a row; more than a dynamic scale needs from its highest value down to 1


class TrainingDiverged(Exception):
    """The run cannot go on: a loss is not finite, or no gradient has been for too long."""


def has_diverged(losses: np.ndarray, skipped: int) -> bool:
    """Say so of the (6,) losses of a step and the steps in a row whose gradients overflowed."""
    return not np.isfinite(losses).all() or skipped > MAX_SKIPPED_STEPS


def divergence(losses: np.ndarray, skipped: int, place: str, image_ids: Sequence[object]) -> str:
    """Return what is to be said of a step after which a run `has_diverged`.

    Args:
        place: the step, in words.
        image_ids: of its batch.
    """
    named = ", ".join(f"{n} {v:.5g}" for n, v in zip(LOSS_NAMES, losses, strict=True))
    cause = (
        f"the gradients of {skipped} steps in a row are not finite"
        if np.isfinite(losses).all()
        else "a loss is not finite"
    )
    return (
        f"{cause} at {place}: {named}; images {image_ids}; lower base_lr, lengthen warmup_step or "
        "set grad_clip, and look at these images' boxes"
    )
