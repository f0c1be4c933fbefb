# SPDX-License-Identifier: Apache-2.0
"""How well the network's anchors fit boxes: for each box, the overlap of its best anchor."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..FasterRcnn.base_anchors import base_anchors
from ..FasterRcnn.names import LEGACY, STRIDES
from ..model_utils.configuration.derived import ConfigLike

# Overlaps that are counted: the defaults of pos_iou_thr and min_pos_iou, and half.
GOOD, FAIR, POOR = 0.7, 0.5, 0.3


@dataclass(frozen=True)
class Anchors:
    """The anchors of a network.

    Attributes:
        scales: anchor side over stride.
        ratios: height over width.
        which: that take part, as `anchor_filter` names them.
        offset: 1 for legacy coordinates, 0 for modern ones.
        rounded: base anchors have whole pixels.
    """

    scales: tuple[float, ...]
    ratios: tuple[float, ...]
    which: str = "inside"
    offset: float = 0.0
    rounded: bool = True

    @classmethod
    def from_config(cls, config: ConfigLike) -> "Anchors":
        """Take the anchors from the configuration.

        Args:
            config: uses anchor_scales, anchor_ratios, anchor_filter, anchor_rounding and
                box_convention.
        """
        return cls(
            tuple(float(scale) for scale in config.anchor_scales),
            tuple(float(ratio) for ratio in config.anchor_ratios),
            config.anchor_filter,
            1.0 if config.box_convention == LEGACY else 0.0,
            bool(config.anchor_rounding),
        )

    def at(self, stride: int) -> np.ndarray:
        """Return the (A, 4) float64 anchors of the cell at the origin, as edges: x2 = x1 + width.

        Args:
            stride: of the level, network-input pixels.
        """
        corners = base_anchors(stride, self.scales, self.ratios, self.offset, self.rounded)
        return corners.astype(np.float64) + [0.0, 0.0, self.offset, self.offset]

    def fitted(
        self, scales: Sequence[float] | None = None, ratios: Sequence[float] | None = None
    ) -> "Anchors":
        """Return the same with other sizes.

        Args:
            scales, ratios: the new ones; None: as they are.
        """
        return replace(
            self,
            scales=self.scales if scales is None else tuple(scales),
            ratios=self.ratios if ratios is None else tuple(ratios),
        )


@dataclass(frozen=True)
class PlacedBoxes:
    """Boxes where the network sees them.

    Attributes:
        boxes: (N, 4) float xyxy in network-input pixels.
        extents: (N, 2) float height and width of the picture of each, network-input pixels.
        canvases: (N, 2) int height and width of the network's input for it.
    """

    boxes: np.ndarray
    extents: np.ndarray
    canvases: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, index: np.ndarray) -> "PlacedBoxes":
        """Return some of them.

        Args:
            index: mask, or positions.
        """
        return PlacedBoxes(self.boxes[index], self.extents[index], self.canvases[index])

    @property
    def sides(self) -> np.ndarray:
        """(N, 2) float width and height, network-input pixels."""
        return self.boxes[:, 2:] - self.boxes[:, :2]

    @property
    def areas(self) -> np.ndarray:
        """(N,) float, square network-input pixels."""
        return self.sides.prod(axis=1)


@dataclass(frozen=True)
class Fit:
    """How well anchors fit boxes.

    Attributes:
        good, fair: share of the boxes whose best anchor overlaps them by more than `GOOD`, `FAIR`.
        mean: of the best overlaps.
    """

    good: float
    fair: float
    mean: float

    @classmethod
    def of(cls, best: np.ndarray) -> "Fit":
        """Summarise.

        Args:
            best: (N,) of `best_overlaps`; of no box at all the shares are 0.
        """
        if not len(best):
            return cls(0.0, 0.0, 0.0)
        return cls(*(float(v.mean()) for v in (best > GOOD, best > FAIR, best)))


def best_overlaps(placed: PlacedBoxes, anchors: Anchors) -> np.ndarray:
    """Return (N,) float64: the IoU of each box with the anchor that overlaps it most.

    Of the anchors of one shape at one level, that is the one whose centre is nearest: the overlap
    falls with the distance in each direction. So no grid of anchors has to be made.

    Args:
        placed: the boxes.
        anchors: that the network has; only those that take part count.
    """
    boxes = np.asarray(placed.boxes, np.float64)
    centres = 0.5 * (boxes[:, :2] + boxes[:, 2:])
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    limits = np.asarray(placed.extents, np.float64)[:, ::-1]  # width, height: as x, y
    canvases = np.asarray(placed.canvases, np.int64)[:, ::-1]
    best = np.zeros(len(boxes))
    for stride in STRIDES:
        cells = -(-canvases // stride)
        for anchor in anchors.at(stride):
            first, last = _range(anchor, stride, limits, cells, anchors.which)
            middle = 0.5 * (anchor[:2] + anchor[2:])
            nearest = np.clip(np.rint((centres - middle) / stride), first, last)
            start = anchor[:2] + nearest * stride
            end = anchor[2:] + nearest * stride
            shared = np.minimum(end, boxes[:, 2:]) - np.maximum(start, boxes[:, :2])
            inner = np.clip(shared, 0.0, None).prod(axis=1)
            overlap = inner / (areas + (anchor[2:] - anchor[:2]).prod() - inner)
            overlap[(last < first).any(axis=1)] = 0.0
            np.maximum(best, overlap, out=best)
    return best


def _range(
    anchor: np.ndarray, stride: int, limits: np.ndarray, cells: np.ndarray, which: str
) -> tuple[np.ndarray, np.ndarray]:
    """First and last column and row, (2,) or (N, 2), of the cells whose anchor takes part."""
    first, last = np.zeros(2), cells - 1.0
    if which == "inside":
        first = np.maximum(first, np.ceil(-anchor[:2] / stride))
        last = np.minimum(last, np.floor((limits - anchor[2:]) / stride))
    elif which == "centred":
        middle = 0.5 * (anchor[:2] + anchor[2:])
        last = np.minimum(last, np.ceil((limits - middle) / stride) - 1.0)
    return first, last
