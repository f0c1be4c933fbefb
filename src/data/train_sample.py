# SPDX-License-Identifier: Apache-2.0
"""One training image -> one sample: augmented, on its canvas, with its padded ground truth.

What a sample looks like depends on (seed, epoch, image), how often the epoch has had the image
before, and its canvas alone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..images.augmentation import LabelledPicture, crop_keeping_a_box, crop_to, labelled
from ..images.geometry import SHORT_EDGE
from ..images.ops import InputFormat, normalize_and_pad
from ..images.reading import DEFAULT_MAX_PIXELS
from ..model_utils.config import Config
from .records import largest_boxes

# Of random numbers: keep them apart from those of the order and of the sampling.
_SAMPLE_STREAM, _REPEAT_STREAM = 2, 4

Sample = tuple[np.ndarray | np.generic, ...]  # the columns of one image


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training image.

    Attributes:
        flip_ratio: probability of a horizontal flip.
        expand_ratio: largest factor of the mean-coloured canvas the image is put on; 1.0 = off.
            When on, it is used for half of the images, with a factor between 1 and this.
        photometric: random brightness, contrast, saturation and hue.
        box_convention: "legacy" or "modern".
        max_boxes: rows of the padded ground truth (G).
        seed: of the run.
        epoch: number of the epoch.
        max_pixels: the expanded canvas of a large image is made no larger than this.
        vertical_flip_ratio: probability of a vertical flip.
        crop_ratio: probability of a crop that keeps a box.
        crop_min_iou: least overlaps of window and box, of which each crop draws one.
        scale_jitter: range of the factor on the size that an image has on its canvas; what is
            larger than the canvas then is cropped.
        min_visible: boxes of which less is left in the image are dropped.
        steps: names of `STEPS`, in the order in which they are done.
    """

    flip_ratio: float
    expand_ratio: float
    photometric: bool
    box_convention: str
    max_boxes: int
    seed: int
    epoch: int
    max_pixels: int = DEFAULT_MAX_PIXELS
    vertical_flip_ratio: float = 0.0
    crop_ratio: float = 0.0
    crop_min_iou: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    scale_jitter: tuple[float, float] = (1.0, 1.0)
    min_visible: float = 0.1
    steps: tuple[str, ...] = field(default_factory=lambda: tuple(STEPS))

    @classmethod
    def from_config(cls, config: Config, epoch: int) -> "Augmentation":
        """Take the settings from the configuration.

        Args:
            config: uses augmentations and the keys that they read, box_convention, num_gts, seed
                and max_image_pixels.
            epoch: number of the epoch.
        """
        low, high = config.scale_jitter
        return cls(
            flip_ratio=float(config.flip_ratio),
            expand_ratio=float(config.expand_ratio),
            photometric=bool(config.photometric),
            box_convention=config.box_convention,
            max_boxes=int(config.num_gts),
            seed=int(config.seed),
            epoch=int(epoch),
            max_pixels=int(config.max_image_pixels),
            vertical_flip_ratio=float(config.vertical_flip_ratio),
            crop_ratio=float(config.crop_ratio),
            crop_min_iou=tuple(float(iou) for iou in config.crop_min_iou),
            scale_jitter=(float(low), float(high)),
            min_visible=float(config.min_visible),
            steps=tuple(config.augmentations),
        )


class Draws:
    """The random numbers of one image in one epoch.

    The first ones of all are drawn from one stream, in a fixed order: `key`, `flip`, `expand`, and
    `colours` goes on from there. Every step that came later has a stream of its own (`of`), so that
    no step's numbers depend on which others are done.

    Args:
        augmentation: its seed and its epoch begin the streams.
        image_index: position in the record set.
        repeat: how often the epoch has had the image before; each time has numbers of its own.
    """

    def __init__(self, augmentation: Augmentation, image_index: int, repeat: int = 0) -> None:
        image = [augmentation.seed, augmentation.epoch, image_index]
        self._stream = [_REPEAT_STREAM, *image, repeat] if repeat else [_SAMPLE_STREAM, *image]
        self.colours = np.random.default_rng(self._stream)
        self.key = np.int32(self.colours.integers(-(2**31), 2**31))
        self.flip = float(self.colours.random())
        self.expand = self.colours.random(4)

    def of(self, number: int) -> np.random.Generator:
        """Return the stream of a step.

        Args:
            number: of the step, from 1; never given to another one.
        """
        return np.random.default_rng([*self._stream, number])


@dataclass(frozen=True)
class Place:
    """What the steps work towards.

    Attributes:
        augmentation: the settings.
        draws: the random numbers.
        target: what the network's input looks like.
        canvas: its number.
    """

    augmentation: Augmentation
    draws: Draws
    target: InputFormat
    canvas: int


Step = Callable[[LabelledPicture, Place], LabelledPicture]


def _photometric(picture: LabelledPicture, place: Place) -> LabelledPicture:
    if not place.augmentation.photometric:
        return picture
    return picture.coloured(place.draws.colours)


def _expand(picture: LabelledPicture, place: Place) -> LabelledPicture:
    use, growth, across, down = place.draws.expand
    if place.augmentation.expand_ratio <= 1.0 or use >= 0.5:
        return picture
    height, width = picture.size
    largest = math.sqrt(place.augmentation.max_pixels / (height * width))
    ratio = 1.0 + growth * (place.augmentation.expand_ratio - 1.0)
    ratio = max(1.0, min(ratio, largest))
    top = int(down * (int(height * ratio) - height))
    left = int(across * (int(width * ratio) - width))
    target = place.target
    fill = target.mean if target.channel_order == "rgb" else target.mean[::-1]
    return picture.expanded(ratio, top, left, fill)


def _crop(picture: LabelledPicture, place: Place) -> LabelledPicture:
    settings, rng = place.augmentation, place.draws.of(1)
    if rng.random() >= settings.crop_ratio:
        return picture
    return crop_keeping_a_box(picture, settings.crop_min_iou, settings.min_visible, rng)


def _resize(picture: LabelledPicture, place: Place) -> LabelledPicture:
    """Onto the canvas: one of the sizes of training, times the jitter; what is over is cut off."""
    rule, rng = place.target.rule, place.draws.of(2)
    sizes = rule.min_sizes if rule.kind == SHORT_EDGE else rule.min_sizes[-1:]
    size = rule.size_on(place.canvas, *picture.size, sizes[rng.integers(len(sizes))])
    factor = rng.uniform(*place.augmentation.scale_jitter)
    height, width = (max(int(side * factor + 0.5), 1) for side in size)
    resized = picture.resized((height, width), rule.like)
    return crop_to(resized, rule.canvases[place.canvas], rng)


def _flip(picture: LabelledPicture, place: Place) -> LabelledPicture:
    return picture.flipped() if place.draws.flip < place.augmentation.flip_ratio else picture


def _vertical_flip(picture: LabelledPicture, place: Place) -> LabelledPicture:
    use = place.draws.of(3).random() < place.augmentation.vertical_flip_ratio
    return picture.flipped_vertically() if use else picture


# What `augmentations` can name, in the order in which they are done by default.
STEPS: dict[str, Step] = {
    "photometric": _photometric,
    "expand": _expand,
    "crop": _crop,
    "resize": _resize,
    "flip": _flip,
    "vertical_flip": _vertical_flip,
}


def augment(picture: LabelledPicture, place: Place) -> LabelledPicture:
    """Do all steps, and leave out the boxes that are none any more.

    Args:
        picture: as its file has it.
        place: what the steps work towards.

    Returns:
        A picture no larger than its canvas.
    """
    for name in place.augmentation.steps:
        picture = STEPS[name](picture, place)
    return picture.kept(place.augmentation.min_visible)


def make_train_sample(
    rgb: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    crowd: np.ndarray,
    image_index: int,
    target: InputFormat,
    augmentation: Augmentation,
    *,
    canvas: int | None = None,
    repeat: int = 0,
) -> Sample:
    """Augment one image and bring it into the network's form.

    Args:
        rgb: (H, W, 3) uint8.
        boxes: (N, 4) float32 xyxy in image pixels.
        labels: (N,) int32; 0 marks the dummy box of an image without any.
        crowd: (N,) int32 or bool.
        image_index: position in the record set.
        target: what the network's input looks like.
        augmentation: the random changes, and where their random numbers begin.
        canvas: number of the canvas; None: the one that the rule chooses for the image.
        repeat: how often the epoch has had the image before.

    Returns:
        image, image_meta, gt_boxes, gt_labels, gt_valid, gt_crowd, sampling_key as in
        `src.dataset.create_train_dataset` without the batch axis.
    """
    if canvas is None:
        canvas = target.rule.canvas_of(*rgb.shape[:2])
    place = Place(augmentation, Draws(augmentation, image_index, repeat), target, canvas)
    picture = labelled(rgb, boxes, labels, crowd, augmentation.box_convention)
    picture = augment(picture, place)
    padded = _pad_ground_truth(picture.boxes, picture.labels, picture.crowd, augmentation.max_boxes)
    image = normalize_and_pad(picture.rgb, target, target.rule.canvases[canvas])
    meta = np.array([*picture.size, *picture.scale], np.float32)
    return (image, meta, *padded, place.draws.key)


def _pad_ground_truth(
    boxes: np.ndarray, labels: np.ndarray, crowd: np.ndarray, max_boxes: int
) -> tuple[np.ndarray, ...]:
    if len(labels) > max_boxes:  # a validation picture: all of its boxes are in its record
        chosen = largest_boxes(boxes, crowd, max_boxes)
        boxes, labels, crowd = boxes[chosen], labels[chosen], crowd[chosen]
    count = len(labels)
    gt_boxes = np.zeros((max_boxes, 4), np.float32)
    gt_labels = np.zeros(max_boxes, np.int32)
    gt_valid = np.zeros(max_boxes, bool)
    gt_crowd = np.zeros(max_boxes, bool)
    gt_boxes[:count] = boxes
    gt_labels[:count] = labels
    gt_valid[:count] = ~crowd
    gt_crowd[:count] = crowd
    return gt_boxes, gt_labels, gt_valid, gt_crowd
