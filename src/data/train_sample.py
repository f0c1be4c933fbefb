# SPDX-License-Identifier: Apache-2.0
"""One training image -> one sample: augmented, on its canvas, with its padded ground truth.

What a sample looks like depends on (seed, epoch, image) and its canvas alone.
"""

import math
from dataclasses import dataclass

import numpy as np

from ..images.ops import (
    InputFormat,
    clip_boxes,
    distort_colours,
    expand_image,
    flip_boxes,
    normalize_and_pad,
    resize_image,
    scale_boxes,
)
from ..images.reading import DEFAULT_MAX_PIXELS
from ..model_utils.config import Config

_SAMPLE_STREAM = 2  # of random numbers: keeps them apart from those of the order

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
    """

    flip_ratio: float
    expand_ratio: float
    photometric: bool
    box_convention: str
    max_boxes: int
    seed: int
    epoch: int
    max_pixels: int = DEFAULT_MAX_PIXELS

    @classmethod
    def from_config(cls, config: Config, epoch: int) -> "Augmentation":
        """Take the settings from the configuration.

        Args:
            config: uses flip_ratio, expand_ratio, photometric, box_convention, num_gts, seed and
                max_image_pixels.
            epoch: number of the epoch.
        """
        return cls(
            flip_ratio=float(config.flip_ratio),
            expand_ratio=float(config.expand_ratio),
            photometric=bool(config.photometric),
            box_convention=config.box_convention,
            max_boxes=int(config.num_gts),
            seed=int(config.seed),
            epoch=int(epoch),
            max_pixels=int(config.max_image_pixels),
        )


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
        canvas: number of the canvas; None: the one that the rule chooses.

    Returns:
        image, image_meta, gt_boxes, gt_labels, gt_valid, gt_crowd, sampling_key as in
        `src.dataset.create_train_dataset` without the batch axis.
    """
    stream = [_SAMPLE_STREAM, augmentation.seed, augmentation.epoch, image_index]
    rng = np.random.default_rng(stream)
    # All decisions are drawn first, so that switching one augmentation on leaves the others as they
    # are. A new one takes its numbers last, or old seeds give other pictures.
    sampling_key = np.int32(rng.integers(-(2**31), 2**31))
    flip = rng.random() < augmentation.flip_ratio
    expand, growth, across, down = rng.random(4)
    if augmentation.photometric:
        rgb = distort_colours(rgb, rng)
    if augmentation.expand_ratio > 1.0 and expand < 0.5:
        ratio = 1.0 + growth * (augmentation.expand_ratio - 1.0)
        rgb, boxes = _expanded(rgb, boxes, ratio, down, across, target, augmentation.max_pixels)
    if canvas is None:
        canvas = target.rule.canvas_of(*rgb.shape[:2])
    size = target.rule.size_on(canvas, *rgb.shape[:2])
    rgb, meta = resize_image(rgb, size, target.rule.like)
    height, width = rgb.shape[:2]
    convention = augmentation.box_convention
    boxes, keep = clip_boxes(scale_boxes(boxes, meta[2], meta[3]), height, width, convention)
    if flip:
        rgb = rgb[:, ::-1]
        boxes = flip_boxes(boxes, width, convention)
    keep &= labels > 0
    padded = _pad_ground_truth(
        boxes[keep], labels[keep], crowd[keep].astype(bool), augmentation.max_boxes
    )
    return (
        normalize_and_pad(rgb, target, target.rule.canvases[canvas]),
        meta,
        *padded,
        sampling_key,
    )


def _expanded(
    rgb: np.ndarray,
    boxes: np.ndarray,
    ratio: float,
    down: float,
    across: float,
    target: InputFormat,
    max_pixels: int,
) -> tuple[np.ndarray, np.ndarray]:
    """An image and its boxes on a larger canvas; `down` and `across` say where, 0 to 1."""
    height, width = rgb.shape[:2]
    ratio = max(1.0, min(ratio, math.sqrt(max_pixels / (height * width))))
    top = int(down * (int(height * ratio) - height))
    left = int(across * (int(width * ratio) - width))
    fill = target.mean if target.channel_order == "rgb" else target.mean[::-1]
    rgb = expand_image(rgb, ratio, top, left, fill)
    return rgb, boxes + np.array([left, top, left, top], np.float32)


def _pad_ground_truth(
    boxes: np.ndarray, labels: np.ndarray, crowd: np.ndarray, max_boxes: int
) -> tuple[np.ndarray, ...]:
    count = min(len(labels), max_boxes)
    gt_boxes = np.zeros((max_boxes, 4), np.float32)
    gt_labels = np.zeros(max_boxes, np.int32)
    gt_valid = np.zeros(max_boxes, bool)
    gt_crowd = np.zeros(max_boxes, bool)
    gt_boxes[:count] = boxes[:count]
    gt_labels[:count] = labels[:count]
    gt_valid[:count] = ~crowd[:count]
    gt_crowd[:count] = crowd[:count]
    return gt_boxes, gt_labels, gt_valid, gt_crowd
