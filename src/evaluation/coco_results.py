# SPDX-License-Identifier: Apache-2.0
"""Detections -> COCO results, and the file of them. Without MindSpore."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import UserError
from ..base.files import write_json
from ..model_utils.config import Config


def result_path_of(config: Config, folder: str = "") -> Path:
    """Return where the results JSON goes.

    Args:
        config: uses result_file, or where that is empty results.json in output_dir.
        folder: in output_dir, where several programs evaluate with the same one.
    """
    return Path(config.result_file or Path(config.output_dir, folder, "results.json"))


def detections_to_results(
    image_ids: Sequence[int | str],
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    valid: np.ndarray,
    category_ids: Sequence[int | str | None],
) -> list[dict[str, Any]]:
    """Write the detections of some images as COCO results.

    Args:
        image_ids: (B,) ids as in the annotation file.
        boxes: (B, K, 4) float32, xyxy in the original image's pixels.
        scores: (B, K) float32.
        labels: (B, K) int32, 1..C; where `valid` is False they mean nothing.
        valid: (B, K) bool, which of the K are detections.
        category_ids: (C,) the annotation file's category id of labels 1..C; detections of a class
            without one are left out.

    Returns:
        One dict a detection: image_id, category_id, bbox (x, y, width, height; width = x2 - x1, in
        both box conventions, because annotations are read as x2 = x + width), score.
    """
    results = []
    for i, image_id in enumerate(image_ids):
        # A diverged network gives NaN boxes; JSON has no number for them.
        kept = np.asarray(valid[i], bool) & np.isfinite(boxes[i]).all(axis=1)
        kept &= np.isfinite(scores[i])
        xyxy = np.asarray(boxes[i], np.float64)[kept]
        xywh = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1).round(4)
        kept_scores = np.asarray(scores[i], np.float64)[kept]
        kept_labels = np.asarray(labels[i])[kept]
        for bbox, score, label in zip(xywh, kept_scores, kept_labels, strict=True):
            category_id = category_ids[int(label) - 1]
            if category_id is not None:
                results.append(
                    {
                        "image_id": image_id,
                        "category_id": category_id,
                        "bbox": bbox.tolist(),
                        "score": float(score),
                    }
                )
    return results


def write_results(path: str | Path, results: list[dict[str, Any]]) -> None:
    """Write a COCO results file whole or not at all.

    Args:
        path: the file; its folder is made when missing.
        results: as `detections_to_results` makes them.

    Raises:
        UserError: when the folder cannot be written.
    """
    path = Path(path)
    try:
        write_json(path, results, indent=None)
    except OSError as error:
        raise _unwritable(path, error.strerror or error) from error


def check_result_path(path: str | Path) -> None:
    """Make sure, before results are computed, that `write_results` will be able to write them.

    Args:
        path: the file; neither it nor its folder need exist.

    Raises:
        UserError: it will not.
    """
    path = Path(path).absolute()
    folder = next(parent for parent in path.parents if parent.exists())
    problem = ""
    if path.is_dir():
        problem = os.strerror(errno.EISDIR)
    elif path.exists() and not path.is_file():  # a device would be replaced by a file
        problem = "not a file, but a pipe, socket or device"
    elif not folder.is_dir():
        problem = os.strerror(errno.ENOTDIR)
    elif not os.access(folder, os.W_OK | os.X_OK):
        problem = os.strerror(errno.EACCES)
    if problem:
        raise _unwritable(path, problem)


def _unwritable(path: Path, problem: object) -> UserError:
    return UserError(
        f"{path}: cannot write the results ({problem}); choose another result_file or output_dir"
    )
