# SPDX-License-Identifier: Apache-2.0
"""Counts and quantiles of a split, as numbers alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..data.epoch_plan import canvas_numbers
from ..data.records import ImageRecord
from ..images.geometry import STRETCH, ResizeRule
from .overlaps import PlacedBoxes

# COCO's sizes of objects by their area: below the first number small, from the second on large.
SMALL, LARGE = 32**2, 96**2
SIZE_NAMES = ("small", "medium", "large")
_SQUARE = 1.05  # longer side over shorter, up to which a picture counts as square
ORIENTATIONS = ("landscape", "portrait", "square")


@dataclass(frozen=True)
class BoxTable:
    """All boxes of a split in arrays, crowd regions left out.

    Attributes:
        boxes: (N, 4) float32 xyxy in pixels of their pictures.
        labels: (N,) int, from 1.
        image: (N,) int, position of the picture.
        sizes: (M, 2) int height and width of all pictures.
    """

    boxes: np.ndarray
    labels: np.ndarray
    image: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, records: Sequence[ImageRecord], sizes: np.ndarray) -> "BoxTable":
        """Take the boxes of records.

        Args:
            records: M of them.
            sizes: (M, 2) height and width of their pictures.
        """
        counts = [len(record.labels) for record in records]
        image = np.repeat(np.arange(len(records)), counts)
        nothing = np.zeros((0, 4), np.float32)
        boxes = np.concatenate([nothing, *(record.boxes for record in records)])
        labels = np.concatenate([np.zeros(0, np.int32), *(record.labels for record in records)])
        crowd = np.concatenate([np.zeros(0, bool), *(record.crowd for record in records)])
        return cls(boxes[~crowd], labels[~crowd], image[~crowd], sizes)

    def __len__(self) -> int:
        return len(self.labels)

    def placed(self, rule: ResizeRule) -> PlacedBoxes:
        """Return the boxes where the network sees them by a resize rule.

        Args:
            rule: of the network's input.
        """
        scales, canvases = input_scales(rule, self.sizes)
        extents = self.sizes * scales
        factors = scales[self.image][:, [1, 0, 1, 0]]
        return PlacedBoxes(self.boxes * factors, extents[self.image], canvases[self.image])

    def class_weights(self) -> np.ndarray:
        """Return (N,) float64 weights, 1 on average, that fall with the root of a class's count.

        Rare classes count in the metric as frequent ones do; with weights of their own they would
        rest on few boxes.
        """
        counts = np.bincount(self.labels)
        weights = 1.0 / np.sqrt(np.maximum(counts, 1))[self.labels]
        return weights * len(weights) / max(weights.sum(), 1e-12)


def input_scales(rule: ResizeRule, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how pictures enter the network.

    Args:
        rule: of the network's input.
        sizes: (M, 2) int height and width of the pictures.

    Returns:
        (M, 2) float network pixels per picture pixel down and across, (M, 2) int height and width
        of the canvas.
    """
    if not len(sizes):
        return np.zeros((0, 2)), np.zeros((0, 2), np.int64)
    kinds, kind_of = np.unique(sizes, axis=0, return_inverse=True)
    numbers = canvas_numbers(rule, kinds)
    scaled = [
        rule.size_on(canvas, height, width)
        for canvas, (height, width) in zip(numbers.tolist(), kinds.tolist(), strict=True)
    ]
    scales = np.array(scaled, np.float64) / kinds
    canvases = np.array(rule.canvases, np.int64)[numbers]
    kind_of = kind_of.reshape(-1)
    return scales[kind_of], canvases[kind_of]


def canvas_fill(rule: ResizeRule, sizes: np.ndarray) -> float:
    """Return the share of the canvases that pictures fill, 0 to 1, on average over their area.

    Args:
        rule: of the network's input.
        sizes: (M, 2) int height and width of the pictures.
    """
    if not len(sizes) or rule.kind == STRETCH:
        return 1.0
    scales, canvases = input_scales(rule, sizes)
    return float((sizes * scales).prod(axis=1).sum() / canvases.prod(axis=1).sum())


def size_shares(areas: np.ndarray) -> tuple[float, float, float]:
    """Return the shares of small, medium and large boxes, as COCO counts them.

    Args:
        areas: (N,) square pixels; of none the shares are 0.
    """
    if not len(areas):
        return 0.0, 0.0, 0.0
    small, large = float((areas < SMALL).mean()), float((areas >= LARGE).mean())
    return small, 1.0 - small - large, large


class ClassCount(NamedTuple):
    """A class in a split.

    Attributes:
        name: of the class.
        boxes: objects, crowd regions not counted.
        images: pictures that have one.
        sizes: shares of small, medium and large ones at the network's scale.
    """

    name: str
    boxes: int
    images: int
    sizes: tuple[float, float, float]


def count_classes(
    table: BoxTable, placed: PlacedBoxes, class_names: Sequence[str]
) -> list[ClassCount]:
    """Count the objects of each class, in the classes' order.

    Args:
        table: the boxes.
        placed: the same at the network's scale.
        class_names: of the labels from 1 on.
    """
    areas = placed.areas
    pairs = np.unique(np.stack([table.labels, table.image], axis=1), axis=0)
    images = np.bincount(pairs[:, 0], minlength=len(class_names) + 1)
    counts = np.bincount(table.labels, minlength=len(class_names) + 1)
    return [
        ClassCount(
            name, int(counts[label]), int(images[label]), size_shares(areas[table.labels == label])
        )
        for label, name in enumerate(class_names, start=1)
    ]


class BoxesAPicture(NamedTuple):
    """How many boxes pictures have, crowd regions too, as `num_gts` counts them.

    Attributes:
        mean: of all pictures.
        median, p99: quantiles.
        most: of a picture.
        lost: boxes beyond `num_gts` that training would drop.
        pictures: that have more than `num_gts`.
    """

    mean: float
    median: float
    p99: float
    most: int
    lost: int
    pictures: int


def boxes_a_picture(counts: np.ndarray, num_gts: int) -> BoxesAPicture:
    """Summarise how many boxes pictures have.

    Args:
        counts: (M,) int of each picture.
        num_gts: that training keeps of a picture.
    """
    if not len(counts):
        return BoxesAPicture(0.0, 0.0, 0.0, 0, 0, 0)
    over = np.maximum(counts - num_gts, 0)
    median, p99 = np.quantile(counts, [0.5, 0.99])
    return BoxesAPicture(
        float(counts.mean()),
        float(median),
        float(p99),
        int(counts.max()),
        int(over.sum()),
        int((over > 0).sum()),
    )


def orientation_shares(sizes: np.ndarray) -> tuple[float, float, float]:
    """Return the shares of landscape, portrait and (nearly) square pictures.

    Args:
        sizes: (M, 2) int height and width.
    """
    if not len(sizes):
        return 0.0, 0.0, 0.0
    aspects = sizes[:, 1] / sizes[:, 0]
    wide, high = float((aspects > _SQUARE).mean()), float((aspects < 1 / _SQUARE).mean())
    return wide, high, 1.0 - wide - high


def weighted_quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """Return the value below which `share` of the weight lies.

    Args:
        values: (N,), N at least 1.
        weights: (N,) not negative.
        share: 0 to 1.
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    at = int(np.searchsorted(reached, share * reached[-1]))
    return float(values[order[min(at, len(order) - 1)]])
