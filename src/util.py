# SPDX-License-Identifier: Apache-2.0
"""What scripts written for the model zoo import from its `src/util.py`, over this project's own.

`eval.py` and `postprocess.py` do the same with classes matched by name. Without MindSpore.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .base.errors import UserError
from .base.foreign_files import read_json
from .evaluation.coco import evaluate_results
from .evaluation.coco_results import detections_to_results, write_results
from .evaluation.ground_truth import load_ground_truth

_LARGEST_RESULTS = 1 << 30  # bytes: ten million detections
SUMMARY_KEYS = (
    "Precision/mAP",
    "Precision/mAP@.50IOU",
    "Precision/mAP@.75IOU",
    "Precision/mAP (small)",
    "Precision/mAP (medium)",
    "Precision/mAP (large)",
    "Recall/AR@1",
    "Recall/AR@10",
    "Recall/AR@100",
    "Recall/AR@100 (small)",
    "Recall/AR@100 (medium)",
    "Recall/AR@100 (large)",
)


def bbox2result_1image(
    bboxes: np.ndarray, labels: np.ndarray, num_classes: int
) -> list[np.ndarray]:
    """Sort the detections of an image by class.

    Args:
        bboxes: (N, 5) xyxy in pixels of the image, and the score.
        labels: (N,) classes from 0, the background not counted.
        num_classes: with the background.

    Returns:
        num_classes - 1 arrays (n, 5).
    """
    bboxes, labels = np.reshape(bboxes, (-1, 5)), np.reshape(labels, -1)
    return [bboxes[labels == label] for label in range(num_classes - 1)]


def results2json(
    dataset: Any, results: Sequence[Sequence[np.ndarray]], out_file: str | Path
) -> dict[str, str]:
    """Write detections as a COCO results file, `<out_file>.bbox.json`.

    Widths are x2 - x1, as annotations are read (the model zoo's own file has one pixel more).

    Args:
        dataset: pycocotools' COCO of the annotations; class n is its category n, in the order of
            the file.
        results: what `bbox2result_1image` returns for each image, in the order of the images' ids
            in `dataset.getImgIds()`; the last images can be missing.
        out_file: the beginning of the file's path.

    Returns:
        {"bbox": the file, "proposal": the same}.

    Raises:
        UserError: more images or classes than the annotations have, or the file cannot be written.
    """
    image_ids, category_ids = dataset.getImgIds(), dataset.getCatIds()
    if len(results) > len(image_ids):
        raise UserError(
            f"{len(results)} images have results, but the annotations have {len(image_ids)}; give "
            "the annotations of the same images"
        )
    entries: list[dict[str, Any]] = []
    for image_id, by_class in zip(image_ids, results, strict=False):
        if len(by_class) > len(category_ids):
            raise UserError(
                f"the results of image {image_id} are of {len(by_class)} classes, but the "
                f"annotations have {len(category_ids)} categories; give num_classes to fit"
            )
        found = np.concatenate([np.zeros((0, 5)), *by_class])
        labels = np.repeat(np.arange(1, len(by_class) + 1), [len(boxes) for boxes in by_class])
        entries += detections_to_results(
            [image_id],
            found[None, :, :4],
            found[None, :, 4],
            labels[None],
            np.ones((1, len(found)), bool),
            category_ids,
        )
    path = f"{out_file}.bbox.json"
    write_results(path, entries)
    return {"bbox": path, "proposal": path}


def coco_eval(
    config: Any,
    result_files: Any,
    result_types: Any,
    coco: Any = None,
    max_dets: Sequence[int] = (100, 300, 1000),
    single_result: bool = False,
    plot_detect_result: bool = False,
) -> dict[str, float] | float:
    """Compare a results file with the annotations, and print COCO's table.

    Args:
        config: of no use here; older scripts leave it out.
        result_files: what `results2json` returns.
        result_types: ["bbox"].
        coco: pycocotools' COCO of the annotations, or their file.
        max_dets: of no use for boxes.
        single_result: judge only the images that have detections.
        plot_detect_result: return the AP alone, as the zoo's evaluation in training has it.

    Returns:
        the twelve numbers by the model zoo's names.

    Raises:
        UserError: another type than boxes, or a file that cannot be used.
    """
    if isinstance(config, Mapping):  # without a config in front
        result_files, result_types, coco = config, result_files, result_types
    if list(result_types) != ["bbox"]:
        raise UserError(f"result_types {list(result_types)!r}: only ['bbox'] can be evaluated")
    results = _read_results(result_files["bbox"])
    source = load_ground_truth(coco if isinstance(coco, str | Path) else coco.dataset)
    found = dict.fromkeys(entry["image_id"] for entry in results)
    summary = evaluate_results(
        source,
        results,
        [category["name"] for category in source["categories"]],
        image_ids=list(found) if single_result else None,
    )
    print("\n".join(summary.report()))
    if plot_detect_result:
        return summary.ap
    return dict(zip(SUMMARY_KEYS, summary.stats.tolist(), strict=True))


def _read_results(path: str | Path) -> list[dict[str, Any]]:
    """The entries of a results file.

    Raises:
        UserError: it cannot be read, or is no list of detections.
    """
    try:
        entries = read_json(path, _LARGEST_RESULTS)
    except OSError as error:
        raise UserError(f"results file {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"results file {path} is not JSON: {error}") from None
    keys = {"image_id", "category_id", "bbox", "score"}
    if not isinstance(entries, list) or any(
        not isinstance(entry, dict) or not keys <= entry.keys() for entry in entries
    ):
        raise UserError(f"results file {path} is no list of detections; give one of results2json")
    return entries
