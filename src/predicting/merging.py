# SPDX-License-Identifier: Apache-2.0
"""What was found in overlapping tiles of a picture, as one list without doubles."""

import numpy as np

from ..inference import Found

IOU, IOS = "iou", "ios"


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


def overlaps(box: np.ndarray, others: np.ndarray, match: str) -> np.ndarray:
    """Return how much boxes overlap one, 0 to 1.

    Args:
        box: (4,) xyxy.
        others: (N, 4) xyxy.
        match: see `merged`.

    Returns:
        (N,) float64; 0 where neither has an area.
    """
    shared = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    intersection = np.clip(shared, 0, None).prod(1)
    area, areas = (box[2:] - box[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(1)
    of = np.minimum(area, areas) if match == IOS else area + areas - intersection
    return np.divide(intersection, of, out=np.zeros(len(others)), where=of > 0)
