# SPDX-License-Identifier: Apache-2.0
"""Anchors fitted to boxes: typical shapes by k-means on IoU, then sizes and ratios of the pyramid.

A network's anchors are not free shapes: each level of the pyramid has the same ratios, and sizes
double from level to level. So k-means finds the ratios, and sizes are searched within an octave,
each candidate judged by the true overlap of every box with its best anchor.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .overlaps import FAIR, GOOD, POOR, Anchors, PlacedBoxes, best_overlaps

_MOST_BOXES = 8_000  # that candidates are judged by
_ROUNDS = 100  # of k-means at most
_STARTS = 5
_LOWEST, _HIGHEST = 1.0, 16.0  # anchor side over stride
_MOST_RATIO = 15.0  # long over short side: the smallest anchor is still more than a pixel thin
_LEAST_SIDE = 1.0  # network-input pixels: thinner boxes are slips of the hand, and have no shape
_STEP = 2 ** (1 / 8)  # between neighbouring candidates
_SPREADS = (0.6, 0.8, 1.0, 1.25, 1.5, 1.8)  # of the ratios around their middle
_WORTH = 0.005  # of the score, which sizes of round numbers may cost


class Shapes(NamedTuple):
    """Typical shapes of boxes.

    Attributes:
        sides: (K, 2) float width and height, by area.
        shares: (K,) of the weight that each stands for.
        mean: overlap of a box with its shape, put on top of each other, on average.
    """

    sides: np.ndarray
    shares: np.ndarray
    mean: float


def shape_overlaps(sides: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Return (N, K) IoU of boxes and shapes that lie on the same centre.

    Args:
        sides: (N, 2) width and height.
        shapes: (K, 2) width and height.
    """
    inner = np.minimum(sides[:, None], shapes[None]).prod(axis=2)
    return inner / (sides.prod(axis=1)[:, None] + shapes.prod(axis=1)[None] - inner)


def kmeans_shapes(sides: np.ndarray, weights: np.ndarray, count: int, seed: int = 0) -> Shapes:
    """Cluster shapes by k-means with the distance 1 - IoU; centres are medians.

    The best of several starts is taken; each start spreads its centres as k-means++ does.

    Args:
        sides: (N, 2) width and height, N at least 1, all positive.
        weights: (N,) float.
        count: of the clusters; fewer where there are fewer different shapes.
        seed: of the starts.
    """
    rng = np.random.default_rng(seed)
    count = min(count, len(np.unique(sides, axis=0)))
    found = [_cluster(sides, weights, count, rng) for _ in range(_STARTS)]
    best = max(found, key=lambda shapes: shapes.mean)
    order = np.argsort(best.sides.prod(axis=1), kind="stable")
    return Shapes(best.sides[order], best.shares[order], best.mean)


def _cluster(
    sides: np.ndarray, weights: np.ndarray, count: int, rng: np.random.Generator
) -> Shapes:
    centres = _first_centres(sides, weights, count, rng)
    own = np.full(len(sides), -1)
    for _ in range(_ROUNDS):
        nearest = shape_overlaps(sides, centres).argmax(axis=1)
        if (nearest == own).all():
            break
        own = nearest
        for k in range(count):
            members = own == k
            if members.any():
                centres[k] = _median(sides[members], weights[members])
    overlaps = shape_overlaps(sides, centres)
    own = overlaps.argmax(axis=1)
    shares = np.bincount(own, weights, minlength=count) / weights.sum()
    return Shapes(centres, shares, float(np.average(overlaps.max(axis=1), weights=weights)))


def _first_centres(
    sides: np.ndarray, weights: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    chosen = [int(rng.choice(len(sides), p=weights / weights.sum()))]
    while len(chosen) < count:
        far = weights * (1.0 - shape_overlaps(sides, sides[chosen]).max(axis=1)) ** 2
        total = far.sum()
        if total <= 0.0:
            break
        chosen.append(int(rng.choice(len(sides), p=far / total)))
    return sides[chosen].astype(np.float64)


def _median(sides: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(2,) weighted median of width and of height."""
    middle = []
    for values in sides.T:
        order = np.argsort(values, kind="stable")
        reached = np.cumsum(weights[order])
        middle.append(values[order[np.searchsorted(reached, 0.5 * reached[-1])]])
    return np.array(middle)


def fit_anchors(
    placed: PlacedBoxes, weights: np.ndarray, anchors: Anchors, num_scales: int
) -> Anchors:
    """Return anchors of as many ratios that fit the boxes as well as possible.

    Args:
        placed: the boxes, at least one.
        weights: (N,) float, of the boxes.
        anchors: that the network has: how many ratios, and which take part.
        num_scales: how many sizes an octave, 1 or more.
    """
    keep = sample_boxes(placed.sides)
    placed, weights = placed.select(keep), weights[keep]
    score = Score(placed, weights)
    middle = _typical_ratios(thickened(placed.sides), weights, len(anchors.ratios))
    best = max((anchors.fitted(scales, middle) for scales in _first_scales(num_scales)), key=score)
    for _ in range(2):
        best = _improved(best, score)
        best = max((best.fitted(ratios=r) for r in _spreads(middle, anchors.ratios)), key=score)
    return _rounded(_improved(best, score), score)


def sample_boxes(sides: np.ndarray) -> np.ndarray:
    """Return positions of the boxes that candidates are judged by: all, or some evenly spread.

    Boxes of less than a pixel are left out where there are others.

    Args:
        sides: (N, 2) width and height of all boxes, network-input pixels.
    """
    sound = np.flatnonzero((sides >= _LEAST_SIDE).all(axis=1))
    kept = sound if len(sound) else np.arange(len(sides))
    return kept[np.unique(np.linspace(0, len(kept) - 1, min(len(kept), _MOST_BOXES)).astype(int))]


def thickened(sides: np.ndarray) -> np.ndarray:
    """Return sides of at least a pixel each, so that every box has a shape.

    Args:
        sides: (N, 2) width and height, network-input pixels.
    """
    return np.maximum(sides, _LEAST_SIDE)


class Score:
    """How good anchors are for boxes: one number, for comparisons.

    The mean overlap, the share above `GOOD` (which are positives wherever they lie) and the share
    above `FAIR`, less twice the share below `POOR`, which are hardly ever learned.

    Args:
        placed: the boxes.
        weights: (N,) float, of the boxes.
    """

    def __init__(self, placed: PlacedBoxes, weights: np.ndarray) -> None:
        self._placed, self._weights = placed, weights / weights.sum()
        self._known: dict[Anchors, float] = {}

    def __call__(self, anchors: Anchors) -> float:
        if anchors not in self._known:
            best = best_overlaps(self._placed, anchors)
            value = best + (best > GOOD) + (best > FAIR) - 2.0 * (best < POOR)
            self._known[anchors] = float((value * self._weights).sum()) / 3
        return self._known[anchors]


def _typical_ratios(sides: np.ndarray, weights: np.ndarray, count: int) -> tuple[float, ...]:
    """Height over width of the typical shapes, sizes left out, rising."""
    ratios = sides[:, 1] / sides[:, 0]
    flat = np.stack([1.0 / np.sqrt(ratios), np.sqrt(ratios)], axis=1)
    shapes = kmeans_shapes(flat, weights, count).sides
    found = np.sort(shapes[:, 1] / shapes[:, 0]).tolist()
    while len(found) < count:  # boxes of one shape: others around it
        found = sorted([found[0] / 1.25, *found, found[-1] * 1.25])[: max(count, len(found) + 1)]
    return tuple(np.clip(found[:count], 1 / _MOST_RATIO, _MOST_RATIO).tolist())


def _first_scales(count: int) -> Iterator[tuple[float, ...]]:
    """Sizes that divide an octave evenly, from many starts."""
    start = _LOWEST
    while start * 2 ** ((count - 1) / count) <= _HIGHEST:
        yield tuple(start * 2 ** (i / count) for i in range(count))
        start *= _STEP


def _improved(anchors: Anchors, score: Callable[[Anchors], float]) -> Anchors:
    """Move one size after the other to where the score is highest."""
    for position in range(len(anchors.scales)):
        candidates = [anchors]
        for factor in (_STEP**power for power in (-2, -1, -0.5, -0.25, 0.25, 0.5, 1, 2)):
            scales = list(anchors.scales)
            scales[position] = min(max(scales[position] * factor, _LOWEST), _HIGHEST)
            candidates.append(anchors.fitted(sorted(scales)))
        anchors = max(candidates, key=score)
    return anchors


def _spreads(middle: Sequence[float], current: Sequence[float]) -> Iterator[tuple[float, ...]]:
    """Ratios nearer to and farther from their middle; and those that the network has."""
    centre = float(np.exp(np.mean(np.log(middle))))
    for power in _SPREADS:
        ratios = (centre * (ratio / centre) ** power for ratio in middle)
        yield tuple(min(max(ratio, 1 / _MOST_RATIO), _MOST_RATIO) for ratio in ratios)
    yield tuple(current)


def _rounded(anchors: Anchors, score: Callable[[Anchors], float]) -> Anchors:
    """Numbers as people write them, as round as the score allows."""
    best = score(anchors)
    for digits, step in ((2, 1.0), (2, 0.5), (2, 0.25), (2, 0.1)):
        scales = sorted({round(round(scale / step) * step, digits) for scale in anchors.scales})
        ratios = tuple(round(ratio, 2) for ratio in anchors.ratios)
        candidate = anchors.fitted(scales, ratios)
        if len(scales) == len(anchors.scales) and score(candidate) >= best - _WORTH:
            return candidate
    return anchors.fitted(
        [round(scale, 2) for scale in anchors.scales], [round(r, 2) for r in anchors.ratios]
    )
