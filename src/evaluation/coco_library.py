# SPDX-License-Identifier: Apache-2.0
"""COCO's matching and its precision over recall, by the library that has them.

`faster-coco-eval` where it is installed: the same numbers in a sixth of the time. Elsewhere
`pycocotools`, whose interface it has. Without MindSpore.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.coco_file import Entry


@dataclass(frozen=True, slots=True)
class CocoArrays:
    """COCO's precision, recall and scores, -1 where nothing can be said.

    Attributes:
        precision: (T, 101, C, 4, M) float64, by IoU threshold, recall, class, size and most
            detections.
        scores: as `precision`, the score of the detection that reaches the recall.
        recall: (T, C, 4, M) float64.
        thresholds: (T,) float64, the IoUs: 0.50 to 0.95.
        sizes: their names: all, small, medium, large.
        max_detections: (M,) rising, of a class that count in an image.
    """

    precision: np.ndarray
    scores: np.ndarray
    recall: np.ndarray
    thresholds: np.ndarray
    sizes: tuple[str, ...]
    max_detections: tuple[int, ...]

    def of_most(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return precision, scores and recall of the most detections."""
        return self.precision[..., -1], self.scores[..., -1], self.recall[..., -1]

    def mean(self, of: str, size: str, most: int, *, threshold: float | None = None) -> float:
        """Return a number of COCO's table; -1 where nothing can be said.

        Args:
            of: "precision" or "recall".
            size: one of `sizes`.
            most: one of `max_detections`.
            threshold: one of `thresholds`; None for the mean over all.
        """
        values = getattr(self, of)
        values = values[..., self.sizes.index(size), self.max_detections.index(most)]
        if threshold is not None:
            values = values[np.isclose(self.thresholds, threshold)]
        return mean_of_known(values)


def mean_of_known(values: np.ndarray) -> float:
    """Return the mean of what is not -1; -1 where all is.

    Args:
        values: of `CocoArrays`.
    """
    values = values[values > -1]
    return float(values.mean()) if values.size else -1.0


def judge(
    truth: list[Entry],
    found: list[Entry],
    *,
    num_images: int,
    num_classes: int,
    max_detections: Sequence[int],
) -> CocoArrays:
    """Match detections with true boxes, and count, as COCO does.

    Args:
        truth: COCO annotations with id, image_id, category_id, bbox, area and iscrowd; ids, those
            of images and of categories too, count from 1. Libraries add keys to them.
        found: COCO results, with the keys of annotations, too.
        num_images: that were evaluated.
        num_classes: C.
        max_detections: numbers of detections of a class that count in an image.
    """
    coco, evaluator = _library()
    images, classes = range(1, num_images + 1), range(1, num_classes + 1)
    with contextlib.redirect_stdout(io.StringIO()):
        sides = []
        for annotations in (truth, found):
            side = coco()
            side.dataset = {
                "images": [{"id": index} for index in images],
                "categories": [{"id": label} for label in classes],
                "annotations": annotations,
            }
            side.createIndex()
            sides.append(side)
        evaluation = evaluator(*sides, "bbox")
        parameters = evaluation.params
        parameters.imgIds, parameters.catIds = list(images), list(classes)
        parameters.maxDets = sorted(set(max_detections))
        evaluation.evaluate()
        evaluation.accumulate()
    return CocoArrays(
        **{name: np.asarray(evaluation.eval[name]) for name in ("precision", "scores", "recall")},
        thresholds=parameters.iouThrs,
        sizes=tuple(parameters.areaRngLbl),
        max_detections=tuple(parameters.maxDets),
    )


def _library() -> tuple[Any, Any]:
    """The classes `COCO` and `COCOeval`."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:  # not installed, or not for this system
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        return COCO, COCOeval
    return COCO, COCOeval_faster
