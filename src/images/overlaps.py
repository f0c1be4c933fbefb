# SPDX-License-Identifier: Apache-2.0
"""How much boxes in a picture overlap."""

import numpy as np

IOU, IOS = "iou", "ios"


def overlaps(boxes: np.ndarray, others: np.ndarray, match: str = IOU) -> np.ndarray:
    """Return how much boxes overlap others, 0 to 1.

    Args:
        boxes: (..., 4) xyxy.
        others: (..., 4) xyxy, of a shape that fits to that of `boxes`.
        match: "iou": intersection over union; "ios": intersection over the smaller box.

    Returns:
        (...) float64; 0 where neither has an area.
    """
    shared = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(
        boxes[..., :2], others[..., :2]
    )
    intersection = np.clip(shared, 0, None).prod(-1)
    area, areas = ((b[..., 2:] - b[..., :2]).prod(-1) for b in (boxes, others))
    of = np.minimum(area, areas) if match == IOS else area + areas - intersection
    return np.divide(intersection, of, out=np.zeros(intersection.shape), where=of > 0)
