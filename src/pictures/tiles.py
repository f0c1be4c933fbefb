# SPDX-License-Identifier: Apache-2.0
"""Pictures of a data set as sheets show them: with their true boxes, as they are or augmented."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..base.messages import counted
from ..data.records import ImageRecord
from ..data.train_sample import Augmentation, Draws, Place, augment
from ..images.augmentation import labelled
from ..images.ops import InputFormat
from ..model_utils.config import Config
from .drawing import Boxes, read_picture
from .fonts import printable

Tile = tuple[np.ndarray, Boxes, Boxes, str]  # pixels, objects, crowd regions, caption

TRUTH_LINES = (("solid", "box and class"), ("dashed", "crowd region"))
_PADDING = 96  # grey, of the canvas around a picture


def truth_tile(
    rgb: np.ndarray, record: ImageRecord, class_names: Sequence[str], text: str = ""
) -> Tile:
    """Return a picture with its true boxes in the colours of their classes.

    Args:
        rgb: (H, W, 3) uint8, the picture.
        record: its boxes, in its pixels.
        class_names: of the labels from 1 on.
        text: the caption; default: the file's name and the number of its boxes.
    """
    text = text or f"{printable(record.file_name)}: {counted(len(record.labels), 'box', 'boxes')}"
    return _tile(rgb, record.boxes, record.labels, record.crowd, class_names, text)


@dataclass(frozen=True)
class Augmenter:
    """What training makes of pictures in an epoch.

    Attributes:
        settings: the random changes, of the epoch.
        target: what the network's input looks like.
        class_names: of the labels from 1 on.
        max_pixels: larger pictures are refused.
    """

    settings: Augmentation
    target: InputFormat
    class_names: tuple[str, ...]
    max_pixels: int

    @classmethod
    def from_config(cls, config: Config, epoch: int) -> "Augmenter":
        """Take the settings from the configuration.

        Args:
            config: of a training.
            epoch: number of the epoch.
        """
        return cls(
            Augmentation.from_config(config, epoch),
            InputFormat.from_config(config),
            config.class_names,
            int(config.max_image_pixels),
        )

    def tile(
        self, record: ImageRecord, index: int, canvas: int | None = None, repeat: int = 0
    ) -> Tile:
        """Return a picture on its canvas, with the boxes that are left of its own.

        Args:
            record: of the picture.
            index: its position in the record set, which decides the random numbers.
            canvas: number of the canvas; None: the one that the rule chooses.
            repeat: how often the epoch has had it before.

        Raises:
            UserError: it cannot be read.
        """
        rgb = read_picture(record.image_path, self.max_pixels)
        settings, rule = self.settings, self.target.rule
        canvas = rule.canvas_of(*rgb.shape[:2]) if canvas is None else canvas
        picture = labelled(rgb, record.boxes, record.labels, record.crowd, settings.box_convention)
        draws = Draws(settings, index, repeat)
        picture = augment(picture, Place(settings, draws, self.target, canvas))
        shown = np.full((*rule.canvases[canvas], 3), _PADDING, np.uint8)
        height, width = picture.size
        shown[:height, :width] = picture.rgb
        text = f"{printable(record.file_name)}: {len(picture.labels)} of {len(record.labels)} boxes"
        return _tile(shown, picture.boxes, picture.labels, picture.crowd, self.class_names, text)


def _tile(
    rgb: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    crowd: np.ndarray,
    class_names: Sequence[str],
    text: str,
) -> Tile:
    names = [class_names[label - 1] for label in labels[~crowd]]
    return rgb, Boxes(boxes[~crowd], names), Boxes(boxes[crowd]), text
