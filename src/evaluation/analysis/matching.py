# SPDX-License-Identifier: Apache-2.0
"""Which detection is on which true box: COCO's matching at one IoU, and what lies near."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...data.coco_file import Entry
from ..coco import Evidence
from .schema import IOU

NONE = -1  # no box, no detection


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes of all images, sorted by image.

    Attributes:
        image: (N,) int64, position of the image, from 0.
        box: (N, 4) float64, x, y, width, height in the image's pixels.
        label: (N,) int64, the class, from 0.
        score: (N,) float64; within an image the best is first. Of true boxes 1.
        crowd: (N,) bool; of detections False.
        area: (N,) float64, in pixels, as the annotations have it.
    """

    image: np.ndarray
    box: np.ndarray
    label: np.ndarray
    score: np.ndarray
    crowd: np.ndarray
    area: np.ndarray

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True, slots=True)
class Matches:
    """What became of each detection and true box. Indices are of `truth` or `found`, -1 for none.

    Attributes:
        truth: (G,) true boxes.
        found: (D,) detections that count.
        match: (D,) the true box that the detection found.
        ignored: (D,) bool: it is on a crowd of its class, and counts neither way.
        matched_by: (G,) the detection that found the box.
        same, same_iou: (D,) the box of the detection's class with the highest IoU, and that IoU.
        other, other_iou: the same among boxes of other classes.
        taken_iou: (D,) the highest IoU with a box of its class that a detection has found.
        pairs: (P, 2) detection and true box of different classes whose IoU is at least 0.5.
        pair_iou: (P,) their IoU.
    """

    truth: Boxes
    found: Boxes
    match: np.ndarray
    ignored: np.ndarray
    matched_by: np.ndarray
    same: np.ndarray
    same_iou: np.ndarray
    other: np.ndarray
    other_iou: np.ndarray
    taken_iou: np.ndarray
    pairs: np.ndarray
    pair_iou: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """(D,) bool: which detections found a true box of their class."""
        return self.match != NONE

    @property
    def counted(self) -> np.ndarray:
        """(D,) bool: which detections are correct or false, and not ignored."""
        return ~self.ignored

    @property
    def real(self) -> np.ndarray:
        """(G,) bool: which true boxes are to be found, that is, no crowds."""
        return ~self.truth.crowd


def match_detections(evidence: Evidence) -> Matches:
    """Match the detections of an evaluation at IoU 0.5, as COCO does.

    Within an image and class the best detections choose first, each the free box with the highest
    IoU. What finds none and lies on a crowd, by its own area, is ignored.

    Args:
        evidence: of the evaluation.
    """
    truth, found = _boxes(evidence.truth), _boxes(evidence.found)
    found = _take(found, _rank_in_class(found) < evidence.max_detections)
    matches = _unmatched(truth, found)
    pairs, pair_iou = [], []
    positions = np.arange(len(evidence.image_ids) + 1)
    of_truth = np.searchsorted(truth.image, positions)
    of_found = np.searchsorted(found.image, positions)
    busy = (np.diff(of_truth) > 0) & (np.diff(of_found) > 0)
    for image in np.flatnonzero(busy):
        rows = slice(of_found[image], of_found[image + 1])
        columns = slice(of_truth[image], of_truth[image + 1])
        near, iou = _match_image(matches, rows, columns)
        pairs.append(near)
        pair_iou.append(iou)
    return Matches(
        **matches,
        pairs=np.concatenate([np.zeros((0, 2), np.int64), *pairs]),
        pair_iou=np.concatenate([np.zeros(0), *pair_iou]),
    )


def box_iou(detected: np.ndarray, true: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Return the IoU of every detection with every true box; of a crowd, the share inside it.

    In pycocotools' order of operations, so that both see the same side of a threshold.

    Args:
        detected: (D, 4) float64, x, y, width, height.
        true: (G, 4) float64, likewise.
        crowd: (G,) bool.

    Returns:
        (D, G) float64.
    """
    low = np.maximum(detected[:, None, :2], true[None, :, :2])
    ends = detected[:, :2] + detected[:, 2:], true[:, :2] + true[:, 2:]
    sides = np.minimum(ends[0][:, None], ends[1][None]) - low
    common = np.where((sides > 0).all(-1), sides[..., 0] * sides[..., 1], 0.0)
    area = (detected[:, 2] * detected[:, 3])[:, None]
    union = np.where(crowd, area, area + true[:, 2] * true[:, 3] - common)
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)


def _boxes(entries: Sequence[Entry]) -> Boxes:
    """Return entries as arrays, by image, and in it the best score first."""
    image = np.array([entry["image_id"] for entry in entries], np.int64) - 1
    score = np.array([entry.get("score", 1.0) for entry in entries], np.float64)
    boxes = Boxes(
        image=image,
        box=np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4),
        label=np.array([entry["category_id"] for entry in entries], np.int64) - 1,
        score=score,
        crowd=np.array([entry["iscrowd"] for entry in entries], bool),
        area=np.array([entry["area"] for entry in entries], np.float64),
    )
    return _take(boxes, np.lexsort((-score, image)))


def _take(boxes: Boxes, which: np.ndarray) -> Boxes:
    return Boxes(*(getattr(boxes, name)[which] for name in Boxes.__slots__))


def _rank_in_class(found: Boxes) -> np.ndarray:
    """(D,) int64: how many better detections of its class the image has."""
    order = np.lexsort((np.arange(len(found)), found.label, found.image))
    image, label = found.image[order], found.label[order]
    starts = np.r_[True, (np.diff(image) != 0) | (np.diff(label) != 0)][: len(order)]
    places = np.arange(len(order))
    rank = np.empty(len(order), np.int64)
    rank[order] = places - np.maximum.accumulate(np.where(starts, places, 0))
    return rank


def _unmatched(truth: Boxes, found: Boxes) -> dict:
    """The fields of `Matches` before any image is looked at."""
    detections, boxes = len(found), len(truth)
    return {
        "truth": truth,
        "found": found,
        "match": np.full(detections, NONE),
        "ignored": np.zeros(detections, bool),
        "matched_by": np.full(boxes, NONE),
        "same": np.full(detections, NONE),
        "same_iou": np.zeros(detections),
        "other": np.full(detections, NONE),
        "other_iou": np.zeros(detections),
        "taken_iou": np.zeros(detections),
    }


def _match_image(fields: dict, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
    """Fill in one image's part of the fields; return its `pairs` and `pair_iou`.

    Args:
        fields: of `Matches`.
        rows: the image's detections.
        columns: its true boxes.
    """
    truth, found = fields["truth"], fields["found"]
    crowd = truth.crowd[columns]
    iou = box_iou(found.box[rows], truth.box[columns], crowd)
    same = found.label[rows, None] == truth.label[None, columns]
    match = _match_greedily(np.where(same & ~crowd, iou, 0.0))
    has_match = match != NONE
    fields["match"][rows] = np.where(has_match, match + columns.start, NONE)
    taken = np.zeros(len(crowd), bool)
    taken[match[has_match]] = True
    fields["matched_by"][columns][match[has_match]] = np.flatnonzero(has_match) + rows.start
    fields["ignored"][rows] = ~has_match & ((iou >= IOU) & same & crowd).any(1)
    other = np.where(~same & ~crowd, iou, 0.0)
    for name, values in (("same", np.where(same & ~crowd, iou, 0.0)), ("other", other)):
        fields[name][rows], fields[f"{name}_iou"][rows] = _highest(values, columns.start)
    fields["taken_iou"][rows] = np.where(same & taken, iou, 0.0).max(1)
    near = np.argwhere(other >= IOU)
    return near + (rows.start, columns.start), other[near[:, 0], near[:, 1]]


def _highest(iou: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
    """The column with the highest IoU of each row, counted from `start`, and that IoU."""
    column = iou.argmax(1)
    highest = iou[np.arange(len(iou)), column]
    return np.where(highest > 0, column + start, NONE), highest


def _match_greedily(iou: np.ndarray) -> np.ndarray:
    """Give each row, in turn, the free column with the highest IoU of at least 0.5; -1 for none.

    Of equal ones the last, as pycocotools has it.

    Args:
        iou: (D, G) float64, 0 where the two cannot be matched.
    """
    match = np.full(len(iou), NONE)
    free = iou[:, ::-1].copy()
    for row in np.flatnonzero((iou >= IOU).any(1)):
        column = int(free[row].argmax())
        if free[row, column] >= IOU:
            match[row] = iou.shape[1] - 1 - column
            free[:, column] = 0.0
    return match
