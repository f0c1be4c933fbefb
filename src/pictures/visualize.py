# SPDX-License-Identifier: Apache-2.0
"""Pictures of a run: the loss curve, and validation images with predicted and true boxes.

``python -m src.visualize --log loss_0.log --results results.json --anno instances_val2017.json
--image_dir val2017 --output_dir DIR`` writes ``loss_curve.png`` and ``detections.png``; either half
works alone.
"""

import math
import os
import reprlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from ..base.arguments import ArgumentParser
from ..base.errors import UserError, run_entry
from ..base.foreign_files import read_json
from ..base.program import command, program
from ..data.coco_file import CocoFile
from ..images.reading import DEFAULT_MAX_PIXELS
from .drawing import Boxes, draw_contact_sheet, read_picture
from .fonts import printable
from .loss_curve import draw_loss_curve

LOSS_CURVE, DETECTIONS = "loss_curve.png", "detections.png"
_LARGEST_RESULTS = 1 << 30  # bytes; 5,000 images with 100 detections have 60 MB
_FARTHEST = 1e9  # pixels; sums and multiples of larger numbers may overflow


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, Real) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def _is_id(value: object) -> bool:
    return isinstance(value, str) or _is_number(value)


def _is_file_name(value: object) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value


def _is_bbox(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 4 and all(map(_is_number, value))


_Check = tuple[Callable[[object], bool], str]
_ID: _Check = (_is_id, "a number or a text")
_BOX: dict[str, _Check] = {
    "image_id": _ID,
    "category_id": _ID,
    "bbox": (_is_bbox, "four numbers x, y, width, height"),
}
# What the entries of each list need to be drawn.
_FIELDS: dict[str, dict[str, _Check]] = {
    "images": {"id": _ID, "file_name": (_is_file_name, "a file name")},
    "categories": {"id": _ID, "name": _ID},
    "annotations": _BOX,
    "results": {**_BOX, "score": (_is_number, "a number")},
}


def draw_detections(
    results: str | os.PathLike[str] | list[dict[str, Any]],
    annotations: str | os.PathLike[str] | Mapping[str, Any],
    image_dir: str | os.PathLike[str],
    png: str | os.PathLike[str],
    *,
    max_images: int = 12,
    min_score: float = 0.5,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> None:
    """Write a sheet of images with the boxes of a COCO results file and the true ones.

    Args:
        results: COCO results, or the JSON file of them that eval.py writes.
        annotations: COCO annotations of the same images, or their JSON file.
        image_dir: folder that the annotations' file names are relative to.
        png: the picture to write.
        max_images: so many images, evenly taken from the annotation file's.
        min_score: detections below are not drawn.
        max_pixels: of an image; a larger one is an error.

    Raises:
        UserError: a file that cannot be read or does not fit the others.
    """
    truth = _read_annotations(annotations)
    detections = read_results(results)
    names = {entry["id"]: str(entry["name"]) for entry in truth["categories"]}
    images = truth["images"]
    if not images:
        raise UserError(f"no images to draw for {png}: the annotations list none")
    picked = np.linspace(0, len(images) - 1, min(max_images, len(images))).round().astype(int)
    true_of = _by_image(a for a in truth["annotations"] if not a.get("iscrowd", 0))
    found_of = _by_image(d for d in detections if d["score"] >= min_score)

    def picture_of(image: Mapping[str, Any]) -> tuple[np.ndarray, Boxes, Boxes, str]:
        predicted = _boxes(found_of[image["id"]], names, "results")
        true = _boxes(true_of[image["id"]], names, "annotations")
        file_name = printable(image["file_name"])
        text = f"{file_name}: {len(predicted.names)} predicted, {len(true.names)} true"
        rgb = read_picture(Path(image_dir, image["file_name"]), max_pixels)
        return rgb, predicted, true, text

    draw_contact_sheet(
        (picture_of(images[index]) for index in picked),
        png,
        class_names=list(names.values()),
        title=f"Validation images, detections with a score of at least {min_score:g}",
    )


def _read_annotations(source: str | os.PathLike[str] | Mapping[str, Any]) -> dict[str, Any]:
    """COCO annotations whose entries can be drawn."""
    name = "annotations" if isinstance(source, Mapping) else f"annotation file {source}"
    truth = dict(source) if isinstance(source, Mapping) else CocoFile.read(str(source)).content()
    for key in ("images", "categories", "annotations"):
        _check_entries(truth[key], key, name)
    return truth


def read_results(source: str | os.PathLike[str] | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries of a COCO results file, each with image_id, category_id, bbox and score.

    Args:
        source: the file, or its content.

    Raises:
        UserError: it cannot be read, or is no such list; the text names the entry.
    """
    if isinstance(source, list):
        _check_entries(source, "results", "results")
        return source
    try:
        content = read_json(source, _LARGEST_RESULTS, allow_nan=True)
    except OSError as error:
        raise UserError(f"results file {source} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"results file {source} is not JSON: {error}") from error
    name = f"results file {source} is not a COCO results list that {program('eval')} writes"
    if not isinstance(content, list):
        raise UserError(name)
    _check_entries(content, "results", name)
    return content


def _check_entries(entries: Sequence[object], kind: str, source: str) -> None:
    """Raise `UserError` for the first of the entries that misses what `_FIELDS[kind]` names."""
    for index, entry in enumerate(entries):
        place = f"{source}: {kind}[{index}]"
        if not isinstance(entry, Mapping):
            raise UserError(f"{place} is {reprlib.repr(entry)}, not an object")
        for key, (fits, meaning) in _FIELDS[kind].items():
            if key not in entry:
                raise UserError(f'{place} has no "{key}"')
            if not fits(entry[key]):
                value = reprlib.repr(entry[key])
                raise UserError(f'{place}: "{key}" is {value}, it must be {meaning}')


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
        raise UserError(f"{source} with unknown category ids: {sorted(unknown, key=repr)[:8]}")
    xywh = np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4)
    xywh = xywh.clip(-_FARTHEST, _FARTHEST)
    return Boxes(
        xyxy=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1),
        names=[names[entry["category_id"]] for entry in entries],
        scores=[float(entry["score"]) for entry in entries if "score" in entry],
    )


def main(argv: Sequence[str]) -> int:
    """Run the command line; see the module's docstring.

    Args:
        argv: the arguments after the program's name.

    Returns:
        The exit code.

    Raises:
        UserError: the options do not fit together, or name files that cannot be drawn.
    """
    parser = ArgumentParser(
        prog=command("visualize"),
        description="Draw the loss curve of a run and boxes on validation images.",
    )
    parser.add_argument("--log", help="loss log of a training run, e.g. train/loss_0.log")
    parser.add_argument("--results", help=f"COCO results JSON that {program('eval')} wrote")
    parser.add_argument("--anno", help="COCO annotations of the evaluated images")
    parser.add_argument("--image_dir", help="folder of the evaluated images")
    parser.add_argument("--output_dir", default=".", help="where the pictures go (default: here)")
    parser.add_argument("--max_images", type=int, default=12, help="images on the sheet (12)")
    parser.add_argument("--min_score", type=float, default=0.5, help="hide detections below (0.5)")
    parser.add_argument(
        "--max_image_pixels",
        type=int,
        default=DEFAULT_MAX_PIXELS,
        help=f"larger images are refused ({DEFAULT_MAX_PIXELS})",
    )
    options = parser.parse_args(argv)
    output = Path(options.output_dir)
    if not options.log and not options.results:
        raise UserError("nothing to draw: give --log, or --results with --anno and --image_dir")
    if options.max_images < 1:
        raise UserError(f"--max_images is {options.max_images}, it must be at least 1")
    if not 0.0 <= options.min_score <= 1.0:
        raise UserError(f"--min_score is {options.min_score}, it must be between 0 and 1")
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
            max_pixels=options.max_image_pixels,
        )
        print(f"detections: {output / DETECTIONS}")
    return 0


if __name__ == "__main__":
    run_entry(main)
