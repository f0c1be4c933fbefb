# SPDX-License-Identifier: Apache-2.0
"""Detections -> COCO results -> the twelve COCO numbers. Without MindSpore."""

import contextlib
import errno
import io
import json
import math
import numbers
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src.annotations import check_coco, load_coco
from src.errors import UserError

AP, AP50, AP75 = 0, 1, 2  # where they stand among the twelve numbers


@dataclass(frozen=True, slots=True)
class ClassResult:
    """One row of the per-class table; `ap` and `ap50` are -1 for a class without ground truth."""

    name: str
    num_boxes: int
    num_detections: int
    ap: float
    ap50: float


@dataclass(frozen=True, slots=True)
class CocoSummary:
    """What COCO says of a set of detections.

    Attributes:
        stats: (12,) float64, in pycocotools' order; -1 where nothing can be said (no object of that
            size).
        lines: the twelve lines as pycocotools prints them.
        per_class: one row a class, in the order of the classes.
        num_images: images that were evaluated.
    """

    stats: np.ndarray
    lines: tuple[str, ...]
    per_class: tuple[ClassResult, ...]
    num_images: int

    @property
    def ap(self) -> float:
        """AP averaged over IoU 0.50 to 0.95."""
        return float(self.stats[AP])

    @property
    def ap50(self) -> float:
        """AP at IoU 0.50."""
        return float(self.stats[AP50])

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


def detections_to_results(
    image_ids: Sequence[int | str],
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    valid: np.ndarray,
    category_ids: Sequence[int],
) -> list[dict[str, Any]]:
    """Write the detections of some images as COCO results.

    Args:
        image_ids: (B,) ids as in the annotation file.
        boxes: (B, K, 4) float32, xyxy in the original image's pixels.
        scores: (B, K) float32.
        labels: (B, K) int32, 1..C; where `valid` is False they mean nothing.
        valid: (B, K) bool, which of the K are detections.
        category_ids: (C,) the annotation file's category id of labels 1..C.

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
            results.append(
                {
                    "image_id": image_id,
                    "category_id": category_ids[int(label) - 1],
                    "bbox": bbox.tolist(),
                    "score": float(score),
                }
            )
    return results


def write_results(path: str | Path, results: list[dict[str, Any]]) -> None:
    """Write a COCO results file whole or not at all.

    Raises:
        UserError: when the folder cannot be written.
    """
    path = Path(path)
    with _beside(path) as temporary:
        # json.dump writes the same, four times as slowly
        temporary.write_text(json.dumps(results), encoding="utf-8")
        os.replace(temporary, path)


def check_result_path(path: str | Path) -> None:
    """Make sure, before results are computed, that `write_results` will be able to write them.

    Raises:
        UserError: it will not.
    """
    path = Path(path).absolute()
    folder = next(parent for parent in path.parents if parent.exists())
    problem = errno.EISDIR if path.is_dir() else errno.ENOTDIR if not folder.is_dir() else 0
    if not problem and not os.access(folder, os.W_OK | os.X_OK):
        problem = errno.EACCES
    if problem:
        raise _unwritable(path, OSError(problem, os.strerror(problem)))


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path}: cannot write the results ({error.strerror or error}); "
        "choose another result_file or output_dir"
    )


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, in a folder that exists; gone afterwards.

    Raises:
        UserError: for the operating system's refusals.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def load_ground_truth(
    source: str | Path | Mapping[str, Any], class_names: Sequence[str] = ()
) -> dict[str, Any]:
    """Return a COCO annotation dict: as it is, or from a file, which is checked.

    Raises:
        UserError: when there is no such file, it is not JSON, not COCO instances, or an entry of
            one of the `class_names` cannot be used (see `check_coco`).
    """
    if isinstance(source, Mapping):
        return dict(source)
    data = load_coco(str(source))
    check_coco(data, class_names, str(source))
    return data


def category_ids_of(
    ground_truth: Mapping[str, Any], class_names: Sequence[str], source: str | Path = "annotations"
) -> list[int]:
    """Return the category id of every class, matched by name.

    Args:
        ground_truth: COCO annotation dict.
        class_names: (C,) names without the background.
        source: what to call the file in an error.

    Raises:
        UserError: when the file has no category of one of the names.
    """
    by_name = {category.get("name"): category.get("id") for category in ground_truth["categories"]}
    absent = [name for name in class_names if name not in by_name]
    if absent:
        known = ", ".join(str(name) for name in list(by_name)[:8])
        raise UserError(
            f"{source}: no category named {', '.join(map(repr, absent[:5]))} (it has {known}, "
            "...); set coco_classes to names of this file"
        )
    return [by_name[name] for name in class_names]


def coco_from_records(records: Sequence[Any], class_names: Sequence[str]) -> dict[str, Any]:
    """Build a COCO annotation dict from image records, for data that has no COCO file.

    Args:
        records: objects with image_id, file_name, boxes (N, 4) xyxy, labels (N,) 1..C, crowd (N,).
        class_names: (C,); they get the category ids 1..C.
    """
    images, annotations = [], []
    for record in records:
        images.append({"id": record.image_id, "file_name": record.file_name})
        for box, label, crowd in zip(record.boxes, record.labels, record.crowd, strict=True):
            x1, y1, x2, y2 = (float(value) for value in box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": record.image_id,
                    "category_id": int(label),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(crowd),
                }
            )
    categories = [{"id": i, "name": name} for i, name in enumerate(class_names, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def evaluate_results(
    source: str | Path | Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    class_names: Sequence[str],
    *,
    image_ids: Sequence[int | str] | None = None,
    name: str | None = None,
) -> CocoSummary:
    """Compare results with the ground truth through pycocotools.

    Args:
        source: annotation file, or its content as a dict. Left as it is.
        results: as `detections_to_results` makes them; may be empty. Results of other images than
            the evaluated ones, or of other categories, are not looked at.
        class_names: (C,) classes to evaluate, without the background.
        image_ids: the images that were evaluated; default all of the file.
        name: what errors call the ground truth; default the file's name.

    Raises:
        UserError: for an unreadable file, an unknown class, or an evaluated image that the file
        lacks.
    """
    data = load_ground_truth(source, class_names)
    name = name or ("annotations" if isinstance(source, Mapping) else str(source))
    category_ids = category_ids_of(data, class_names, name)
    # pycocotools sorts ids and holds them in numpy arrays, so mixed and string ids would break it:
    # inside, the id of an image or a category is its position.
    known = {image["id"] for image in data["images"]}
    wanted = list(dict.fromkeys(known_ids(data) if image_ids is None else image_ids))
    absent = [image_id for image_id in wanted if image_id not in known]
    if absent:
        raise UserError(
            f"{name}: no image with id {absent[0]!r} ({len(absent)} of {len(wanted)} evaluated "
            "images are not in it); give the annotation file of the evaluated images"
        )
    position = {image_id: index for index, image_id in enumerate(wanted, start=1)}
    category = {id_: index for index, id_ in enumerate(dict.fromkeys(category_ids), start=1)}
    truth = _index(data["annotations"], position, category, with_score=False)
    found = _index(results, position, category, with_score=True)

    evaluation, lines = _run_pycocotools(truth, found, position, category)
    return CocoSummary(
        stats=np.asarray(evaluation.stats, np.float64),
        lines=lines,
        per_class=_per_class(
            evaluation, truth, found, [category[id_] for id_ in category_ids], class_names
        ),
        num_images=len(wanted),
    )


def _run_pycocotools(truth, found, position, category):
    """Return the finished COCOeval and the twelve lines that it prints."""
    from pycocotools.cocoeval import COCOeval

    captured = io.StringIO()
    with contextlib.redirect_stdout(captured):
        ground, detected = (_as_coco(part, position, category) for part in (truth, found))
        evaluation = COCOeval(ground, detected, "bbox")
        evaluation.params.imgIds = sorted(position.values())
        evaluation.params.catIds = sorted(category.values())
        evaluation.evaluate()
        evaluation.accumulate()
        captured.truncate(0)
        captured.seek(0)
        evaluation.summarize()
    return evaluation, tuple(line for line in captured.getvalue().splitlines() if line.strip())


def known_ids(data: Mapping[str, Any]) -> list[int | str]:
    """Return the ids of all images of a COCO annotation dict, in its order."""
    return [image["id"] for image in data["images"]]


def _index(entries, position, category, *, with_score):
    """Return copies of the entries that take part, with inner ids and all keys COCO reads."""
    chosen = []
    for entry in entries:
        if entry["image_id"] not in position or entry["category_id"] not in category:
            continue
        bbox = [_finite(value) for value in entry["bbox"]]
        if len(bbox) != 4 or None in bbox:
            continue
        item = {
            "id": len(chosen) + 1,
            "image_id": position[entry["image_id"]],
            "category_id": category[entry["category_id"]],
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


def _finite(value):
    """Return the number as a float, None for anything that is no finite number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer beyond the range of floats
        return None


def _as_coco(annotations, position, category):
    """Return a pycocotools COCO object of entries from `_index`, which it adds keys to."""
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        "images": [{"id": index} for index in position.values()],
        "categories": [{"id": index} for index in category.values()],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _per_class(evaluation, truth, found, category_ids, class_names):
    """Return the rows of the per-class table."""
    # (IoU, recall, class, area, most detections) -> all areas, most detections
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    order = {category_id: k for k, category_id in enumerate(evaluation.params.catIds)}

    def mean(values):
        values = values[values > -1]
        return float(values.mean()) if values.size else -1.0

    boxes = Counter(item["category_id"] for item in truth if not item["iscrowd"])
    detections = Counter(item["category_id"] for item in found)
    rows = []
    for name, category_id in zip(class_names, category_ids, strict=True):
        of_class = precision[:, :, order[category_id]]
        ap, ap50 = mean(of_class), mean(of_class[0])
        rows.append(ClassResult(name, boxes[category_id], detections[category_id], ap, ap50))
    return tuple(rows)
