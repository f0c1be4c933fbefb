# SPDX-License-Identifier: Apache-2.0
"""What was found in overlapping tiles of a picture, as one list without doubles."""

import numpy as np

from ..images.overlaps import overlaps
from ..inference import Found


def merged(parts: list[Found], *, match: str, threshold: float, per_class: bool) -> Found:
    """Put what was found in the parts of a picture together, by greedy NMS.

    A box that overlaps a better one by more than the threshold goes. Where a tile cuts an object,
    its box is a piece of the whole object's in the next tile; the two have a low IoU, but the piece
    lies in the other (IOS).

    Args:
        parts: boxes in the picture's pixels.
        match: "iou": intersection over union; "ios": intersection over the smaller box.
        threshold: 0 to 1.
        per_class: boxes of different classes leave each other alone.

    Returns:
        All that stay, best first.
    """
    found = Found(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    order = np.argsort(-found.scores, kind="stable")
    boxes, labels = found.boxes[order].astype(np.float64), found.labels[order]
    left = np.ones(len(order), bool)
    kept = []
    for i in range(len(order)):
        if not left[i]:
            continue
        kept.append(order[i])
        rest = i + 1 + np.flatnonzero(left[i + 1 :])
        if per_class:
            rest = rest[labels[rest] == labels[i]]
        left[rest[overlaps(boxes[i], boxes[rest], match) > threshold]] = False
    return Found(*(column[kept] for column in found))
