# SPDX-License-Identifier: Apache-2.0
"""Batch, learning rate and epochs for a data set of a size: rules of thumb."""

import math
from dataclasses import dataclass

_LARGEST_BATCH = 16  # pictures of a device
_SHARE_OF_EPOCH = 8  # an epoch has at least so many steps
_CPU_PIXELS = 100_000  # of a canvas, up to which a CPU takes four pictures at a time
_DEVICE_PIXELS = 2 * 1280 * 768  # of a step: what the defaults take
_STEPS = {True: 430, False: 4000}  # of a training, at least: on a CPU, on an accelerator
_USUAL_EPOCHS, _FEWEST_EPOCHS, _MOST_EPOCHS = 12, 6, 300
_LONGEST_WARMUP = 500  # steps
# A picture's share of the learning rate: the default, 0.04 for 16 pictures; from scratch that of
# AdamW with gradients clipped (configs/small_data.yaml).
_RATE_PRETRAINED, _RATE_SCRATCH = 0.0025, 0.0001
SMALL_SET = 5000  # pictures of one, at most


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        batch: pictures of a step and device.
        rate: learning rate for that batch.
        epochs: of the training.
        steps: of an epoch.
        warmup: steps.
    """

    batch: int
    rate: float
    epochs: int
    steps: int
    warmup: int

    @property
    def is_usual(self) -> bool:
        """Whether the defaults' steps of the rate, at whole epochs of twelve, fit."""
        return self.epochs == _USUAL_EPOCHS


def schedule(
    images: int, canvas_pixels: int, *, on_cpu: bool, pretrained: bool, batch: int | None = None
) -> Schedule:
    """Return the schedule for a data set.

    Args:
        images: that are trained on.
        canvas_pixels: of the largest canvas.
        on_cpu: whether a CPU trains.
        pretrained: whether the network starts with weights.
        batch: pictures of a step where the user has chosen; None: by what fits.
    """
    if batch is None:
        batch = _batch(canvas_pixels, on_cpu)
        while batch > 1 and images // batch < _SHARE_OF_EPOCH:
            batch //= 2
    steps = max(images // batch, 1)
    usual = _FEWEST_EPOCHS if on_cpu else _USUAL_EPOCHS
    epochs = min(max(usual, math.ceil(_STEPS[on_cpu] / steps)), _MOST_EPOCHS)
    if epochs * steps >= 2 * _STEPS[on_cpu]:
        epochs = _USUAL_EPOCHS
    warmup = min(_LONGEST_WARMUP, epochs * steps // 4)
    rate = (_RATE_PRETRAINED if pretrained else _RATE_SCRATCH) * batch
    return Schedule(batch, round(rate, 6), epochs, steps, warmup)


def _batch(canvas_pixels: int, on_cpu: bool) -> int:
    """Pictures at a time: a power of two."""
    if on_cpu:
        return 4 if canvas_pixels <= _CPU_PIXELS else 2
    fitting = max(round(_DEVICE_PIXELS / canvas_pixels), 1)
    return min(1 << (fitting.bit_length() - 1), _LARGEST_BATCH)
