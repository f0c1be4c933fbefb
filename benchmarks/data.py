# SPDX-License-Identifier: Apache-2.0
"""The images of a measurement: the user's, or drawn ones."""

import os
from collections.abc import Sequence
from pathlib import Path

from src.base.errors import UserError
from src.model_utils.config import Config

WIDTH, HEIGHT = 640, 480  # of drawn pictures: the size of most in COCO
_SPLITS = ("train2017", "val2017")


def draw_set(folder: Path, *, train: int, val: int, seed: int) -> Path:
    """Draw a COCO-layout set of 640x480 JPEG files; return its folder."""
    from src.data.synthetic import SyntheticParameters, generate

    root = folder / "drawn"
    generate(
        root,
        SyntheticParameters(
            train=train, val=val, width=WIDTH, height=HEIGHT, max_size=240, max_shapes=10, seed=seed
        ),
    )
    return root


def with_data(config: Config, folder: Path, *, train: int = 1, val: int = 1) -> tuple[Config, str]:
    """Let a configuration read images, with its records below `folder`.

    Args:
        config: the user's data, if coco_root, image_dir or anno_path is set; otherwise a set of
            `train` and `val` images is drawn.

    Returns:
        The configuration, and what the images are.
    """
    records = str(folder / "records")
    if config.coco_root or config.image_dir or config.anno_path:
        return config.replace(mindrecord_dir=records), f"{config.coco_root or config.image_dir}"
    from src.data.synthetic import CLASS_NAMES

    root = draw_set(folder, train=train, val=val, seed=config.seed)
    changed = config.replace(
        dataset="coco",
        coco_root=str(root),
        coco_classes=list(CLASS_NAMES),
        mindrecord_dir=records,
        train_data_type=_SPLITS[0],
        val_data_type=_SPLITS[1],
    )
    return changed, f"drawn {WIDTH}x{HEIGHT} JPEG files"


def picture_files(given: Sequence[str], folder: Path, count: int, seed: int) -> tuple[list, str]:
    """Paths of up to `count` image files, and what they are.

    They are those of `given`; otherwise of the COCO sample that the tests use, in
    FASTERRCNN_TEST_DATA; otherwise drawn.
    """
    from src.images.listing import find_images

    base = os.environ.get("FASTERRCNN_TEST_DATA")
    sample = Path(base, "coco128") if base else None
    if given:
        paths, _ = find_images(given)
    elif sample and sample.is_dir():
        paths = sorted(path for split in _SPLITS for path in (sample / split).glob("*.jpg"))
        given = [str(sample)]
    else:
        paths = sorted((draw_set(folder, train=count, val=1, seed=seed) / _SPLITS[0]).glob("*"))
        given = [f"drawn {WIDTH}x{HEIGHT} JPEG files"]
    if not paths:
        raise UserError(f"--images: no image in {', '.join(given)}; give other files or folders")
    return [str(path.resolve()) for path in paths[:count]], ", ".join(given)
