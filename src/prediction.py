# SPDX-License-Identifier: Apache-2.0
"""Prediction: a detector over image files, its boxes drawn and written as JSON."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.drawing import Boxes, class_color, draw_boxes, write_atomically
from src.errors import UserError
from src.image_ops import preprocess_image, read_image

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
PREDICTIONS = "predictions.json"
_SMALLEST_PICTURE = 640  # smaller images are enlarged to this, or class names would cover them


def find_images(inputs: Sequence[str]) -> list[Path]:
    """Image files in the order given; a folder stands for the images in it, sorted by name.

    Raises:
        UserError: a path that does not exist, or a folder without images.
    """
    paths: list[Path] = []
    for given in map(Path, inputs):
        if given.is_dir():
            inside = sorted(p for p in given.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise UserError(f"--input {given}: no images in it ({', '.join(IMAGE_SUFFIXES)})")
            paths += inside
        elif given.is_file():
            paths.append(given)
        else:
            raise UserError(f"--input {given}: no such file or folder")
    return paths


def with_saved_config(argv: Sequence[str]) -> list[str]:
    """Add ``--config_path`` of the configuration that training saved, unless one is given.

    A run's folder holds ``config.yaml`` and ``ckpt_<rank>/``, so the file is looked for in the
    checkpoint's folder and in the one above.
    """
    argv = list(argv)
    if any(a == "--config_path" or a.startswith("--config_path=") for a in argv):
        return argv
    checkpoint = None
    for position, argument in enumerate(argv):
        if argument == "--checkpoint_path" and position + 1 < len(argv):
            checkpoint = argv[position + 1]
        elif argument.startswith("--checkpoint_path="):
            checkpoint = argument.split("=", 1)[1]
    for folder in Path(checkpoint).absolute().parents[:2] if checkpoint else ():
        if (folder / "config.yaml").is_file():
            # Where training read and wrote is of no interest here.
            return ["--config_path", str(folder / "config.yaml"), "--output_dir", ".", *argv]
    return argv


def picture_names(paths: Sequence[Path]) -> list[str]:
    """File names for the drawn pictures: ``<stem>.png``, made unique where stems repeat."""
    taken: Counter[str] = Counter()
    names = []
    for path in paths:
        name = f"{path.stem}.png"
        while name in taken:
            taken[path.stem] += 1
            name = f"{path.stem}_{taken[path.stem]}.png"
        taken[name] += 1
        names.append(name)
    return names


def batches_of(
    paths: Sequence[Path], config: Any, size: int
) -> Iterator[tuple[list[np.ndarray], np.ndarray, np.ndarray]]:
    """Images read and prepared, `size` at a time.

    Yields:
        the images as (H, W, 3) uint8 RGB; the network's input (size, 3, img_height, img_width)
        float32 and its meta (size, 4) float32. The last batch is filled up with copies, so that one
        compiled graph serves all.
    """
    for start in range(0, len(paths), size):
        pictures = [read_image(str(path)) for path in paths[start : start + size]]
        prepared = [preprocess_image(rgb, config) for rgb in pictures]
        prepared += prepared[-1:] * (size - len(prepared))
        yield pictures, np.stack([p[0] for p in prepared]), np.stack([p[1] for p in prepared])


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
    """Write the image with its detections drawn into it."""
    detections = entry["detections"]
    boxes = Boxes(
        xyxy=np.array([d["box"] for d in detections], np.float32).reshape(-1, 4),
        names=[d["class"] for d in detections],
        scores=[d["score"] for d in detections],
    )
    colors = {name: class_color(i) for i, name in enumerate(class_names)}
    scale = max(1.0, _SMALLEST_PICTURE / max(rgb.shape[:2]))
    picture = draw_boxes(rgb, boxes, colors=colors, scale=scale)
    write_atomically(png, lambda name: picture.save(name, format="PNG"))


def run_prediction(config: Any, paths: Sequence[Path], min_score: float) -> int:
    """Detect in `paths` as predict.py does.

    Args:
        config: uses checkpoint_path, output_dir, test_batch_size and what the network is made of.
        paths: image files.
        min_score: detections below are left out.

    Returns:
        The exit code.

    Raises:
        UserError: no checkpoint, one that does not fit, or an image that cannot be read.
    """
    from mindspore import Tensor

    from src.checkpoint import describe_model, load_detector
    from src.detector import build_detector
    from src.model_utils.device_adapter import init_device

    if not config.checkpoint_path:
        raise UserError("checkpoint_path is empty; give the detector with --checkpoint_path FILE")
    # The network itself drops what is below test_score_thr.
    if min_score < config.test_score_thr:
        config = config.replace(test_score_thr=min_score)
    init_device(config)
    network = build_detector(config)
    _, notes = load_detector(network, config.checkpoint_path, describe_model(config))
    for note in notes:
        print(f"note: {note}")
    network.set_train(False)
    output = Path(config.output_dir)
    size = min(config.test_batch_size, len(paths))
    names = picture_names(paths)
    entries: list[dict[str, Any]] = []
    for pictures, image, meta in batches_of(paths, config, size):
        outputs = [o.asnumpy() for o in network(Tensor(image), Tensor(meta))]
        for row, rgb in enumerate(pictures):
            path, name = paths[len(entries)], names[len(entries)]
            found = [o[row] for o in outputs]
            entry = entry_of(path, rgb, found, config.class_names, min_score)
            draw_entry(entry, rgb, config.class_names, output / name)
            counts = Counter(d["class"] for d in entry["detections"])
            summary = ", ".join(f"{n} {c}" for c, n in counts.items()) or "nothing found"
            print(f"{path}: {summary} -> {output / name}")
            entries.append(entry)
    write_atomically(output / PREDICTIONS, lambda name: _write_json(name, entries))
    print(f"predictions: {output / PREDICTIONS}")
    return 0


def _write_json(path: str | os.PathLike[str], content: Any) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
