# SPDX-License-Identifier: Apache-2.0
"""COCO results -> the twelve COCO numbers. Without MindSpore."""

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import UserError
from ..base.memory import collection_paused
from ..data.coco_file import Entry, Id
from .coco_library import CocoArrays, judge, mean_of_known
from .ground_truth import absent_classes_note, category_ids_of, known_ids, load_ground_truth

AP, AP50 = 0, 1  # where they stand among the twelve numbers
COCO_MAX_DETECTIONS = 100  # of a class in an image that count in COCO's table
_FLOAT = {float}


@dataclass(frozen=True, slots=True)
class ClassResult:
    """One row of the per-class table; `ap` and `ap50` are -1 for a class without ground truth."""

    name: str
    num_boxes: int
    num_detections: int
    ap: float
    ap50: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What COCO's numbers were made of, for a closer look.

    In the entries the id of an image is its position in `image_ids`, and that of a category its
    label, both from 1.

    Attributes:
        image_ids: the evaluated images.
        class_names: (C,) the evaluated classes.
        truth: the boxes that were judged by, crowds too.
        found: the detections that were judged.
        max_detections: of a class that count in an image.
        precision: (10, 101, C, 4) float64, by IoU 0.50 to 0.95, recall, class and size (all, small,
            medium, large); -1 where nothing can be said.
        scores: as `precision`, the score of the detection that reaches the recall.
        recall: (10, C, 4) float64.
    """

    image_ids: Sequence[int | str]
    class_names: Sequence[str]
    truth: Sequence[Entry]
    found: Sequence[Entry]
    max_detections: int
    precision: np.ndarray
    scores: np.ndarray
    recall: np.ndarray


@dataclass(frozen=True, slots=True)
class CocoSummary:
    """What COCO says of a set of detections.

    Attributes:
        stats: (12,) float64, in pycocotools' order; -1 where nothing can be said (no object of that
            size).
        lines: the twelve lines as pycocotools prints them.
        per_class: one row a class, in the order of the classes.
        num_images: images that were evaluated.
        evidence: what the numbers were made of.
        notes: what one has to know to read the numbers.
    """

    stats: np.ndarray
    lines: tuple[str, ...]
    per_class: tuple[ClassResult, ...]
    num_images: int
    evidence: Evidence
    notes: tuple[str, ...] = ()

    @property
    def ap(self) -> float:
        """AP averaged over IoU 0.50 to 0.95."""
        return float(self.stats[AP])

    @property
    def ap50(self) -> float:
        """AP at IoU 0.50."""
        return float(self.stats[AP50])

    def report(self) -> list[str]:
        """Return everything as lines; only the notes when there is no box to judge by."""
        judged = any(row.num_boxes for row in self.per_class)
        return [*self.lines, "", *self.table(), "", *self.notes] if judged else list(self.notes)

    def table(self) -> list[str]:
        """Return the per-class table as lines; "-" for a class without ground truth."""
        width = max([len("class"), *(len(row.name) for row in self.per_class)])
        lines = [f"{'class':<{width}}  {'boxes':>6}  {'found':>6}  {'AP':>6}  {'AP50':>6}"]
        for row in self.per_class:
            ap, ap50 = ("-" if value < 0 else f"{value:.3f}" for value in (row.ap, row.ap50))
            lines.append(
                f"{row.name:<{width}}  {row.num_boxes:>6}  {row.num_detections:>6}"
                f"  {ap:>6}  {ap50:>6}"
            )
        return lines


def evaluate_results(
    source: str | Path | Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    class_names: Sequence[str],
    *,
    image_ids: Sequence[int | str] | None = None,
    name: str | None = None,
    max_detections: int = COCO_MAX_DETECTIONS,
) -> CocoSummary:
    """Compare results with the ground truth, as COCO does.

    Args:
        source: annotation file, or its content as a dict. Left as it is.
        results: as `detections_to_results` makes them; may be empty. Results of other images than
            the evaluated ones, or of other categories, are not looked at.
        class_names: (C,) classes to evaluate, without the background.
        image_ids: the images that were evaluated; default all of the file.
        name: what errors call the ground truth; default the file's name.
        max_detections: of a class that count in an image, the best ones; COCO's 100 for less. With
            more, all numbers but the recalls of 1 and 10 detections are those of so many.

    Raises:
        UserError: for an unreadable file, an unknown class, or an evaluated image that the file
        lacks.
    """
    data = load_ground_truth(source, class_names)
    name = name or ("annotations" if isinstance(source, Mapping) else str(source))
    category_ids = category_ids_of(data, class_names, name)
    wanted = _evaluated_images(data, image_ids, name)
    # COCO's libraries sort ids and hold them in arrays, so mixed and string ids would break them:
    # inside, the id of an image or a category is its position.
    position = {image_id: index for index, image_id in enumerate(wanted, start=1)}
    category = {id_: label for label, id_ in enumerate(category_ids, start=1) if id_ is not None}
    counted = max(max_detections, COCO_MAX_DETECTIONS)
    with collection_paused():
        truth = _index(data["annotations"], position, category, with_score=False)
        found = _index(results, position, category, with_score=True)
        arrays = judge(
            truth,
            found,
            num_images=len(wanted),
            num_classes=len(category_ids),
            max_detections=(1, 10, COCO_MAX_DETECTIONS, counted),
        )
    stats, lines = _summarize(arrays, counted)
    notes = (
        None if truth else f"note: {name} has no box to judge by: no numbers",
        absent_classes_note(category_ids, class_names, name),
        _counting_note(arrays, found, counted),
    )
    return CocoSummary(
        stats=stats,
        lines=lines,
        per_class=_per_class(arrays, truth, found, class_names),
        num_images=len(wanted),
        evidence=Evidence(wanted, class_names, truth, found, counted, *arrays.of_most()),
        notes=tuple(filter(None, notes)),
    )


def _evaluated_images(
    data: Mapping[str, Any], image_ids: Sequence[int | str] | None, name: str
) -> list[int | str]:
    """The ids of the images that were evaluated, each once; refuses one that the file lacks."""
    known = {image["id"] for image in data["images"]}
    wanted = list(dict.fromkeys(known_ids(data) if image_ids is None else image_ids))
    absent = [image_id for image_id in wanted if image_id not in known]
    if absent:
        raise UserError(
            f"{name}: no image with id {absent[0]!r} ({len(absent)} of {len(wanted)} evaluated "
            "images are not in it); give the annotation file of the evaluated images"
        )
    return wanted


# (which array, IoU threshold, size, most detections where it is not all that count)
_TWELVE: tuple[tuple[str, float | None, str, int | None], ...] = (
    ("precision", None, "all", None),
    ("precision", 0.5, "all", None),
    ("precision", 0.75, "all", None),
    ("precision", None, "small", None),
    ("precision", None, "medium", None),
    ("precision", None, "large", None),
    ("recall", None, "all", 1),
    ("recall", None, "all", 10),
    ("recall", None, "all", None),
    ("recall", None, "small", None),
    ("recall", None, "medium", None),
    ("recall", None, "large", None),
)
_TITLES = {"precision": "Average Precision  (AP)", "recall": "Average Recall     (AR)"}


def _summarize(arrays: CocoArrays, counted: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the twelve numbers and their lines, as pycocotools prints them.

    Its own `summarize` can do so for 100 detections an image only.
    """
    stats, lines = [], []
    for array, threshold, size, most in _TWELVE:
        stats.append(arrays.mean(array, size, most or counted, threshold=threshold))
        overlap = "0.50:0.95" if threshold is None else f"{threshold:0.2f}"
        lines.append(
            f" {_TITLES[array]} @[ IoU={overlap:<9} | area={size:>6s} | "
            f"maxDets={most or counted:>3d} ] = {stats[-1]:0.3f}"
        )
    return np.asarray(stats, np.float64), tuple(lines)


def _counting_note(arrays: CocoArrays, found: list[Entry], counted: int) -> str | None:
    """What to say where the numbers are not COCO's, or leave out detections; None otherwise."""
    if counted > COCO_MAX_DETECTIONS:
        ap = arrays.mean("precision", "all", COCO_MAX_DETECTIONS)
        return (
            f"note: up to {counted} detections of a class count in an image (test_max_per_img); "
            f"with COCO's own {COCO_MAX_DETECTIONS} AP is {ap:.3f}"
        )
    num_classes = arrays.recall.shape[1]
    pairs = _inner_ids(found, "image_id") * num_classes + _inner_ids(found, "category_id")
    most = int(np.unique(pairs, return_counts=True)[1].max(initial=0))
    if most <= counted:
        return None
    return (
        f"note: of up to {most} detections of a class in an image the best {counted} count, as "
        f"COCO has it; set test_max_per_img to {most} to count them all"
    )


def _index(
    entries: Iterable[Mapping[str, Any]],
    position: Mapping[Id, int],
    category: Mapping[Id, int],
    *,
    with_score: bool,
) -> list[Entry]:
    """Return copies of the entries that take part, with inner ids and all keys COCO reads."""
    chosen: list[Entry] = []
    for entry in entries:
        image, label = position.get(entry["image_id"]), category.get(entry["category_id"])
        if image is None or label is None:
            continue
        bbox = _finite_box(entry["bbox"])
        if bbox is None:
            continue
        item: Entry = {
            "id": len(chosen) + 1,
            "image_id": image,
            "category_id": label,
            "bbox": bbox,
            "area": bbox[2] * bbox[3],
            "iscrowd": 0,
        }
        if with_score:
            item["score"] = float(entry["score"])
        else:
            area = _finite(entry.get("area"))
            item["area"] = item["area"] if area is None else area
            item["iscrowd"] = int(entry.get("iscrowd", 0))
        chosen.append(item)
    return chosen


def _inner_ids(entries: list[Entry], key: str) -> np.ndarray:
    """Return an id of all entries: (N,) int64, from 1."""
    return np.fromiter((entry[key] for entry in entries), np.int64, len(entries))


def _finite_box(values: Sequence[Any]) -> list[float] | None:
    """Return four finite numbers as floats, None for anything else."""
    if len(values) == 4 and _FLOAT.issuperset(map(type, values)):  # nearly always
        return list(values) if all(map(math.isfinite, values)) else None
    found = [_finite(value) for value in values]
    bbox = [value for value in found if value is not None]
    return bbox if len(found) == len(bbox) == 4 else None


def _finite(value: object) -> float | None:
    """Return the number as a float, None for anything that is no finite number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer beyond the range of floats
        return None


def _per_class(
    arrays: CocoArrays, truth: list[Entry], found: list[Entry], class_names: Sequence[str]
) -> tuple[ClassResult, ...]:
    """Return the rows of the per-class table."""
    # (IoU, recall, class, area, most detections) -> all areas, most detections
    precision = arrays.precision[:, :, :, 0, -1]

    num_boxes, num_detections = (
        np.bincount(_inner_ids(entries, "category_id") - 1, minlength=len(class_names)).tolist()
        for entries in ([item for item in truth if not item["iscrowd"]], found)
    )
    rows = []
    for index, name in enumerate(class_names):
        of_class = precision[:, :, index]
        ap, ap50 = mean_of_known(of_class), mean_of_known(of_class[0])
        rows.append(ClassResult(name, num_boxes[index], num_detections[index], ap, ap50))
    return tuple(rows)
