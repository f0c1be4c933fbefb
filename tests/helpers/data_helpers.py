# SPDX-License-Identifier: Apache-2.0
"""Small data sets and configurations for the tests of the data pipeline."""

import json
import os
import types
from pathlib import Path

import cv2
import numpy as np

from src.images.geometry import ResizeRule
from src.images.ops import InputFormat

CLASSES = ("cat", "dog")
ANNO = "annotations/instances_train2017.json"


def make_config(root="", **changes) -> types.SimpleNamespace:
    """The keys that the data pipeline reads, for a COCO-layout folder `root`."""
    values = {
        "dataset": "coco",
        "coco_root": str(root),
        "instance_set": "annotations/instances_{}.json",
        "train_data_type": "train2017",
        "val_data_type": "val2017",
        "image_dir": "",
        "anno_path": "",
        "voc_difficult": "ignore",
        "voc_corners": "auto",
        "mindrecord_dir": "",
        "class_names": CLASSES,
        "skip_empty_images": True,
        "skip_bad_images": False,
        "max_image_pixels": 200_000_000,
        "num_gts": 8,
        "convert_timeout": 60.0,
        "num_parallel_workers": 2,
        "seed": 1,
        "batch_size": 2,
        "test_batch_size": 2,
        "max_val_images": 0,
        "steps_per_epoch_limit": 0,
        "accumulate_steps": 1,
        "train_sampler": "shuffle",
        "repeat_threshold": 0.001,
        "img_width": 96,
        "img_height": 64,
        "keep_ratio": True,
        "resize": "auto",
        "min_size": (800,),
        "max_size": 1333,
        "resize_like": "opencv",
        "canvases": (),
        "test_flip": False,
        "test_scales": (1.0,),
        "pixel_mean": [123.675, 116.28, 103.53],
        "pixel_std": [58.395, 57.12, 57.375],
        "channel_order": "rgb",
        "pad_before_normalize": False,
        "flip_ratio": 0.5,
        "expand_ratio": 1.0,
        "photometric": False,
        "vertical_flip_ratio": 0.0,
        "crop_ratio": 0.0,
        "crop_min_iou": (0.1, 0.3, 0.5, 0.7, 0.9),
        "scale_jitter": (1.0, 1.0),
        "min_visible": 0.1,
        "augmentations": ("photometric", "expand", "crop", "resize", "flip", "vertical_flip"),
        "box_convention": "modern",
    }
    unknown = set(changes) - set(values)
    assert not unknown, unknown
    return types.SimpleNamespace(**{**values, **changes})


def canvas_format(height, width):
    """The `InputFormat` of one canvas."""
    return InputFormat(ResizeRule("canvas", ((height, width),)))


def coco_dict(images=None, annotations=None, categories=None) -> dict:
    """A minimal COCO file: image 1 with one cat and one dog, unless told otherwise."""
    if images is None:
        images = [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 80}]
    if annotations is None:
        annotations = [
            {"id": 1, "image_id": 1, "category_id": 7, "bbox": [10, 20, 30, 40], "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 3, "bbox": [1.5, 2.25, 8.5, 9.0]},
        ]
    if categories is None:
        categories = [{"id": 3, "name": "dog"}, {"id": 7, "name": "cat"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_json(path, content) -> str:
    """Write JSON, folders included; the path as a string."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content))
    return str(path)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 smooth colours, so that JPEG changes them little."""
    corners = np.random.default_rng(seed).integers(30, 220, (3, 3, 3)).astype(np.float32)
    smooth = cv2.resize(corners, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth, 0, 255).astype(np.uint8)


def make_coco_root(
    root: Path, num_images: int = 7, split: str = "train2017", *, portraits: int = 0
) -> Path:
    """A COCO-layout folder: image i is (40 + 2i) x (60 + 3i), its id 10 i + 5.

    The first `portraits` images are as wide as the others are high.
    """
    (root / split).mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for i in range(num_images):
        height, width, image_id = 40 + 2 * i, 60 + 3 * i, 10 * i + 5
        if i < portraits:
            height, width = width, height
        name = f"img_{i}.v1.jpg"
        cv2.imwrite(str(root / split / name), picture(height, width, i))
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for k in range(1 + i % 3):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": (3, 7)[k % 2],
                    "bbox": [2.5 + k, 3.0 + i, 20.0 + k, 15.25],
                    "iscrowd": int(k == 2),
                }
            )
    write_json(
        root / "annotations" / f"instances_{split}.json", coco_dict(images, annotations, None)
    )
    return root


def edit_json(path, change) -> None:
    """Apply `change` to the content of a JSON file."""
    content = json.loads(Path(path).read_text())
    change(content)
    Path(path).write_text(json.dumps(content))


def rows_of(record_set, columns=("image", "image_index", "boxes", "labels", "crowd")):
    """All rows of a record set, in file order, as dictionaries."""
    from mindspore import dataset as ds

    rows = ds.MindDataset(list(record_set.files), columns_list=list(columns), shuffle=False)
    return list(rows.create_dict_iterator(num_epochs=1, output_numpy=True))


def leftovers(folder) -> set[str]:
    """What a record folder's parent holds besides complete sets and locks."""
    return {n for n in os.listdir(folder) if n.startswith(".") and not n.endswith(".lock")}


def change_annotation(root):
    """Take one box, a crowd region, out of the training annotations."""
    edit_json(root / ANNO, lambda content: content["annotations"].pop(-2))
