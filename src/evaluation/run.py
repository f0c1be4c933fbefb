# SPDX-License-Identifier: Apache-2.0
"""Evaluation: a detector over the validation images, and what COCO says of its results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np

from ..backends.choosing import exported_format
from ..backends.interface import Backend
from ..backends.opening import open_backend
from ..base.errors import UserError
from ..base.files import remove_leftovers
from ..base.messages import counted
from ..base.progress import Display, Progress
from ..data.mindrecord import ensure_mindrecord
from ..data.record_set import MindRecordSet
from ..data.source import data_source
from ..dataset import create_eval_dataset, evaluation_rows, iterate
from ..model_utils.config import Config
from ..model_utils.configuration.derived import lowest_score
from ..model_utils.configuration.memory import require_memory
from ..model_utils.device_adapter import init_device
from ..processes.ranks import Ranks
from ..weights.opening import require_weights
from .analysis.report import analyse, show_report
from .analysis.schema import EvaluationReport
from .coco import CocoSummary, evaluate_results
from .coco_results import check_result_path, detections_to_results, result_path_of, write_results
from .ground_truth import category_ids_of, coco_from_records, load_ground_truth


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """What detections are compared with.

    Attributes:
        source: the file's name, for messages.
        data: COCO annotation dict.
        category_ids: (C,) the file's category id of labels 1..C, None where it has none.
        image_dir: the images' folder.
    """

    source: str
    data: Mapping[str, Any]
    category_ids: Sequence[int | str | None]
    image_dir: str


@dataclass(frozen=True, slots=True)
class Detections:
    """What a detector found.

    Attributes:
        image_ids: the images that were looked at, each once.
        results: COCO results.
        images_per_second: without the first batch of each canvas, which compiles its graph (unless
            there are no others). Of all processes together.
        processes: that shared the images.
    """

    image_ids: list[int | str]
    results: list[dict[str, Any]]
    images_per_second: float
    processes: int = 1


def read_ground_truth(config: Config, mindrecord_set: MindRecordSet) -> GroundTruth:
    """Return what an evaluation compares with.

    COCO data: the annotation file itself, the one that the images were converted from (`anno_path`
    if given), as other evaluations of it read it. TXT data: the records.

    Args:
        config: uses the keys of the data and class_names.
        mindrecord_set: the validation images.

    Raises:
        UserError: when the file cannot be used, or lacks a class.
    """
    source, place = mindrecord_set.anno_path, data_source(config, "val")
    if place.kind == "coco":
        data = load_ground_truth(source, config.class_names)
    else:
        data = coco_from_records(mindrecord_set.records, config.class_names)
    category_ids = category_ids_of(data, config.class_names, source)
    return GroundTruth(source, data, category_ids, str(place.image_dir))


def detect(
    detector: Backend,
    config: Config,
    mindrecord_set: MindRecordSet,
    category_ids: Sequence[int | str | None],
    *,
    ranks: Ranks | None = None,
    display: Display | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Detections | None:
    """Run a detector over the validation images, each exactly once.

    Several ranks look at their share of the images each, and all get what all have found.

    Args:
        detector: finds the objects; its views are those of the configuration.
        config: the effective configuration.
        mindrecord_set: the validation images; `config.max_val_images` limits them.
        category_ids: (C,) the annotation file's category id of labels 1..C.
        ranks: the processes of the run; this one alone by default.
        display: shows how far it is.
        should_stop: asked after every batch; the evaluation is given up when it says so, to all
            ranks alike.

    Returns:
        What was found, or None when it was given up.
    """
    ranks = ranks or Ranks()
    image_ids: list[int | str] = []
    results: list[dict[str, Any]] = []
    canvases: set[tuple[int, ...]] = set()
    place = {"rank": ranks.rank, "world_size": ranks.world_size}
    share = int((evaluation_rows(config, mindrecord_set, **place)[1] >= 0).sum())
    progress = Progress(display or Display(quiet=True), "evaluated", share)
    dataset = create_eval_dataset(config, mindrecord_set, **place)
    for *arrays, index in iterate(dataset, output_numpy=True, records=mindrecord_set):
        inputs = list(zip(arrays[::2], arrays[1::2], strict=True))
        outputs = detector(inputs)
        rows = np.flatnonzero(index >= 0)  # -1 fills the last batch up
        ids = [mindrecord_set.image_ids[index[i]] for i in rows]
        image_ids += ids
        boxes, scores, labels, valid = (output[rows] for output in outputs)
        results += detections_to_results(ids, boxes, scores, labels, valid, category_ids)
        canvas = inputs[0][0].shape
        progress.advance(len(ids), is_first=canvas not in canvases)
        canvases.add(canvas)
        if should_stop():
            return None
    parts = ranks.all_gather([image_ids, results, progress.speed()])
    return _merged(parts, mindrecord_set.image_ids)


def _merged(parts: Sequence[Sequence[Any]], order: Sequence[int | str]) -> Detections:
    """Put together what the ranks have found, by image id, in the order of the records.

    Args:
        parts: of each rank, the fields of its `Detections`.
        order: ids of all images.
    """
    place = {image_id: number for number, image_id in enumerate(order)}
    image_ids = sorted((i for ids, _, _ in parts for i in ids), key=place.__getitem__)
    if len(set(image_ids)) != len(image_ids):
        raise RuntimeError("an image has been evaluated twice")
    results = [result for _, part, _ in parts for result in part]
    results.sort(key=lambda result: place[result["image_id"]])  # keeps the order within an image
    return Detections(image_ids, results, sum(speed for _, _, speed in parts), len(parts))


def evaluate(
    detector: Backend,
    config: Config,
    mindrecord_set: MindRecordSet,
    truth: GroundTruth,
    *,
    ranks: Ranks | None = None,
    display: Display | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[CocoSummary | None, Detections] | None:
    """Detect, and compare with the ground truth.

    Args:
        detector: finds the objects, as `detect` takes it.
        config: the effective configuration.
        mindrecord_set: the validation images.
        truth: what they are compared with.
        ranks: the processes of the run; this one alone by default.
        display: shows how far it is.
        should_stop: as in `detect`.

    Returns:
        COCO's numbers (on rank 0, None on the others) and the detections, or None when
        `should_stop` gave the evaluation up.
    """
    detections = detect(
        detector,
        config,
        mindrecord_set,
        truth.category_ids,
        ranks=ranks,
        display=display,
        should_stop=should_stop,
    )
    if detections is None:
        return None
    if ranks is not None and ranks.rank:
        return None, detections
    summary = evaluate_results(
        truth.data,
        detections.results,
        config.class_names,
        image_ids=detections.image_ids,
        name=truth.source,
        max_detections=config.test_max_per_img,
    )
    return summary, detections


def closer_look(
    config: Config,
    summary: CocoSummary,
    detections: Detections,
    truth: GroundTruth,
    *,
    detector: str | Path,
    epoch: int | None,
    results: str | Path | None = None,
) -> EvaluationReport:
    """Return the report of an evaluation: what went wrong, and how much of it.

    Args:
        config: that it was made with.
        summary: COCO's numbers.
        detections: that they are of.
        truth: that they were compared with.
        detector: the checkpoint's file, or the folder of the run.
        epoch: of the checkpoint, None when it does not say.
        results: the file with the detections, if there is one.
    """
    speed = detections.images_per_second
    return analyse(
        summary,
        truth.data["images"],
        {
            "detector": str(detector),
            "epoch": epoch,
            "annotations": str(truth.source),
            "image_folder": truth.image_dir,
            "results": None if results is None else str(results),
        },
        lowest_score=lowest_score(config),
        speed={
            "images_per_second": speed,
            "seconds_per_image": 1 / speed if speed else None,
            "processes": detections.processes,
            "batch_size": config.test_batch_size,
            "device_target": config.device_target,
            "mindspore": ms.__version__,
        },
    )


def run_evaluation(config: Config) -> int:
    """Evaluate `checkpoint_path` as eval.py does: report on the standard output, results as JSON.

    Args:
        config: of the user; its defaults give way to the settings of the checkpoint, or all that
            belongs to an exported model is taken from its description.

    Returns:
        The exit code.

    Raises:
        UserError: for anything in the configuration, the data or the checkpoint that cannot work.
    """
    if not config.checkpoint_path:
        raise UserError(
            f"checkpoint_path is empty ({config.origin('checkpoint_path')}); "
            "give the detector to evaluate with --checkpoint_path FILE"
        )
    if not exported_format(config.checkpoint_path):
        require_weights(config.checkpoint_path, "checkpoint_path")
    require_memory(config, "test_batch_size")
    device = init_device(config)
    ranks = Ranks(device.rank, device.world_size)
    display = Display(quiet=ranks.rank > 0)
    opened = open_backend(config, say=display.say, compiling=display.compiling)
    config = opened.config
    display.say(opened.source)
    for line in opened.lines:
        display.say(f"  {line}")
    mindrecord_set = ensure_mindrecord(config, "val", ranks.rank, ranks.world_size)
    truth = read_ground_truth(config, mindrecord_set)
    result_path = result_path_of(config, opened.folder)
    if ranks.rank == 0:
        check_result_path(result_path)
        remove_leftovers(result_path.parent)
    with ranks.watch(config.rank_timeout):
        outcome = evaluate(
            opened.backend, config, mindrecord_set, truth, ranks=ranks, display=display
        )
        ranks.barrier()
    summary, detections = outcome or (None, None)
    if summary is not None and detections is not None:  # rank 0 sees to the results
        show_results(summary, detections, result_path, display, opened.runtime)
        # Under a name of its own: results may go into the folder of a training run.
        saved = config.save_in(result_path.parent, "eval_config.yaml")
        display.say(f"configuration: {saved.resolve()}")
        if config.report:
            source = {
                "detector": config.checkpoint_path,
                "epoch": opened.epoch,
                "results": result_path,
            }
            report = closer_look(config, summary, detections, truth, **source)
            show_report(report, result_path.parent, display.say)
    return 0


def average_precision(config: Config, model: Path) -> float:
    """Return AP (0 to 1) of an exported model on the validation images.

    Args:
        config: says which images.
        model: the file, with its description beside it.

    Raises:
        UserError: the data or the model cannot be used.
    """
    display = Display()
    config = config.replace(checkpoint_path=str(model))
    opened = open_backend(config, say=display.say, compiling=display.compiling)
    mindrecord_set = ensure_mindrecord(opened.config, "val")
    truth = read_ground_truth(opened.config, mindrecord_set)
    outcome = evaluate(opened.backend, opened.config, mindrecord_set, truth, display=display)
    assert outcome is not None and outcome[0] is not None  # nothing gives it up, one process
    return outcome[0].ap


def show_results(
    summary: CocoSummary, detections: Detections, path: Path, display: Display, runtime: str
) -> None:
    """Show COCO's numbers and write the results.

    Args:
        summary: the numbers.
        detections: that they are of.
        path: where the results go, as COCO has them.
        display: shows the lines.
        runtime: what the detector ran in.

    Raises:
        UserError: the results cannot be written.
    """
    for line in summary.report():
        display.say(line)
    display.say(
        f"{counted(summary.num_images, 'image')}, "
        f"{counted(len(detections.results), 'detection')}, "
        f"{detections.images_per_second:.2f} images/s ({runtime})"
    )
    write_results(path, detections.results)
    display.say(f"results: {path.resolve()}")
