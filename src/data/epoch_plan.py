# SPDX-License-Identifier: Apache-2.0
"""Which pictures are in which batch of an epoch: each place once, each batch on one canvas.

A plan follows from the order of the epoch (see `epoch_sampling`), the pictures' sizes and the
batches' size alone: no pixel is read, and every process of a run comes to the same one.
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
        repeats: (S, G) int64, how often the epoch's order has the picture before.
    """

    first_step: int
    images: np.ndarray
    canvases: np.ndarray
    repeats: np.ndarray

    def between(self, first: int, end: int) -> "EpochPlan":
        """Return the part of some steps of the epoch, as far as it is planned.

        Args:
            first: steps of the epoch before the part.
            end: steps of the epoch before what comes after it.
        """
        chosen = slice(first - self.first_step, max(end - self.first_step, 0))
        return EpochPlan(first, self.images[chosen], self.canvases[chosen], self.repeats[chosen])


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return the numbers below `count`, (count,) int64, in the random order of an epoch.

    Args:
        count: pictures of the epoch.
        seed: of the run.
        epoch: number of the epoch.
    """
    return np.random.default_rng([_ORDER_STREAM, seed, epoch]).permutation(count)


def repeats_in(order: np.ndarray) -> np.ndarray:
    """Return how often each picture of an order has come before, (N,) int64.

    Args:
        order: (N,) of an epoch; a picture may come several times.
    """
    places = np.argsort(order, kind="stable")
    alike = order[places]
    repeats = np.empty(len(order), np.int64)
    repeats[places] = np.arange(len(order)) - np.searchsorted(alike, alike)
    return repeats


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
    the canvas that most of them have. So each place of the order comes at most once, there are as
    many steps as with one canvas, and less than a global batch is left out.

    Args:
        order: (N,) of the epoch, from a `Sampler`.
        canvases: of all pictures of the record set, from `canvas_numbers`.
        global_batch: pictures of a step, over all ranks.
        parts: how the epoch has gone so far where other numbers of processes have trained in it;
            none of their places comes again. A step is counted as if all before it had been of
            its size; the places between the end of a part and the next whole step are left out.
    """
    canvas_at = canvases[order]
    rest, seen = np.arange(len(order)), 0
    for size, end in parts:
        first = -(-seen // size)
        rest = rest[first * size - seen :]
        places, _ = _batches(rest, canvas_at, size)
        rest = rest[~np.isin(rest, places[: end - first])]
        seen = end * size
    first = -(-seen // global_batch)
    rest = rest[first * global_batch - seen :]
    places, chosen = _batches(rest, canvas_at, global_batch)
    return EpochPlan(first, order[places], chosen, repeats_in(order)[places])


def _batches(
    rest: np.ndarray, canvas_at: np.ndarray, global_batch: int
) -> tuple[np.ndarray, np.ndarray]:
    """(S, G) places of the epoch's order, (S,) canvases, of the places that are left; see
    `plan_epoch`."""
    canvas_of = canvas_at[rest]
    full, waiting = [], []
    for canvas in np.unique(canvas_of):
        numbers = np.flatnonzero(canvas_of == canvas)
        whole = len(numbers) // global_batch * global_batch
        full.append(numbers[:whole].reshape(-1, global_batch))
        waiting.append(numbers[whole:])
    batches = np.concatenate([np.empty((0, global_batch), np.int64), *full])
    batches = batches[np.argsort(batches[:, -1])]  # a batch is there with its last picture
    left = np.sort(np.concatenate([np.empty(0, np.int64), *waiting]))
    left = left[: len(left) // global_batch * global_batch].reshape(-1, global_batch)
    chosen = np.concatenate([canvas_of[batches[:, 0]], [_commonest(canvas_of[b]) for b in left]])
    return rest[np.concatenate([batches, left])], chosen.astype(np.int64)


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
