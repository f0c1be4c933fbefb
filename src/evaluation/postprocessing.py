# SPDX-License-Identifier: Apache-2.0
"""Result files -> COCO results and their score. Without MindSpore."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from ..base.errors import UserError
from ..base.messages import counted, one_line, short_list
from ..export.model_card import read_card
from ..model_utils.config import Config
from ..model_utils.configuration.schema import MOST_DETECTIONS
from .analysis.report import analyse, show_report
from .coco import evaluate_results
from .coco_results import check_result_path, detections_to_results, result_path_of, write_results
from .ground_truth import category_ids_of, load_ground_truth
from .result_files import ResultFolder


def run_postprocess(config: Config) -> int:
    """Score the result files in `result_path`; the report goes to the standard output.

    Images without a result count as images without detections, and are reported.

    Args:
        config: uses result_path, ann_file, class_names (where the results do not tell their own),
            result_file, output_dir, report and test_max_per_img.

    Returns:
        The exit code.

    Raises:
        UserError: a setting is missing, or the files cannot be read or do not fit together.
    """
    for key in ("ann_file", "result_path"):
        if not getattr(config, key):
            raise UserError(f"{key} is empty ({config.origin(key)}); give --{key}")
    folder = ResultFolder(config.result_path)
    names = _class_names(config, folder)
    path = result_path_of(config)
    check_result_path(path)
    data = load_ground_truth(config.ann_file, names)
    category_ids = category_ids_of(data, names, config.ann_file)
    results, missing = collect_results(folder, data, category_ids, config.ann_file)
    _report_missing(missing, len(data["images"]), config)
    summary = evaluate_results(
        data, results, names, name=config.ann_file, max_detections=config.test_max_per_img
    )
    for line in summary.report():
        print(one_line(line))
    print(
        f"{counted(summary.num_images, 'image')}, {len(missing)} of them without a result, "
        f"{counted(len(results), 'detection')}"
    )
    write_results(path, results)
    print(f"results: {path.resolve()}")
    if config.report:
        report = analyse(
            summary,
            data["images"],
            {
                "detector": str(config.result_path),
                "epoch": None,
                "annotations": str(config.ann_file),
                "image_folder": None,
                "results": str(path),
            },
        )
        show_report(report, path.parent, lambda line: print(one_line(line)))
    return 0


def _class_names(config: Config, folder: ResultFolder) -> Sequence[str]:
    if folder.model_path is None:
        return config.class_names
    return read_card(folder.model_path).class_names


def collect_results(
    folder: ResultFolder,
    data: Mapping[str, Any],
    category_ids: Sequence[int | str | None],
    source: str,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the detections of all images of an annotation file, found by their file names.

    Args:
        folder: the result files.
        data: COCO annotation dict.
        category_ids: (C,) the file's category id of labels 1..C, None where it has none.
        source: the file's name, for errors.

    Returns:
        COCO results, and the names of the images that have none.

    Raises:
        UserError: two images have one name, or a result cannot be read, has a label beyond C or
            more detections than any detector gives.
    """
    for position, image in enumerate(data["images"]):
        if not isinstance(image.get("file_name"), str):
            raise UserError(f"{source}: images[{position}] has no file_name; give the file's name")
    names = [_base_name(image["file_name"]) for image in data["images"]]
    counts = Counter(names)
    results: list[dict[str, Any]] = []
    missing = []
    for image, name in zip(data["images"], names, strict=True):
        if counts[name] > 1:
            raise UserError(
                f"{source}: {counts[name]} images are called {name} (in different folders), so "
                "that result files cannot be told apart; give them different names"
            )
        found = folder.read(name)
        if found is None:
            missing.append(name)
            continue
        labels = found.labels[found.valid]
        if labels.size and not 1 <= labels.min() <= labels.max() <= len(category_ids):
            raise UserError(
                f"{folder.path}: {name} has labels {labels.min()} to {labels.max()}, but there are "
                f"{len(category_ids)} classes; set coco_classes to the model's"
            )
        if labels.size > MOST_DETECTIONS:
            raise UserError(
                f"{folder.path}: {name} has {labels.size} detections, of at most {MOST_DETECTIONS} "
                "in an image; infer this image again"
            )
        arrays = (found.boxes, found.scores, found.labels, found.valid)
        boxes, scores, labels, valid = (array[None] for array in arrays)
        results += detections_to_results([image["id"]], boxes, scores, labels, valid, category_ids)
    return results, missing


def _base_name(file_name: str) -> str:
    """The name without folders, also where they are written as on Windows."""
    return PurePosixPath(file_name.replace("\\", "/")).name


def _report_missing(missing: Sequence[str], total: int, config: Config) -> None:
    if not missing:
        return
    if len(missing) == total:
        raise UserError(
            f"{config.result_path}: has no result for any of the {total} images of "
            f"{config.ann_file} (the first is {missing[0]}); set result_path and ann_file to what "
            "belongs together"
        )
    sys.stdout.flush()
    line = (
        f"warning: {len(missing)} of {total} images have no result and count as images without "
        f"detections: {short_list(missing)}"
    )
    print(one_line(line), file=sys.stderr, flush=True)
