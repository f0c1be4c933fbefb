# SPDX-License-Identifier: Apache-2.0
"""Ground truth, and detections as a middling detector makes them: with errors of every kind."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

WIDTH, HEIGHT = 640, 480


def drawn_truth(
    names: Sequence[str], *, images: int, boxes: int = 12, crowds: int = 0, seed: int = 0
) -> dict[str, Any]:
    """Return COCO annotations of drawn boxes.

    Args:
        names: the classes; their category ids are 11, 22, ...
        images: how many, with ids from 100.
        boxes: most in an image; some have none.
        crowds: images whose first box is one.
        seed: of what is drawn.
    """
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    for image in range(images):
        for place in range(rng.integers(0, boxes + 1)):
            width, height = rng.uniform(15, 160, 2)
            x, y = rng.uniform(0, WIDTH - width), rng.uniform(0, HEIGHT - height)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 100 + image,
                    "category_id": 11 * int(rng.integers(1, len(names) + 1)),
                    "bbox": [float(x), float(y), float(width), float(height)],
                    "area": float(width * height),
                    "iscrowd": int(place == 0 and image < crowds),
                }
            )
    return {
        "images": [
            {"id": 100 + n, "file_name": f"{n:03d}.jpg", "width": WIDTH, "height": HEIGHT}
            for n in range(images)
        ],
        "annotations": annotations,
        "categories": [{"id": 11 * n, "name": name} for n, name in enumerate(names, start=1)],
    }


def jittered_results(data: Mapping[str, Any], *, seed: int = 0) -> list[dict[str, Any]]:
    """Return COCO results: true boxes moved, of another class, twice, or not at all; and others.

    Args:
        data: COCO annotations.
        seed: of what is drawn.
    """
    rng = np.random.default_rng(seed)
    categories = [category["id"] for category in data["categories"]]
    results: list[dict[str, Any]] = []

    def put(image_id: Any, category_id: Any, bbox: np.ndarray, score: float) -> None:
        results.append(
            {
                "image_id": image_id,
                "category_id": category_id,
                "bbox": bbox.round(4).tolist(),
                "score": float(np.float32(0.05 + 0.95 * score)),
            }
        )

    def moved(box: np.ndarray, by: float) -> np.ndarray:
        step = rng.normal(0, by, 4)
        return np.concatenate([box[:2] + step[:2] * box[2:], box[2:] * np.exp(step[2:])])

    for annotation in data["annotations"]:
        image_id, own = annotation["image_id"], annotation["category_id"]
        box = np.array(annotation["bbox"], np.float64)
        luck = rng.uniform()
        if luck < 0.8:
            put(image_id, own, moved(box, 0.06), rng.beta(6, 2))
        elif luck < 0.86:
            put(
                image_id,
                categories[rng.integers(len(categories))],
                moved(box, 0.06),
                rng.beta(3, 3),
            )
        elif luck < 0.92:
            put(image_id, own, moved(box, 0.3), rng.beta(3, 3))
        if rng.uniform() < 0.1:
            put(image_id, own, moved(box, 0.08), rng.beta(2, 4))
        if rng.uniform() < 0.06:
            put(
                image_id,
                categories[rng.integers(len(categories))],
                moved(box, 0.35),
                rng.beta(2, 4),
            )
    for image in data["images"]:
        for _ in range(rng.poisson(1.0)):
            box = np.concatenate([rng.uniform(0, 400, 2), rng.uniform(20, 150, 2)])
            put(image["id"], categories[rng.integers(len(categories))], box, rng.beta(1.5, 5))
    return results
