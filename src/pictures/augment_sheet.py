# SPDX-License-Identifier: Apache-2.0
"""A sheet of training pictures as the network sees them: augmented, with their boxes."""

import os
from collections.abc import Iterator

import numpy as np

from ..base.files import make_folder
from ..data.epoch_plan import canvas_numbers, epoch_order
from ..data.file_classes import with_file_classes
from ..data.mindrecord import ensure_mindrecord
from ..data.record_set import MindRecordSet
from ..data.train_sample import Augmentation, Draws, Place, augment
from ..images.augmentation import labelled
from ..images.ops import InputFormat
from ..model_utils.config import Config
from .drawing import Boxes, draw_contact_sheet, read_picture
from .fonts import printable

SHEET = "augmented.png"
_PADDING = 96  # grey, of the canvas around a picture
_LINES = (("solid", "box and class"), ("dashed", "crowd region"))


def draw_augment_sheet(config: Config, count: int, epoch: int) -> str:
    """Draw the first pictures of an epoch on their canvases; return the file's path.

    Args:
        config: of a training; the sheet goes into its output_dir.
        count: number of pictures; of fewer all.
        epoch: number of the epoch.

    Raises:
        UserError: the data cannot be used, or a picture cannot be read.
    """
    config, _ = with_file_classes(config)
    records = ensure_mindrecord(config, "train", 0, 1)
    make_folder(config.output_dir, "output_dir")
    png = os.path.join(config.output_dir, SHEET)
    draw_contact_sheet(
        _pictures(config, records, count, epoch),
        png,
        class_names=config.class_names,
        title=f"Augmented training pictures of epoch {epoch}, seed {config.seed}",
        lines=_LINES,
        columns=8 if count > 32 else 4,
    )
    return png


def _pictures(
    config: Config, records: MindRecordSet, count: int, epoch: int
) -> Iterator[tuple[np.ndarray, Boxes, Boxes, str]]:
    """What the sheet shows of each picture, in the order of the epoch."""
    target = InputFormat.from_config(config)
    settings = Augmentation.from_config(config, epoch)
    canvases = canvas_numbers(target.rule, records.sizes)
    for index in epoch_order(records.num_images, int(config.seed), epoch)[:count].tolist():
        record, canvas = records.records[index], int(canvases[index])
        rgb = read_picture(record.image_path, int(config.max_image_pixels))
        picture = labelled(rgb, record.boxes, record.labels, record.crowd, settings.box_convention)
        place = Place(settings, Draws(settings, index), target, canvas)
        picture = augment(picture, place)
        shown = np.full((*target.rule.canvases[canvas], 3), _PADDING, np.uint8)
        height, width = picture.size
        shown[:height, :width] = picture.rgb
        names = [config.class_names[label - 1] for label in picture.labels]
        crowd, boxes = picture.crowd, picture.boxes
        objects = [name for name, flag in zip(names, crowd, strict=True) if not flag]
        text = f"{printable(record.file_name)}: {len(names)} of {len(record.labels)} boxes"
        yield shown, Boxes(boxes[~crowd], objects), Boxes(boxes[crowd]), text
