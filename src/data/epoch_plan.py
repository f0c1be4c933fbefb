# SPDX-License-Identifier: Apache-2.0
"""Which pictures are in which batch of an epoch: each picture once, each batch on one canvas.

A plan follows from (seed, epoch), the pictures' sizes and the batches' size alone: no pixel is
read, and every process of a run comes to the same one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..images.geometry import ResizeRule

_ORDER_STREAM = 1  # of random numbers: keeps them apart from those of the samples

# Steps of an epoch that were made with another number of processes: their global batch, and the
# number (in such steps) of the last one, as `Position.step_in_epoch` counts.
Part = Sequence[int]


@dataclass(frozen=True)
class EpochPlan:
    """The batches of an epoch from one of its steps on.

    Attributes:
        first_step: steps of the epoch before it.
        images: (S, G) int64, the pictures of each global batch, positions in the record set.
        canvases: (S,) int64, number of the canvas of each batch.
    """

    first_step: int
    images: np.ndarray
    canvases: np.ndarray

    def between(self, first: int, end: int) -> "EpochPlan":
        """Return the part of some steps of the epoch, as far as it is planned.

        Args:
            first: steps of the epoch before the part.
            end: steps of the epoch before what comes after it.
        """
        chosen = slice(first - self.first_step, max(end - self.first_step, 0))
        return EpochPlan(first, self.images[chosen], self.canvases[chosen])


def epoch_order(num_images: int, seed: int, epoch: int) -> np.ndarray:
    """Return the images of an epoch in random order.

    Args:
        num_images: of the record set.
        seed: of the run.
        epoch: number of the epoch.

    Returns:
        (num_images,) int64, each position in the record set once.
    """
    return np.random.default_rng([_ORDER_STREAM, seed, epoch]).permutation(num_images)


def canvas_numbers(rule: ResizeRule, sizes: np.ndarray) -> np.ndarray:
    """Return the number of the canvas that each picture goes onto, (N,) int64.

    Args:
        rule: chooses it.
        sizes: (N, 2) height and width of the pictures.
    """
    if len(rule.canvases) == 1:
        return np.zeros(len(sizes), np.int64)
    kinds, kind_of = np.unique(sizes, axis=0, return_inverse=True)
    numbers = [rule.canvas_of(height, width) for height, width in kinds.tolist()]
    return np.array(numbers, np.int64)[kind_of.reshape(-1)]


def plan_epoch(
    order: np.ndarray, canvases: np.ndarray, global_batch: int, parts: Iterable[Part] = ()
) -> EpochPlan:
    """Plan what is left of an epoch.

    Going through the order, each picture waits for others of its canvas; as many as a global batch
    are the next one. Those that wait at the end make up batches in the order of the epoch, each on
    the canvas that most of them have. So each picture comes at most once, there are as many steps
    as with one canvas, and less than a global batch is left out.

    Args:
        order: (N,) of the epoch, from `epoch_order`.
        canvases: (N,) of the pictures, from `canvas_numbers`.
        global_batch: pictures of a step, over all ranks.
        parts: how the epoch has gone so far where other numbers of processes have trained in it;
            none of their pictures comes again. A step is counted as if all before it had been of
            its size; the pictures between the end of a part and the next whole step are left out.
    """
    rest, seen = order, 0
    for size, end in parts:
        first = -(-seen // size)
        rest = rest[first * size - seen :]
        images, _ = _batches(rest, canvases, size)
        rest = rest[~np.isin(rest, images[: end - first])]
        seen = end * size
    first = -(-seen // global_batch)
    rest = rest[first * global_batch - seen :]
    return EpochPlan(first, *_batches(rest, canvases, global_batch))


def _batches(
    order: np.ndarray, canvases: np.ndarray, global_batch: int
) -> tuple[np.ndarray, np.ndarray]:
    """(S, G) positions in the record set, (S,) canvases; see `plan_epoch`."""
    canvas_at = canvases[order]
    full, waiting = [], []
    for canvas in np.unique(canvas_at):
        places = np.flatnonzero(canvas_at == canvas)
        whole = len(places) // global_batch * global_batch
        full.append(places[:whole].reshape(-1, global_batch))
        waiting.append(places[whole:])
    batches = np.concatenate([np.empty((0, global_batch), np.int64), *full])
    batches = batches[np.argsort(batches[:, -1])]  # a batch is there with its last picture
    left = np.sort(np.concatenate([np.empty(0, np.int64), *waiting]))
    left = left[: len(left) // global_batch * global_batch].reshape(-1, global_batch)
    chosen = np.concatenate([canvas_at[batches[:, 0]], [_commonest(canvas_at[b]) for b in left]])
    return order[np.concatenate([batches, left])], chosen.astype(np.int64)


def _commonest(canvases: np.ndarray) -> int:
    """The number that most have; of equally many the lowest."""
    return int(np.bincount(canvases).argmax())


def plan_evaluation(canvases: np.ndarray, places: int) -> tuple[np.ndarray, np.ndarray]:
    """Plan batches that hold every picture once, canvas by canvas, in record order.

    Args:
        canvases: (N,) of the pictures, from `canvas_numbers`.
        places: of one step, over all ranks.

    Returns:
        (P,) int64 positions in the record set, P a multiple of `places`; and (P,) int32 the same,
        -1 for those that only fill up their canvas' last step.
    """
    rows, numbers = [], []
    for canvas in np.unique(canvases):
        images = np.flatnonzero(canvases == canvas)
        filled = -(-len(images) // places) * places
        rows.append(np.resize(images, filled))  # repeats them from the first on
        numbers.append(np.where(np.arange(filled) < len(images), rows[-1], -1))
    return np.concatenate(rows), np.concatenate(numbers).astype(np.int32)
