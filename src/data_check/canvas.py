# SPDX-License-Identifier: Apache-2.0
"""Which canvases fit a data set: of its pictures' shapes, large enough for its small objects."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..FasterRcnn.names import MULTIPLE
from ..images.geometry import CANVAS, ResizeRule, Size, canvas_text
from .statistics import BoxTable, weighted_quantile

_SMALL_SHARE = 0.02  # of the boxes, which may be smaller than `Budget.side`
_LARGEST_SCALE = 2.0  # of a picture: more shows nothing new
_MINORITY = 0.05  # of the pictures, from which on an orientation gets a canvas of its own
_SHORTEST = 224  # pixels of a canvas's shorter side


@dataclass(frozen=True)
class Budget:
    """What a device has time for.

    Attributes:
        pixels: of a canvas, at most.
        side: pixels at the network's scale that nearly all boxes shall have (root of the area).
    """

    pixels: int
    side: float


# The cells of P2 are 4 pixels: 16 are four of them, enough for a box to be told from its neighbour.
# On an accelerator there is time for twice that, on at most what 800x1333 takes.
BUDGETS = {True: Budget(320 * 1024, 16.0), False: Budget(800 * 1344, 32.0)}


def canvas_keys(table: BoxTable, *, on_cpu: bool) -> dict[str, Any]:
    """Return the keys of the configuration that make the canvases.

    Canvases have the area at which 98 % of the boxes are `Budget.side` pixels or more, within the
    budget and at most twice the pictures' own sides. Pictures of both orientations get two.

    Args:
        table: the boxes, at least one, and the pictures' sizes.
        on_cpu: whether the network is to be trained on one.
    """
    wide = table.sizes[:, 1] >= table.sizes[:, 0]
    groups = [table.sizes[chosen] for chosen in (wide, ~wide) if chosen.mean() >= _MINORITY]
    area = _wanted_area(table, BUDGETS[on_cpu])
    canvases = list(dict.fromkeys(_canvas(group, area) for group in groups))
    if len({tuple(sorted(canvas)) for canvas in canvases}) == 1 and len(canvases) == 2:
        canvases.sort()  # a landscape and a portrait one of the same sides
    height, width = canvases[0]
    several = [canvas_text(canvas) for canvas in canvases] if len(canvases) > 1 else []
    return {
        "resize": CANVAS,
        "keep_ratio": True,
        "img_height": height,
        "img_width": width,
        "canvases": several,
    }


def _wanted_area(table: BoxTable, budget: Budget) -> float:
    """Square pixels of a canvas."""
    sides = np.asarray(table.boxes[:, 2:] - table.boxes[:, :2], np.float64)
    areas = table.sizes.prod(axis=1).astype(np.float64)
    relative = np.sqrt(sides.prod(axis=1) / areas[table.image])
    smallest = weighted_quantile(relative, table.class_weights(), _SMALL_SHARE)
    wanted = (budget.side / max(smallest, 1e-6)) ** 2
    return float(min(wanted, budget.pixels, _LARGEST_SCALE**2 * np.median(areas)))


def _canvas(sizes: np.ndarray, area: float) -> Size:
    """Height and width, of the pictures' median shape; the next multiples of 32."""
    aspect = float(np.median(sizes[:, 0] / sizes[:, 1]))
    height, width = math.sqrt(area * aspect), math.sqrt(area / aspect)
    grow = max(1.0, _SHORTEST / min(height, width))
    return _nearest(height * grow), _nearest(width * grow)


def _nearest(side: float) -> int:
    """The next multiple of 32; the one below where that costs hardly anything."""
    return max(math.ceil(side / MULTIPLE - 0.2), 1) * MULTIPLE


def describe(rule: ResizeRule) -> str:
    """Return the canvases of a rule in words.

    Args:
        rule: of the network's input.
    """
    return " and ".join(canvas_text(canvas) for canvas in rule.canvases)
