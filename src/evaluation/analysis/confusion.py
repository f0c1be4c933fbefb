# SPDX-License-Identifier: Apache-2.0
"""The confusion matrix: which class is taken for which, and for background."""

from collections.abc import Sequence

import numpy as np

from .matching import Matches
from .schema import BACKGROUND, Confused, Confusion

_MOST = 20  # cells that are named


def confusion(matches: Matches, class_names: Sequence[str], threshold: float | None) -> Confusion:
    """Count truth against detections whose score is at least `threshold`.

    Correct ones are COCO's. What is left of detections and boxes is paired from the highest IoU
    down, each at most once, and what is left then is on background, or taken for it.

    Args:
        matches: of the detections.
        class_names: (C,) the classes.
        threshold: of the score; None shows no detection.
    """
    size = len(class_names) + 1
    truth, found = matches.truth.label, matches.found.label
    shown = matches.counted & (
        np.zeros(len(found), bool) if threshold is None else matches.found.score >= threshold
    )
    correct = shown & matches.correct
    free_boxes = matches.real.copy()
    free_boxes[matches.match[correct]] = False
    free_found = shown & ~correct
    detections, boxes = _pairs(matches, free_found, free_boxes)
    free_found[detections] = free_boxes[boxes] = False
    nothing = [np.full(int(free.sum()), size - 1) for free in (free_found, free_boxes)]
    rows = [found[correct], truth[boxes], nothing[0], truth[free_boxes]]
    columns = [found[correct], found[detections], found[free_found], nothing[1]]
    matrix = np.zeros((size, size), np.int64)
    np.add.at(matrix, (np.concatenate(rows), np.concatenate(columns)), 1)
    labels = [*class_names, BACKGROUND]
    return {
        "score_threshold": threshold,
        "labels": labels,
        "matrix": matrix.tolist(),
        "most": _most(matrix, labels),
    }


def _pairs(
    matches: Matches, free_found: np.ndarray, free_boxes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pair detections with boxes of other classes, from the highest IoU down: (P,) indices each."""
    detections, boxes = matches.pairs.T
    order = np.argsort(-matches.pair_iou, kind="stable")
    order = order[free_found[detections[order]] & free_boxes[boxes[order]]]
    used_found, used_boxes, chosen = set(), set(), []
    for pair in order.tolist():
        detection, box = int(detections[pair]), int(boxes[pair])
        if detection not in used_found and box not in used_boxes:
            used_found.add(detection)
            used_boxes.add(box)
            chosen.append(pair)
    return detections[chosen], boxes[chosen]


def _most(matrix: np.ndarray, labels: Sequence[str]) -> list[Confused]:
    """The largest counts off the diagonal."""
    off = matrix.copy()
    np.fill_diagonal(off, 0)
    places = np.argsort(-off, axis=None, kind="stable")[:_MOST]
    return [
        {"truth": labels[row], "detected": labels[column], "count": int(off[row, column])}
        for row, column in zip(*np.unravel_index(places, off.shape), strict=True)
        if off[row, column]
    ]


def confused_with(
    matches: Matches, wrong: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, int]]:
    """Return, for each class, the true classes of its detections that have the wrong class.

    Args:
        matches: of the detections.
        wrong: (D,) bool, the errors of kind "classification".
        class_names: (C,) the classes.

    Returns:
        Of each class: name of the true class -> how many, most first.
    """
    size = len(class_names)
    counts = np.zeros((size, size), np.int64)
    boxes = matches.other[wrong]
    np.add.at(counts, (matches.found.label[wrong], matches.truth.label[boxes]), 1)
    result = []
    for row in counts:
        order = [number for number in np.argsort(-row, kind="stable").tolist() if row[number]]
        result.append({class_names[number]: int(row[number]) for number in order})
    return result
