# SPDX-License-Identifier: Apache-2.0
"""Pictures of a run: the loss curve, and validation images with predicted and true boxes.

``python -m src.visualize --log loss_0.log --results results.json --anno instances_val2017.json
--image_dir val2017 --output_dir DIR`` writes ``loss_curve.png`` and ``detections.png``; either half
works alone.
"""

import argparse
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from src.coco_eval import load_ground_truth
from src.drawing import Boxes, draw_contact_sheet
from src.errors import UserError, run_entry
from src.image_ops import read_image
from src.loss_curve import draw_loss_curve

LOSS_CURVE, DETECTIONS = "loss_curve.png", "detections.png"


def draw_detections(
    results: str | os.PathLike[str] | list[dict[str, Any]],
    annotations: str | os.PathLike[str] | Mapping[str, Any],
    image_dir: str | os.PathLike[str],
    png: str | os.PathLike[str],
    *,
    max_images: int = 12,
    min_score: float = 0.5,
) -> None:
    """Write a sheet of images with the boxes of a COCO results file and the true ones.

    Args:
        results: COCO results, or the JSON file of them that eval.py writes.
        annotations: COCO annotations of the same images, or their JSON file.
        image_dir: folder that the annotations' file names are relative to.
        png: the picture to write.
        max_images: so many images, evenly taken from the annotation file's.
        min_score: detections below are not drawn.

    Raises:
        UserError: a file that cannot be read or does not fit the others.
    """
    truth = load_ground_truth(annotations)
    detections = results if isinstance(results, list) else _read_results(results)
    names = {category["id"]: str(category["name"]) for category in truth["categories"]}
    images = truth["images"]
    if not images:
        raise UserError(f"no images to draw for {png}: the annotations list none")
    picked = np.linspace(0, len(images) - 1, min(max_images, len(images))).round().astype(int)
    true_of = _by_image(a for a in truth["annotations"] if not a.get("iscrowd", 0))
    found_of = _by_image(d for d in detections if d["score"] >= min_score)
    pictures = []
    for index in picked:
        image = images[index]
        predicted = _boxes(found_of[image["id"]], names, "results")
        true = _boxes(true_of[image["id"]], names, "annotations")
        text = f"{image['file_name']}: {len(predicted.names)} predicted, {len(true.names)} true"
        rgb = read_image(str(Path(image_dir, image["file_name"])))
        pictures.append((rgb, predicted, true, text))
    draw_contact_sheet(
        pictures,
        png,
        class_names=list(names.values()),
        title=f"Validation images, detections with a score of at least {min_score:g}",
    )


def _read_results(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The entries of a COCO results file, each with image_id, category_id, bbox and score."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"results file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"results file {path} is not JSON: {error}") from error
    needed = {"image_id", "category_id", "bbox", "score"}
    if not isinstance(content, list) or not all(
        isinstance(entry, dict) and needed <= entry.keys() for entry in content
    ):
        raise UserError(f"results file {path} is not a COCO results list: write it with eval.py")
    return content


def _by_image(entries: Iterable[Mapping[str, Any]]) -> dict[Any, list[Mapping[str, Any]]]:
    """Entries grouped by their image id; images without any get an empty list."""
    groups = defaultdict(list)
    for entry in entries:
        groups[entry["image_id"]].append(entry)
    return groups


def _boxes(entries: list[Mapping[str, Any]], names: Mapping[Any, str], source: str) -> Boxes:
    """COCO entries (bbox is x, y, width, height) as boxes to draw."""
    unknown = {entry["category_id"] for entry in entries} - names.keys()
    if unknown:
        raise UserError(f"{source} with unknown category ids: {sorted(unknown)}")
    xywh = np.array([entry["bbox"] for entry in entries], np.float32).reshape(-1, 4)
    return Boxes(
        xyxy=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1),
        names=[names[entry["category_id"]] for entry in entries],
        scores=[float(entry["score"]) for entry in entries if "score" in entry],
    )


def main(argv: list[str]) -> int:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m src.visualize",
        description="Draw the loss curve of a run and boxes on validation images.",
    )
    parser.add_argument("--log", help="loss log of a training run, e.g. train/loss_0.log")
    parser.add_argument("--results", help="COCO results JSON that eval.py wrote")
    parser.add_argument("--anno", help="COCO annotations of the evaluated images")
    parser.add_argument("--image_dir", help="folder of the evaluated images")
    parser.add_argument("--output_dir", default=".", help="where the pictures go (default: here)")
    parser.add_argument("--max_images", type=int, default=12, help="images on the sheet (12)")
    parser.add_argument("--min_score", type=float, default=0.5, help="hide detections below (0.5)")
    options = parser.parse_args(argv)
    output = Path(options.output_dir)
    if not options.log and not options.results:
        raise UserError("nothing to draw: give --log, or --results with --anno and --image_dir")
    if options.max_images < 1:
        raise UserError(f"--max_images is {options.max_images}, it must be at least 1")
    if options.log:
        draw_loss_curve(options.log, output / LOSS_CURVE)
        print(f"loss curve: {output / LOSS_CURVE}")
    if options.results:
        if not options.anno or not options.image_dir:
            raise UserError("--results needs --anno and --image_dir")
        draw_detections(
            options.results,
            options.anno,
            options.image_dir,
            output / DETECTIONS,
            max_images=options.max_images,
            min_score=options.min_score,
        )
        print(f"detections: {output / DETECTIONS}")
    return 0


if __name__ == "__main__":
    run_entry(main)
