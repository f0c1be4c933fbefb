# SPDX-License-Identifier: Apache-2.0
"""Which pictures make an epoch, in which order: each once, or those with rare classes more often.

An epoch follows from (seed, epoch) and the classes that the records know alone: no pixel is read.
All epochs of a run have the same number of pictures, so that steps and learning rates are known
before the first one.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ..model_utils.config import Config
from .epoch_plan import epoch_order
from .records import ImageRecord

SHUFFLE, REPEAT_FACTOR, CLASS_BALANCED = "shuffle", "repeat_factor", "class_balanced"

_SAMPLING_STREAM = 3  # of random numbers: keeps them apart from those of order and samples


class Sampler(Protocol):
    """Chooses the pictures of an epoch.

    Attributes:
        length: pictures of an epoch, repeated ones counted each time.
    """

    length: int

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Return the pictures of an epoch, (length,) int64 positions in the record set.

        Args:
            seed: of the run.
            epoch: number of the epoch.
        """

    def lines(self) -> list[str]:
        """Say how an epoch differs from all pictures once."""


class ClassMembers:
    """Which classes are in which pictures; crowd regions do not count.

    Args:
        records: of the record set, in its order.

    Attributes:
        num_images: how many pictures there are.
        pictures, labels: (P,) int64, each pair of a picture and a class once, by class.
    """

    def __init__(self, records: Sequence[ImageRecord]) -> None:
        self.num_images = len(records)
        none = np.empty(0, np.int64)
        columns = [(record.labels, record.crowd) for record in records]
        labels = np.concatenate([none, *(own for own, _ in columns)])
        crowd = np.concatenate([none, *(own for _, own in columns)]).astype(bool)
        pictures = np.repeat(np.arange(len(records)), [len(own) for own, _ in columns])
        pairs = np.unique(labels[~crowd] * len(records) + pictures[~crowd])
        self.labels, self.pictures = np.divmod(pairs, max(len(records), 1))

    def groups(self) -> list[np.ndarray]:
        """Return the pictures (K,) int64 of each class that is there, and those without any."""
        ends = np.flatnonzero(np.diff(self.labels)) + 1
        groups = [group for group in np.split(self.pictures, ends) if len(group)]
        without = np.setdiff1d(np.arange(self.num_images), self.pictures)
        return [*groups, without] if len(without) else groups


def repeat_factors(members: ClassMembers, threshold: float) -> np.ndarray:
    """Return how often each picture shall come in an epoch, (N,) float64, at least 1.

    With f(c) the share of the pictures that have class c, a class has the factor
    max(1, sqrt(threshold / f(c))), and a picture the largest of its classes (Gupta et al. 2019,
    LVIS, section 5).

    Args:
        members: the classes of the pictures.
        threshold: share of the pictures, above 0, below which a class is rare.
    """
    factors = np.ones(members.num_images)
    _, kind, counts = np.unique(members.labels, return_inverse=True, return_counts=True)
    of_class = np.maximum(np.sqrt(threshold * members.num_images / counts), 1.0)
    np.maximum.at(factors, members.pictures, of_class[kind.reshape(-1)])
    return factors


class Shuffle:
    """Each picture once.

    Args:
        num_images: of the record set.
    """

    def __init__(self, num_images: int) -> None:
        self.length = num_images

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """See `Sampler.order`.

        Args:
            seed, epoch: which decide it.
        """
        return epoch_order(self.length, seed, epoch)

    def lines(self) -> list[str]:
        """See `Sampler.lines`."""
        return []


class RepeatFactorSampler:
    """Each picture as often as its factor says; what is behind the point is rounded anew each time.

    A factor of 2.3 gives 2 or 3. Rounding is systematic: a random order, a random beginning, and
    from there on one more picture each time the fractions have summed up to 1. So every epoch
    gets as many pictures, namely the whole parts and the sum of the fractions, rounded down.

    Args:
        factors: (N,) of `repeat_factors`.
    """

    def __init__(self, factors: np.ndarray) -> None:
        self._factors = factors
        self._whole = np.floor(factors).astype(np.int64)
        self._fractions = factors - self._whole
        self._extra = int(self._fractions.sum() + 1e-9)  # a sum of thirds is whole, too
        self.length = int(self._whole.sum()) + self._extra

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """See `Sampler.order`.

        Args:
            seed, epoch: which decide it.
        """
        pictures = np.repeat(np.arange(len(self._whole)), self._counts(seed, epoch))
        return pictures[epoch_order(self.length, seed, epoch)]

    def _counts(self, seed: int, epoch: int) -> np.ndarray:
        """How often each picture comes, (N,) int64."""
        if not self._extra:
            return self._whole
        rng = np.random.default_rng([_SAMPLING_STREAM, seed, epoch])
        mixed = rng.permutation(len(self._whole))
        ends = np.cumsum(self._fractions[mixed])
        ends *= self._extra / ends[-1]
        ends[-1] = self._extra
        passed = np.floor(ends + rng.random()).astype(np.int64)
        counts = self._whole.copy()
        counts[mixed] += np.diff(passed, prepend=0)
        return counts

    def lines(self) -> list[str]:
        """See `Sampler.lines`."""
        repeated = int((self._factors > 1.0).sum())
        if not repeated:
            return [
                f"train_sampler {REPEAT_FACTOR}: an epoch has {self.length} pictures, each once: "
                "no class is rare by repeat_threshold; raise it"
            ]
        return [
            f"train_sampler {REPEAT_FACTOR}: an epoch has {self.length} pictures, because "
            f"{repeated} of {len(self._factors)} come up to {self._factors.max():.3g} times"
        ]


class ClassBalancedSampler:
    """As many pictures as there are, each class as often as the others, up to one.

    Every class goes round its pictures: none of them comes twice before all have come once. Those
    without any object are a class of their own.

    Args:
        members: the classes of the pictures.
    """

    def __init__(self, members: ClassMembers) -> None:
        self.length = members.num_images
        self._groups = members.groups()

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """See `Sampler.order`.

        Args:
            seed, epoch: which decide it.
        """
        rng = np.random.default_rng([_SAMPLING_STREAM, seed, epoch])
        each, more = divmod(self.length, len(self._groups))
        shares = np.full(len(self._groups), each)
        shares[rng.permutation(len(shares))[:more]] += 1
        chosen = [
            np.resize(rng.permutation(group), share)
            for group, share in zip(self._groups, shares.tolist(), strict=True)
        ]
        return np.concatenate(chosen)[epoch_order(self.length, seed, epoch)]

    def lines(self) -> list[str]:
        """See `Sampler.lines`."""
        sizes = [len(group) for group in self._groups]
        each = self.length / len(sizes)
        return [
            f"train_sampler {CLASS_BALANCED}: an epoch has {self.length} pictures, about "
            f"{each:.3g} for each of {len(sizes)} classes, which have {min(sizes)} to {max(sizes)}"
        ]


def build_sampler(config: Config, records: Sequence[ImageRecord]) -> Sampler:
    """Return the sampler that a configuration describes.

    Args:
        config: uses train_sampler and repeat_threshold.
        records: of the record set, in its order.
    """
    if config.train_sampler == SHUFFLE:
        return Shuffle(len(records))
    members = ClassMembers(records)
    if config.train_sampler == CLASS_BALANCED:
        return ClassBalancedSampler(members)
    return RepeatFactorSampler(repeat_factors(members, float(config.repeat_threshold)))
