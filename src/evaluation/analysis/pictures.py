# SPDX-License-Identifier: Apache-2.0
"""How each picture did, and the worst and best of them with truth beside detections."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..coco import Evidence
from .error_kinds import NO_ERROR, ErrorKinds
from .matching import NONE, Matches
from .picture_schema import FALSE_KINDS, DetectedBox, Picture, Pictures, TrueBox, Verdict
from .precision import rounded
from .schema import GALLERY

_DECIMALS = 2  # of a box, in pixels


class PictureJudge:
    """Counts and describes pictures.

    Args:
        evidence: of the evaluation.
        matches: of its detections.
        kinds: of their errors.
        images: the annotations' entries, which say names and sizes.
        threshold: detections with a lower score are not counted; None counts none.
    """

    def __init__(
        self,
        evidence: Evidence,
        matches: Matches,
        kinds: ErrorKinds,
        images: Sequence[Mapping[str, Any]],
        threshold: float | None,
    ) -> None:
        self._evidence, self._matches, self._kinds = evidence, matches, kinds
        self._entries = {image["id"]: image for image in images}
        found, truth = matches.found, matches.truth
        shown = matches.counted & (found.score >= (np.inf if threshold is None else threshold))
        size = len(evidence.image_ids)
        self._correct = np.bincount(found.image[shown & matches.correct], minlength=size)
        self._false = np.bincount(found.image[shown & ~matches.correct], minlength=size)
        self._boxes = np.bincount(truth.image[matches.real], minlength=size)
        places = np.arange(size + 1)
        self._found_at = np.searchsorted(found.image, places)
        self._truth_at = np.searchsorted(truth.image, places)

    def pictures(self) -> Pictures:
        """Return the counts, the worst and the best pictures, and all of them in a table."""
        correct, false = self._correct, self._false
        missed = self._boxes - correct
        some = (correct + false + missed) > 0
        f1 = 2 * correct / np.maximum(2 * correct + false + missed, 1)
        wrong = (false + missed) > 0
        worst = np.lexsort((-(false + missed), f1))
        best = np.lexsort((-correct, -f1))
        return {
            "flawless": int((some & ~wrong).sum()),
            "with_false": int((false > 0).sum()),
            "with_missed": int((missed > 0).sum()),
            "empty": int((~some).sum()),
            "worst": [self._picture(place, f1) for place in worst[wrong[worst]][:GALLERY]],
            "best": [self._picture(place, f1) for place in best[correct[best] > 0][:GALLERY]],
            "table": {
                "image_id": list(self._evidence.image_ids),
                "correct": correct.tolist(),
                "false": false.tolist(),
                "missed": missed.tolist(),
            },
        }

    def _picture(self, place: int, f1: np.ndarray) -> Picture:
        image_id = self._evidence.image_ids[place]
        entry = self._entries[image_id]
        file_name = entry.get("file_name")
        return {
            "image_id": image_id,
            "file_name": file_name if isinstance(file_name, str) else None,
            "width": _pixels(entry.get("width")),
            "height": _pixels(entry.get("height")),
            "f1": rounded(f1[place]) or 0.0,
            "correct": int(self._correct[place]),
            "false": int(self._false[place]),
            "missed": int(self._boxes[place] - self._correct[place]),
            "truth": [
                self._true_box(index)
                for index in range(self._truth_at[place], self._truth_at[place + 1])
            ],
            "detections": [
                self._detected_box(index)
                for index in range(self._found_at[place], self._found_at[place + 1])
            ],
        }

    def _true_box(self, index: int) -> TrueBox:
        truth, by = self._matches.truth, self._matches.matched_by[index]
        return {
            "bbox": truth.box[index].round(_DECIMALS).tolist(),
            "label": self._evidence.class_names[truth.label[index]],
            "crowd": bool(truth.crowd[index]),
            "found_at": None if by == NONE else float(self._matches.found.score[by]),
            "error": "missed" if self._kinds.missed[index] else None,
        }

    def _detected_box(self, index: int) -> DetectedBox:
        matches, names = self._matches, self._evidence.class_names
        verdict = self._verdict(index)
        box, iou = matches.same[index], matches.same_iou[index]
        if verdict in ("classification", "both"):
            box, iou = matches.other[index], matches.other_iou[index]
        return {
            "bbox": matches.found.box[index].round(_DECIMALS).tolist(),
            "label": names[matches.found.label[index]],
            "score": float(matches.found.score[index]),
            "verdict": verdict,
            "iou": rounded(iou) or 0.0,
            "truth": None if box == NONE else names[matches.truth.label[box]],
        }

    def _verdict(self, index: int) -> Verdict:
        if self._matches.ignored[index]:
            return "ignored"
        kind = self._kinds.kind[index]
        return "correct" if kind == NO_ERROR else FALSE_KINDS[kind]


def _pixels(value: object) -> int | None:
    """A side of a picture as annotations have it, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
