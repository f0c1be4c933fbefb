# SPDX-License-Identifier: Apache-2.0
"""An evaluation for runs that have its detections, but no `evaluation_report.json`."""

from pathlib import Path

from ..base.errors import UserError
from ..base.foreign_files import is_regular_file
from ..data.source import data_source
from ..evaluation.analysis.report import analyse
from ..evaluation.analysis.schema import Subject
from ..evaluation.coco import evaluate_results
from ..evaluation.ground_truth import coco_from_records, load_ground_truth
from ..model_utils.config import Config
from ..pictures.visualize import read_results
from .run_files import EVALUATION_FOLDERS, RunFiles

_RESULTS = "results.json"
_LARGEST = 16_000_000  # bytes: some 150,000 detections, a few seconds


def evaluate_results_file(run: RunFiles, config: Config) -> None:
    """Put into `run.evaluation` what the detections of `results.json` are worth, if it is there.

    Args:
        run: what is in its folder; gets a note where the file cannot be used.
        config: uses the keys of the data and test_max_per_img.
    """
    paths = [run.folder / folder / _RESULTS for folder in EVALUATION_FOLDERS]
    found = [path for path in paths if is_regular_file(path)]
    if not found:
        return
    path = max(found, key=lambda path: path.stat().st_mtime)
    try:
        run.evaluation = _evaluate(path, config)
    except UserError as error:
        run.notes.append(f"{path} is not evaluated: {error}")


def _evaluate(path: Path, config: Config) -> dict[str, object]:
    size = path.stat().st_size
    if size > _LARGEST:
        raise UserError(f"it has {size / 1e6:.0f} MB, which would take long")
    source = data_source(config, "val")
    names = config.class_names
    if source.kind == "coco":
        truth = load_ground_truth(source.anno_path, names)
    else:
        truth = coco_from_records(source.read(max_boxes=0)[0], names)
    summary = evaluate_results(
        truth,
        read_results(path),
        names,
        name=source.anno_path,
        max_detections=config.test_max_per_img,
    )
    subject: Subject = {
        "detector": str(path),
        "epoch": None,
        "annotations": source.anno_path,
        "image_folder": source.image_dir,
        "results": str(path),
    }
    return dict(analyse(summary, truth["images"], subject))
