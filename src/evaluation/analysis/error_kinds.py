# SPDX-License-Identifier: Apache-2.0
"""TIDE's kinds of errors, and what AP each costs.

Bolya, Foley, Hays, Hoffman: TIDE, A General Toolbox for Identifying Object Detection Errors, 2020.
A false detection is of the first kind that fits:

- localisation: IoU 0.1 to 0.5 with a box of its class;
- classification: IoU of 0.5 or more with a box of another class;
- duplicate: IoU of 0.5 or more with a box of its class that a better detection has found;
- background: IoU of at most 0.1 with every box;
- both: what is left, IoU 0.1 to 0.5 with a box of another class.

A box that no detection found is missed, unless the first two kinds have a detection of it. A kind
costs what AP gains when its errors alone are put right: the best detection of a free box becomes
correct and the others of a kind vanish; a missed box no longer counts.
"""

from typing import NamedTuple

import numpy as np

from .matching import NONE, Matches
from .precision import average_precision, ranking, rounded
from .schema import BACKGROUND_IOU, ERROR_KINDS, IOU, ErrorCost, ErrorKind, Errors

NO_ERROR = len(ERROR_KINDS)
_KIND = {kind: number for number, kind in enumerate(ERROR_KINDS)}


class ErrorKinds(NamedTuple):
    """What is wrong with each detection and box.

    Attributes:
        kind: (D,) position in `ERROR_KINDS`, or `NO_ERROR`.
        box: (D,) the true box that a classification or localisation error is about, -1 for others.
        missed: (G,) bool.
    """

    kind: np.ndarray
    box: np.ndarray
    missed: np.ndarray

    def of_kind(self, kind: ErrorKind) -> np.ndarray:
        """Return which detections are errors of a kind, (D,) bool.

        Args:
            kind: any but "missed".
        """
        return self.kind == _KIND[kind]


def error_kinds(matches: Matches) -> ErrorKinds:
    """Sort errors into kinds; correct and ignored detections are none.

    Args:
        matches: of the detections.
    """
    false = ~matches.correct & ~matches.ignored
    nearest = np.maximum(matches.same_iou, matches.other_iou)
    tests: dict[ErrorKind, np.ndarray] = {
        "localisation": (matches.same_iou >= BACKGROUND_IOU) & (matches.same_iou <= IOU),
        "classification": matches.other_iou >= IOU,
        "duplicate": matches.taken_iou >= IOU,
        "background": nearest <= BACKGROUND_IOU,
    }
    kind = np.select(list(tests.values()), [_KIND[name] for name in tests], _KIND["both"])
    kind = np.where(false, kind, NO_ERROR)
    box = np.select(
        [kind == _KIND["localisation"], kind == _KIND["classification"]],
        [matches.same, matches.other],
        NONE,
    )
    missed = matches.real & (matches.matched_by == NONE)
    missed[box[box != NONE]] = False
    return ErrorKinds(kind, box, missed)


def error_costs(
    matches: Matches, kinds: ErrorKinds, num_classes: int
) -> tuple[Errors, list[dict[ErrorKind, ErrorCost]]]:
    """Count the errors, and what AP at IoU 0.5 each kind costs.

    Args:
        matches: of the detections.
        kinds: of their errors.
        num_classes: C.

    Returns:
        Of all classes, and of each.
    """
    judge = _Judge(matches, num_classes)
    before = judge.precisions()
    per_class: list[dict[ErrorKind, ErrorCost]] = [{} for _ in range(num_classes)]
    total: dict[ErrorKind, ErrorCost] = {}
    for kind in ERROR_KINDS:
        after = judge.precisions_without(kind, kinds)
        of_kind = kinds.missed if kind == "missed" else kinds.of_kind(kind)
        labels = (matches.truth if kind == "missed" else matches.found).label[of_kind]
        counts = np.bincount(labels, minlength=num_classes)
        gain = judge.gain(before, after)
        total[kind] = {"count": int(counts.sum()), "ap": None if gain is None else max(gain, 0.0)}
        for label in range(num_classes):
            per_class[label][kind] = {
                "count": int(counts[label]),
                "ap": rounded(after[label] - before[label]),
            }
    errors: Errors = {
        "ap50": rounded(judge.mean(before)),
        "kinds": total,
        "false_positives": judge.gain(before, judge.precisions(keep=matches.correct)),
        "false_negatives": judge.gain(before, judge.precisions(boxes=judge.found_boxes)),
    }
    return errors, per_class


class _Judge:
    """Each class' AP at IoU 0.5, of the detections as they are and as they might be.

    Args:
        matches: of the detections.
        num_classes: C.
    """

    def __init__(self, matches: Matches, num_classes: int) -> None:
        self.matches, self.num_classes = matches, num_classes
        labels = matches.truth.label
        self.boxes = np.bincount(labels[matches.real], minlength=num_classes)
        self.found_boxes = np.bincount(labels[matches.matched_by != NONE], minlength=num_classes)

    def precisions(
        self,
        *,
        keep: np.ndarray | None = None,
        correct: np.ndarray | None = None,
        label: np.ndarray | None = None,
        boxes: np.ndarray | None = None,
    ) -> np.ndarray:
        """(C,) AP; NaN for a class without boxes, or with neither boxes nor detections left."""
        found = self.matches.found
        keep = self.matches.counted if keep is None else keep & self.matches.counted
        correct = self.matches.correct if correct is None else correct
        label = found.label if label is None else label
        boxes = self.boxes if boxes is None else boxes
        kept = np.flatnonzero(keep)
        kept = kept[np.argsort(label[kept], kind="stable")]
        starts = np.searchsorted(label[kept], np.arange(self.num_classes + 1))
        values = np.full(self.num_classes, np.nan)
        for number in np.flatnonzero(self.boxes):
            own = kept[starts[number] : starts[number + 1]]
            if len(own) or boxes[number]:
                ranked = ranking(found.score[own], correct[own], boxes[number])
                values[number] = average_precision(ranked)
        return values

    def precisions_without(self, kind: ErrorKind, kinds: ErrorKinds) -> np.ndarray:
        """(C,) AP, as `precisions`, with the errors of a kind put right."""
        matches = self.matches
        if kind == "missed":
            labels = matches.truth.label[kinds.missed]
            return self.precisions(
                boxes=self.boxes - np.bincount(labels, minlength=self.num_classes)
            )
        wrong = kinds.of_kind(kind)
        right = wrong & self._best_of_a_free_box(kinds)
        return self.precisions(
            keep=~wrong | right,
            correct=matches.correct | right,
            label=np.where(right, matches.truth.label[kinds.box], matches.found.label)
            if right.any()
            else None,
        )

    def _best_of_a_free_box(self, kinds: ErrorKinds) -> np.ndarray:
        """(D,) bool: the best error, of either kind that is about a box, of each box not found."""
        about = np.flatnonzero(kinds.box != NONE)
        about = about[self.matches.matched_by[kinds.box[about]] == NONE]
        _, first = np.unique(kinds.box[about], return_index=True)  # the best comes first
        best = np.zeros(len(kinds.box), bool)
        best[about[first]] = True
        return best

    @staticmethod
    def mean(values: np.ndarray) -> float:
        """The mean over the classes that can be judged; NaN without any."""
        values = values[~np.isnan(values)]
        return float(values.mean()) if values.size else float("nan")

    def gain(self, before: np.ndarray, after: np.ndarray) -> float | None:
        """What the mean gains; None when there is no mean before or after."""
        return rounded(self.mean(after) - self.mean(before))
