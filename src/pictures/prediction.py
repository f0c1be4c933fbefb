# SPDX-License-Identifier: Apache-2.0
"""Prediction: a detector over image files, its boxes drawn and written as JSON."""

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..base.console import warn
from ..base.errors import EXIT_USER_ERROR, UserError
from ..base.files import remove_leftovers, save_whole
from ..base.messages import one_line
from ..checkpoints.run_config import adopt_run_config
from ..images.batching import NetworkInput, batches_of
from ..images.reading import DEFAULT_MAX_PIXELS, ImageError, decode_image, narrow_depth, read_bytes
from ..images.views import View
from ..model_utils.config import Config
from .drawing import Boxes, class_color, draw_boxes
from .fonts import class_labels

PREDICTIONS = "predictions.json"
DEFAULT_OUTPUT = "predictions"  # below the working folder
_SMALLEST_PICTURE = 640  # smaller images are enlarged to this, or class names would cover them
_LARGEST_PICTURE = 25_000_000  # pixels; larger images are drawn smaller
_LONGEST_STEM = 200  # bytes; file systems take 255, and a number or an ending may follow


def picture_names(paths: Sequence[Path]) -> list[str]:
    """File names for the drawn pictures: ``<stem>.png``, made unique where stems repeat.

    Args:
        paths: of the images.

    Returns:
        A name for each image, in their order.
    """
    taken: Counter[str] = Counter()
    names = []
    for path in paths:
        stem = os.fsdecode(os.fsencode(path.stem)[:_LONGEST_STEM])
        name = f"{stem}.png"
        while name in taken:
            taken[stem] += 1
            name = f"{stem}_{taken[stem]}.png"
        taken[name] += 1
        names.append(name)
    return names


def refuse_to_overwrite(paths: Sequence[Path], output: Path) -> None:
    """Make sure that no result goes where an image is.

    Args:
        paths: of the images.
        output: the folder of the results; need not exist.

    Raises:
        UserError: one would, or `output` cannot be looked at.
    """
    try:
        # Not `resolve`: an image may be a link to itself, which is said when it is opened.
        images = {Path(os.path.realpath(path)): path for path in paths}
        for name in (*picture_names(paths), PREDICTIONS):
            taken = images.get((output / name).resolve())
            if taken is not None:
                raise UserError(
                    f"--output_dir {output}: {output / name} would overwrite the image {taken}; "
                    "choose another folder"
                )
    except (OSError, RuntimeError) as error:  # RuntimeError: links that go in a circle
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--output_dir {output}: {reason}") from error


def read_pictures(
    paths: Sequence[Path], unreadable: list[Path], max_pixels: int = DEFAULT_MAX_PIXELS
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (position in `paths`, (H, W, 3) uint8 RGB) of each image that can be read.

    The others are reported. Images of 16 bits that come out nearly black are named.

    Args:
        paths: of the images.
        unreadable: gets the paths of the others.
        max_pixels: larger images are not read.
    """
    for position, path in enumerate(paths):
        try:
            # Bound to no name here, which would keep it while the next one is decoded.
            yield position, _read_picture(path, max_pixels)
        except ImageError as problem:
            error = problem.without_remedy()
            warn(f"error: {error}")
            unreadable.append(path)


def _read_picture(path: Path, max_pixels: int) -> np.ndarray:
    data = read_bytes(path, max_pixels)
    rgb = decode_image(data, str(path), max_pixels)
    narrow = narrow_depth(data)
    if narrow:
        print(one_line(f"note: {path} has {narrow}; stretch its values to 16 bits"))
    return rgb


def entry_of(
    path: Path, rgb: np.ndarray, found: Sequence[np.ndarray], class_names: Sequence[str], low: float
) -> dict[str, Any]:
    """What ``predictions.json`` says of one image.

    Args:
        path: its file.
        rgb: (H, W, 3) the image.
        found: boxes (K, 4) xyxy in image pixels, scores (K,), labels (K,) 1..C, valid (K,) bool.
        class_names: names of labels 1..C.
        low: the lowest score to keep.
    """
    boxes, scores, labels, valid = found
    kept = np.flatnonzero(valid.astype(bool) & (scores >= low))
    return {
        "file": str(path),
        "width": int(rgb.shape[1]),
        "height": int(rgb.shape[0]),
        "detections": [
            {
                "class": class_names[int(labels[i]) - 1],
                "score": round(float(scores[i]), 5),
                "box": [round(float(v), 2) for v in boxes[i]],
            }
            for i in kept
        ],
    }


def draw_entry(
    entry: dict[str, Any], rgb: np.ndarray, class_names: Sequence[str], png: Path
) -> None:
    """Write the image with its detections drawn into it.

    Args:
        entry: of the image, as `entry_of` makes it.
        rgb: (H, W, 3) uint8, the image; left as it is.
        class_names: of labels 1..C; decide the colours.
        png: the picture to write.

    Raises:
        UserError: it cannot be written.
    """
    detections = entry["detections"]
    boxes = Boxes(
        xyxy=np.array([d["box"] for d in detections], np.float32).reshape(-1, 4),
        names=[d["class"] for d in detections],
        scores=[d["score"] for d in detections],
    )
    colors = {name: class_color(i) for i, name in enumerate(class_names)}
    height, width = rgb.shape[:2]
    scale = max(1.0, _SMALLEST_PICTURE / max(height, width))
    scale = min(scale, math.sqrt(_LARGEST_PICTURE / (height * width)))
    labels = class_labels(tuple(class_names))
    picture = draw_boxes(rgb, boxes, colors=colors, labels=labels, scale=scale)
    # One of many: not each is waited for.
    save_whole(png, lambda name: picture.save(name, format="PNG"), sync=False)


def run_prediction(config: Config, paths: Sequence[Path], min_score: float) -> int:
    """Detect in `paths` as predict.py does.

    Args:
        config: uses checkpoint_path, output_dir, test_batch_size and what the network is made of.
        paths: image files.
        min_score: detections below are left out.

    Returns:
        The exit code.

    Raises:
        UserError: no checkpoint, one that does not fit, or results that cannot be written or would
            overwrite an image.
    """
    if not config.checkpoint_path:
        raise UserError("checkpoint_path is empty; give the detector with --checkpoint_path FILE")
    refuse_to_overwrite(paths, Path(config.output_dir))
    from ..detector import ViewsDetector, open_detector
    from ..graph_cache.compile_cache import CompileCache
    from ..model_utils.device_adapter import init_device

    init_device(config)
    config, lines = adopt_run_config(config)
    opened = open_detector(config, config.checkpoint_path)
    # The network itself drops what is below test_score_thr.
    lowest = min(min_score, opened.config.test_score_thr)
    config = opened.config.replace(test_score_thr=lowest)
    network = opened.network(test_score_thr=lowest)
    for line in (*lines, *opened.lines):
        print(one_line(line))
    detect_views, used = ViewsDetector(network, config, CompileCache(config)), set()

    def detect(inputs: Sequence[NetworkInput]) -> list[np.ndarray]:
        canvas = inputs[0][0].shape[2:]
        if len(config.canvas_sizes) > 1 and canvas not in used:
            print(f"canvas {canvas[0]}x{canvas[1]}: its graph is compiled, or comes from the cache")
            used.add(canvas)
        return detect_views(inputs)

    return write_predictions(detect, detect_views.views, config, paths, min_score)


def write_predictions(
    detect: Callable[[Sequence[NetworkInput]], Sequence[np.ndarray]],
    views: Sequence[View],
    config: Config,
    paths: Sequence[Path],
    min_score: float,
) -> int:
    """Detect in each image, draw what was found, and write ``predictions.json``.

    Args:
        detect: a `ViewsDetector`: inputs of each view -> boxes (B, K, 4), scores, labels and valid
            (B, K), as `entry_of` takes them.
        views: that it takes.
        config, paths, min_score: as in `run_prediction`.

    Returns:
        The exit code: 2 when an image could not be read; the others are written all the same.
    """
    output = Path(config.output_dir)
    remove_leftovers(output)
    names = picture_names(paths)
    entries: dict[int, dict[str, Any]] = {}
    unreadable: list[Path] = []
    pictures = read_pictures(paths, unreadable, config.max_image_pixels)
    size = min(config.test_batch_size, len(paths))
    for batch, inputs in batches_of(pictures, views, size):
        outputs = detect(inputs)
        for row in range(len(batch)):
            position, rgb = batch[row]
            path, png = paths[position], output / names[position]
            entry = entry_of(path, rgb, [o[row] for o in outputs], config.class_names, min_score)
            draw_entry(entry, rgb, config.class_names, png)
            counts = Counter(d["class"] for d in entry["detections"])
            summary = ", ".join(f"{n} {c}" for c, n in counts.items()) or "nothing found"
            print(one_line(f"{path}: {summary} -> {png}"))
            entries[position] = entry
        del rgb
        batch.clear()  # large pictures go before the next ones come
    in_order = [entries[position] for position in sorted(entries)]
    save_whole(output / PREDICTIONS, lambda name: _write_json(name, in_order))
    print(f"predictions: {output / PREDICTIONS}")
    if unreadable:
        print(f"not in them: {len(unreadable)} of {len(paths)} images, which cannot be read")
    return EXIT_USER_ERROR if unreadable else 0


def _write_json(path: str | os.PathLike[str], content: object) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
