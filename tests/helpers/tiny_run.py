# SPDX-License-Identifier: Apache-2.0
"""A small COCO-layout data set and a configuration to train and evaluate the tiny detector on it.

As a script it is train.py with the tiny detector in the place of the real one.
"""

import json
import os

os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
os.environ.setdefault("GLOG_v", "3")
import cv2
import numpy as np

from src.model_utils.config import load_config

CLASS_NAMES = ("cat", "dog", "fox")
NUM_TRAIN, NUM_VAL = 10, 5


def make_data(root, *, portraits=0):
    """Write ten training and five validation images with boxes under `root`; return it.

    Args:
        root: a folder, empty or not there.
        portraits: so many of each split's pictures are upright.
    """
    rng = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    for split, count, first in (("train", NUM_TRAIN, 100), ("val", NUM_VAL, 7)):
        (root / split).mkdir()
        images, annotations = [], []
        for i in range(count):
            height, width = (48, 40) if i < portraits else (40, 48)
            image = rng.integers(0, 255, (height, width, 3), np.uint8)
            cv2.imwrite(str(root / split / f"{i}.jpg"), image)
            images.append(
                {"id": first + 3 * i, "file_name": f"{i}.jpg", "width": width, "height": height}
            )
            for k in range(1 + i % 3):
                x, y = rng.uniform(0, 20, 2)
                w, h = rng.uniform(8, 18, 2)
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": first + 3 * i,
                        "category_id": 10 * (k + 1),
                        "bbox": [x, y, w, h],
                        "area": w * h,
                        "iscrowd": 0,
                    }
                )
        data = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 10 * (i + 1), "name": n} for i, n in enumerate(CLASS_NAMES)],
        }
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(data))
    return root


def arguments(root, output_dir, **changes):
    """Return command line arguments of a short run: 5 steps an epoch, 3 epochs."""
    values = dict(
        coco_root=root,
        output_dir=output_dir,
        train_data_type="train",
        val_data_type="val",
        coco_classes=",".join(CLASS_NAMES),
        mindrecord_dir=root / "mindrecord",
        img_width=64,
        img_height=64,
        num_gts=8,
        batch_size=2,
        test_batch_size=2,
        epoch_size=3,
        base_lr=0.4,
        warmup_step=3,
        log_interval=2,
        num_parallel_workers=2,
        device_target="CPU",
        seed=5,
        run_report=False,
        tensorboard="off",
    )
    values.update(changes)
    return [part for key, value in values.items() for part in (f"--{key}", str(value))]


def tiny_config(root, output_dir, **changes):
    """Return the configuration of `arguments`."""
    return load_config(arguments(root, output_dir, **changes))


def use_tiny_detector(setattr_=setattr):
    """Put the tiny detector in the place of the real one, for whole programs."""
    import src.detector
    from tests.helpers.tiny_training import build_tiny, build_tiny_loss

    setattr_(src.detector, "build_detector", build_tiny)
    setattr_(src.detector, "build_loss", build_tiny_loss)


def _main(argv):
    from src.model_utils.device_adapter import choose_device

    config = choose_device(load_config(argv))
    from tests.helpers.tiny_training import train_tiny

    return train_tiny(config)


if __name__ == "__main__":
    from src.base.errors import run_entry

    run_entry(_main)
