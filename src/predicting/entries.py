# SPDX-License-Identifier: Apache-2.0
"""What is said of one picture or frame, and how it is drawn."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..base.files import save_whole
from ..inference import Found
from ..pictures.drawing import Boxes, class_color, draw_boxes
from ..pictures.fonts import class_labels

_SMALLEST_PICTURE = 640  # smaller images are enlarged to this, or class names would cover them
_LARGEST_PICTURE = 25_000_000  # pixels; larger images are drawn smaller

Entry = dict[str, Any]


def entry_of(
    name: str, rgb: np.ndarray, found: Found, class_names: Sequence[str], low: float
) -> Entry:
    """What ``predictions.json`` says of one picture.

    Args:
        name: of its file.
        rgb: (H, W, 3) the picture.
        found: in it; boxes in its pixels.
        class_names: names of labels 1..C.
        low: the lowest score to keep.

    Returns:
        file, width, height, and detections: class, score, box (xyxy).
    """
    return {
        "file": written_name(name),
        "width": int(rgb.shape[1]),
        "height": int(rgb.shape[0]),
        "detections": detections_of(found, class_names, low),
    }


def written_name(name: str) -> str:
    r"""Return a file's name as results write it: a byte of it that is not UTF-8 as "\\udce9".

    Args:
        name: as Python holds it.
    """
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def detections_of(found: Found, class_names: Sequence[str], low: float) -> list[dict[str, Any]]:
    """Return what was found as plain values: class, score, box (xyxy), best first.

    Args:
        found, class_names, low: as in `entry_of`. What is no number, as a diverged network gives,
            is left out: JSON has none for it.
    """
    is_sure = (found.scores >= low) & np.isfinite(found.boxes).all(1) & np.isfinite(found.scores)
    return [
        {
            "class": class_names[int(found.labels[i]) - 1],
            "score": round(float(found.scores[i]), 5),
            "box": [round(float(v), 2) for v in found.boxes[i]],
        }
        for i in np.flatnonzero(is_sure)
    ]


def summary_of(detections: Iterable[dict[str, Any]]) -> str:
    """Return the numbers of a picture's objects in words: "2 cat, 1 dog".

    Args:
        detections: of an entry.
    """
    counts = Counter(detection["class"] for detection in detections)
    return ", ".join(f"{n} {name}" for name, n in counts.items()) or "nothing found"


def drawn(
    entry: Entry, rgb: np.ndarray, class_names: Sequence[str], most: int = _LARGEST_PICTURE
) -> Image.Image:
    """Return the picture with its detections drawn into it.

    Args:
        entry: of the picture, as `entry_of` makes it.
        rgb: (H, W, 3) uint8, the picture; left as it is.
        class_names: of labels 1..C; decide the colours.
        most: pixels; a larger one is drawn smaller.
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
    scale = min(scale, math.sqrt(most / (height * width)))
    labels = class_labels(tuple(class_names))
    return draw_boxes(rgb, boxes, colors=colors, labels=labels, scale=scale)


def draw_entry(entry: Entry, rgb: np.ndarray, class_names: Sequence[str], png: Path) -> None:
    """Write the picture with its detections drawn into it.

    Args:
        entry, rgb, class_names: as in `drawn`.
        png: the file to write.

    Raises:
        UserError: it cannot be written.
    """
    picture = drawn(entry, rgb, class_names, _LARGEST_PICTURE)
    # One of many: not each is waited for.
    save_whole(png, lambda name: picture.save(name, format="PNG"), sync=False)
