# SPDX-License-Identifier: Apache-2.0
"""Record sets -> batches.

What a sample looks like depends on (seed, epoch, image) alone, and the order of an epoch on (seed,
epoch)
alone: worker threads, ranks and resuming in the middle change nothing.
"""

import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from mindspore import dataset as ds

from .base.errors import UserError
from .data.record_check import find_damage
from .data.record_set import MindRecordSet
from .images.ops import (
    InputFormat,
    clip_boxes,
    distort_colours,
    expand_image,
    flip_boxes,
    normalize_and_pad,
    preprocess_image,
    resize_image,
    scale_boxes,
)
from .images.reading import DEFAULT_MAX_PIXELS, decode_image
from .model_utils.config import Config

TRAIN_COLUMNS = (
    "image",
    "image_meta",
    "gt_boxes",
    "gt_labels",
    "gt_valid",
    "gt_crowd",
    "sampling_key",
    "image_index",
)
EVAL_COLUMNS = ("image", "image_meta", "image_index")
# Streams of random numbers; the number keeps them apart for equal (seed, epoch).
_ORDER_STREAM, _SAMPLE_STREAM = 1, 2
# Batches that wait in each stage of the pipeline. MindSpore's 16 would hold 16 x 24 MB at 1280x768.
_PREFETCH = 4

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


def steps_per_epoch(config: Config, mindrecord_set: MindRecordSet, world_size: int = 1) -> int:
    """Return the batches a rank in one epoch: whole global batches only.

    Args:
        config: uses batch_size and steps_per_epoch_limit, the most batches (0: all).
        mindrecord_set: of the training split.
        world_size: processes of the run.

    Raises:
        UserError: fewer images than one global batch.
    """
    global_batch = int(config.batch_size) * world_size
    steps = mindrecord_set.num_images // global_batch
    if steps == 0:
        raise UserError(
            f"{mindrecord_set.anno_path} has {mindrecord_set.num_images} usable training "
            f"images, fewer than one batch of {config.batch_size} on {world_size} device(s); "
            "lower batch_size"
        )
    limit = int(config.steps_per_epoch_limit)
    return min(steps, limit) if limit else steps


def create_train_dataset(
    config: Config,
    mindrecord_set: MindRecordSet,
    *,
    epoch: int,
    rank: int = 0,
    world_size: int = 1,
    skip_steps: int = 0,
) -> ds.Dataset:
    """Batches of one epoch, shuffled by (seed, epoch).

    The batches of all ranks at one step together are the batch that a single process with
    `world_size` times the batch size gets at that step.

    Args:
        config: uses batch_size, seed and the keys of `InputFormat` and `Augmentation`.
        mindrecord_set: of the training split.
        epoch: number of the epoch; another one shuffles and augments differently.
        rank, world_size: this process among those of the run.
        skip_steps: leave out the first batches (to resume inside an epoch).

    Returns:
        A MindSpore dataset with TRAIN_COLUMNS, B = batch_size, G = num_gts:
        image (B, 3, H, W) float32; image_meta (B, 4) float32 (valid height and width in network
        pixels, vertical and horizontal scale in network pixels per image pixel); gt_boxes (B, G, 4)
        float32, xyxy in network pixels, 0 where padded; gt_labels (B, G) int32, 0 where padded;
        gt_valid (B, G) bool, real boxes that are no crowd regions; gt_crowd (B, G) bool;
        sampling_key (B,) int32, random; image_index (B,) int32, position in
        mindrecord_set.image_ids.

    Raises:
        UserError: too few images, or records that were replaced meanwhile.
    """
    steps = steps_per_epoch(config, mindrecord_set, world_size)
    batch_size = int(config.batch_size)
    global_batch = batch_size * world_size
    order = epoch_order(mindrecord_set.num_images, int(config.seed), epoch)
    order = order[skip_steps * global_batch : steps * global_batch][rank::world_size]
    if not order.size:
        raise UserError(f"no batch is left of epoch {epoch} after skipping {skip_steps} of {steps}")
    target = InputFormat.from_config(config)
    augmentation = Augmentation.from_config(config, epoch)
    max_pixels = int(config.max_image_pixels)

    def prepare(
        image: np.ndarray,
        boxes: np.ndarray,
        labels: np.ndarray,
        crowd: np.ndarray,
        image_index: np.ndarray,
    ) -> Sample:
        index = int(image_index.item())
        rgb = _decode(mindrecord_set, max_pixels, index, image, boxes, labels, crowd)
        sample = make_train_sample(rgb, boxes, labels, crowd, index, target, augmentation)
        return (*sample, np.int32(index))

    source = ["image", "boxes", "labels", "crowd", "image_index"]
    rows = _open_rows(config, mindrecord_set, source, order)
    return _batches(config, rows, prepare, source, TRAIN_COLUMNS, batch_size)


def create_eval_dataset(
    config: Config, mindrecord_set: MindRecordSet, *, rank: int = 0, world_size: int = 1
) -> ds.Dataset:
    """Batches that hold every image exactly once, in record order.

    All ranks get the same number of batches. Places that are left over repeat an image and have
    image_index -1. With max_val_images, only the first so many images.

    Args:
        config: uses test_batch_size, max_val_images and the keys of `InputFormat`.
        mindrecord_set: of the validation split.
        rank, world_size: this process among those of the run; it gets the images rank, rank +
            world_size, ...

    Returns:
        A MindSpore dataset with EVAL_COLUMNS, B = test_batch_size: image (B, 3, H, W) float32,
        image_meta (B, 4) float32, image_index (B,) int32.
    """
    batch_size = int(config.test_batch_size)
    count = mindrecord_set.num_images
    if config.max_val_images:
        count = min(count, int(config.max_val_images))
    places = -(-count // (batch_size * world_size)) * batch_size * world_size
    positions = np.arange(places)[rank::world_size]
    numbers = np.where(positions < count, positions, -1).astype(np.int32)
    target = InputFormat.from_config(config)
    max_pixels = int(config.max_image_pixels)

    def prepare(image: np.ndarray, image_index: np.ndarray, number: np.ndarray) -> Sample:
        rgb = _decode(mindrecord_set, max_pixels, int(image_index.item()), image)
        return (*preprocess_image(rgb, target), np.int32(number.item()))

    rows = _open_rows(config, mindrecord_set, ["image", "image_index"], positions % count)
    # (N, 1): MindSpore 2.10 cannot hand over scalars with numpy 2
    numbered = ds.NumpySlicesDataset({"number": numbers[:, None]}, shuffle=False)
    rows = ds.zip((rows, numbered))
    source = ["image", "image_index", "number"]
    return _batches(config, rows, prepare, source, EVAL_COLUMNS, batch_size)


def iterate(
    dataset: ds.Dataset, *, output_numpy: bool = False, records: MindRecordSet | None = None
) -> Iterator[tuple[Any, ...]]:
    """Go through a dataset once, as tuples in column order.

    MindSpore wraps what goes wrong in a worker into a page of text; here a UserError comes out as
    itself.

    Args:
        dataset: from `create_train_dataset` or `create_eval_dataset`.
        output_numpy: yield numpy arrays instead of tensors.
        records: what the dataset reads; looked through for damage when it cannot be read.
    """
    try:
        yield from dataset.create_tuple_iterator(num_epochs=1, output_numpy=output_numpy)
    except RuntimeError as error:
        messages = re.findall(r"UserError: (?!Traceback)(.+)", str(error))
        if messages:
            raise UserError(messages[-1]) from None
        if records is not None and (damage := find_damage(records)):
            raise records.damaged(damage) from None
        raise


def _decode(
    records: MindRecordSet, max_pixels: int, row: int, image: np.ndarray, *truth: np.ndarray
) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a record that is whole.

    Raises:
        UserError: it is not, or was converted from a picture that cannot be decoded.
    """
    damage = records.damage_of(row, image, *truth)
    if damage:
        raise records.damaged(damage)
    try:
        return decode_image(image.tobytes(), records.records[row].image_path, max_pixels)
    except UserError as error:
        raise UserError(f"{error}; its record is as it was converted") from None


def epoch_order(num_images: int, seed: int, epoch: int) -> np.ndarray:
    """Return the images of an epoch in the order of the global batches.

    Args:
        num_images: of the record set.
        seed: of the run.
        epoch: number of the epoch.

    Returns:
        (num_images,) int64, each position in the record set once.
    """
    return np.random.default_rng([_ORDER_STREAM, seed, epoch]).permutation(num_images)


def make_train_sample(
    rgb: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    crowd: np.ndarray,
    image_index: int,
    target: InputFormat,
    augmentation: Augmentation,
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

    Returns:
        image, image_meta, gt_boxes, gt_labels, gt_valid, gt_crowd, sampling_key as in
        `create_train_dataset` without the batch axis.
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
        height, width = rgb.shape[:2]
        largest = math.sqrt(augmentation.max_pixels / (height * width))
        ratio = 1.0 + growth * (augmentation.expand_ratio - 1.0)
        ratio = max(1.0, min(ratio, largest))
        top = int(down * (int(height * ratio) - height))
        left = int(across * (int(width * ratio) - width))
        fill = target.mean if target.channel_order == "rgb" else target.mean[::-1]
        rgb = expand_image(rgb, ratio, top, left, fill)
        boxes = boxes + np.array([left, top, left, top], np.float32)
    number = target.rule.canvas_of(*rgb.shape[:2])
    canvas = target.rule.canvases[number]
    size = target.rule.size_on(number, *rgb.shape[:2])
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
    return (normalize_and_pad(rgb, target, canvas), meta, *padded, sampling_key)


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


def _open_rows(
    config: Config, mindrecord_set: MindRecordSet, columns: list[str], order: np.ndarray
) -> ds.Dataset:
    """A MindDataset that gives the rows `order` of a record set, in that order."""
    mindrecord_set.check_unchanged()
    cv2.setNumThreads(0)  # the pipeline's own threads use the processors
    ds.config.set_prefetch_size(_PREFETCH)
    # A sampler takes at most as many positions as there are rows, which evaluation's filling may
    # exceed.
    parts = [
        ds.MindDataset(
            list(mindrecord_set.files),
            columns_list=columns,
            sampler=ds.SubsetSampler(order[start : start + mindrecord_set.num_images].tolist()),
            num_parallel_workers=min(2, _num_workers(config)),
        )
        for start in range(0, len(order), mindrecord_set.num_images)
    ]
    return parts[0] if len(parts) == 1 else ds.ConcatDataset(parts)


def _batches(
    config: Config,
    rows: ds.Dataset,
    prepare: Callable[..., Sample],
    source: list[str],
    columns: Sequence[str],
    batch_size: int,
) -> ds.Dataset:
    """Whole batches of what `prepare` makes of each row: its columns `source` become `columns`."""
    rows = rows.map(
        prepare,
        input_columns=source,
        output_columns=list(columns),
        num_parallel_workers=_num_workers(config),
    )
    return rows.project(list(columns)).batch(batch_size, drop_remainder=True)


def _num_workers(config: Config) -> int:
    return min(max(1, int(config.num_parallel_workers)), os.cpu_count() or 1)
