# SPDX-License-Identifier: Apache-2.0
"""Record sets -> batches.

What a sample looks like depends on (seed, epoch, image) and how often the epoch has had the image
before alone, and the order of an epoch on (seed, epoch), the pictures' classes and their sizes:
worker threads, ranks and resuming in the middle change nothing.
"""

import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from mindspore import dataset as ds

from .base.errors import UserError
from .base.messages import counted
from .data.epoch_plan import EpochPlan, Part, canvas_numbers, plan_epoch, plan_evaluation
from .data.epoch_sampling import build_sampler
from .data.record_check import find_damage
from .data.record_set import MindRecordSet
from .data.train_sample import Augmentation, Sample, make_train_sample
from .images.geometry import ResizeRule
from .images.ops import InputFormat
from .images.reading import decode_image
from .images.views import views_of
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
_SOURCE = ["image", "boxes", "labels", "crowd", "image_index"]  # columns of a record
# Batches that wait in each stage of the pipeline. MindSpore's 16 would hold 16 x 24 MB at 1280x768.
_PREFETCH = 4


def images_per_step(config: Config, world_size: int = 1) -> int:
    """Return the images of a step: those of all its batches, on all ranks.

    Args:
        config: uses batch_size and accumulate_steps.
        world_size: processes of the run.
    """
    return int(config.batch_size) * int(config.accumulate_steps) * world_size


def steps_per_epoch(config: Config, mindrecord_set: MindRecordSet, world_size: int = 1) -> int:
    """Return the steps in one epoch, each of `images_per_step` images.

    Args:
        config: uses batch_size, accumulate_steps, steps_per_epoch_limit, the most (0: all), and the
            keys of `build_sampler`.
        mindrecord_set: of the training split.
        world_size: processes of the run.

    Raises:
        UserError: fewer images than one step takes.
    """
    length = build_sampler(config, mindrecord_set.records).length
    steps = length // images_per_step(config, world_size)
    if steps == 0:
        several = int(config.accumulate_steps) > 1
        batches = f"{config.accumulate_steps} batches" if several else "one batch"
        raise UserError(
            f"{mindrecord_set.anno_path} has {mindrecord_set.num_images} usable training "
            f"images, fewer than {batches} of {config.batch_size} on "
            f"{counted(world_size, 'device')}; "
            f"lower batch_size{' or accumulate_steps' if several else ''}"
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
    parts: Sequence[Part] = (),
) -> ds.Dataset:
    """Batches of one epoch, shuffled by (seed, epoch), those of a step on one canvas.

    The batches of all ranks at one step, `accumulate_steps` of each, are together the batch that a
    single process with so many times the batch size gets at that step.

    Args:
        config: uses batch_size, accumulate_steps, steps_per_epoch_limit, seed and the keys of
            `build_sampler`, `InputFormat` and `Augmentation`.
        mindrecord_set: of the training split.
        epoch: number of the epoch; another one shuffles and augments differently.
        rank, world_size: this process among those of the run.
        skip_steps: leave out the batches of the first steps (to resume inside an epoch).
        parts: of the epoch so far, with other numbers of processes; see `plan_epoch`.

    Returns:
        A MindSpore dataset with TRAIN_COLUMNS, B = batch_size, G = num_gts, H and W of the batch's
        canvas: image (B, 3, H, W) float32; image_meta (B, 4) float32 (valid height and width in
        network pixels, vertical and horizontal scale in network pixels per image pixel); gt_boxes
        (B, G, 4) float32, xyxy in network pixels, 0 where padded; gt_labels (B, G) int32, 0 where
        padded;
        gt_valid (B, G) bool, real boxes that are no crowd regions; gt_crowd (B, G) bool;
        sampling_key (B,) int32, random; image_index (B,) int32, position in
        mindrecord_set.image_ids.

    Raises:
        UserError: too few images, or records that were replaced meanwhile.
    """
    steps = steps_per_epoch(config, mindrecord_set, world_size)
    global_batch = images_per_step(config, world_size)
    plan = _epoch_plan(config, mindrecord_set, epoch, global_batch, parts)
    plan = plan.between(skip_steps, steps)
    if not plan.images.size:
        raise UserError(f"no batch is left of epoch {epoch} after skipping {skip_steps} of {steps}")
    prepare = _train_preparation(config, mindrecord_set, epoch)
    own = slice(rank, None, world_size)
    rows = _open_rows(config, mindrecord_set, _SOURCE, plan.images[:, own].reshape(-1))
    canvases = np.broadcast_to(plan.canvases[:, None], plan.images.shape)
    places = np.stack((canvases, plan.repeats), -1)[:, own].reshape(-1, 2)
    rows = _numbered(rows, "place", places)
    return _batches(
        config, rows, prepare, [*_SOURCE, "place"], TRAIN_COLUMNS, int(config.batch_size)
    )


def _train_preparation(
    config: Config, mindrecord_set: MindRecordSet, epoch: int
) -> Callable[..., Sample]:
    """What makes samples of the records' columns `_SOURCE` and their places: (2,) int64, number of
    the canvas and how often the epoch has had the image before."""
    target = InputFormat.from_config(config)
    augmentation = Augmentation.from_config(config, epoch)
    max_pixels = int(config.max_image_pixels)

    def prepare(
        image: np.ndarray,
        boxes: np.ndarray,
        labels: np.ndarray,
        crowd: np.ndarray,
        image_index: np.ndarray,
        place: np.ndarray,
    ) -> Sample:
        index = int(image_index.item())
        canvas, repeat = place.tolist()
        rgb = _decode(mindrecord_set, max_pixels, index, image, boxes, labels, crowd)
        sample = make_train_sample(
            rgb, boxes, labels, crowd, index, target, augmentation, canvas=canvas, repeat=repeat
        )
        return (*sample, np.int32(index))

    return prepare


def _epoch_plan(
    config: Config,
    mindrecord_set: MindRecordSet,
    epoch: int,
    global_batch: int,
    parts: Sequence[Part],
) -> EpochPlan:
    order = build_sampler(config, mindrecord_set.records).order(int(config.seed), epoch)
    canvases = canvas_numbers(ResizeRule.from_config(config), mindrecord_set.sizes)
    return plan_epoch(order, canvases, global_batch, parts)


def evaluation_rows(
    config: Config, mindrecord_set: MindRecordSet, *, rank: int = 0, world_size: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return which images a rank evaluates, in the order of its batches.

    Args:
        config: uses test_batch_size, max_val_images and the keys of `ResizeRule`.
        mindrecord_set: of the validation split.
        rank, world_size: this process among those of the run.

    Returns:
        (P,) int64 positions in the record set, P a multiple of test_batch_size and of the same
        number on every rank; and (P,) int32 the same, -1 for places that are filled up.
    """
    canvases = canvas_numbers(ResizeRule.from_config(config), mindrecord_set.sizes)
    if config.max_val_images:
        canvases = canvases[: int(config.max_val_images)]
    rows, numbers = plan_evaluation(canvases, int(config.test_batch_size) * world_size)
    return rows[rank::world_size], numbers[rank::world_size]


def create_eval_dataset(
    config: Config, mindrecord_set: MindRecordSet, *, rank: int = 0, world_size: int = 1
) -> ds.Dataset:
    """Batches that hold every image exactly once, canvas by canvas, in record order.

    All ranks get the same number of batches, and at each step batches of the same canvas. Places
    that are left over repeat an image and have image_index -1. With max_val_images, only the first
    so many images.

    Args:
        config: uses test_batch_size, max_val_images and the keys of `views_of`.
        mindrecord_set: of the validation split.
        rank, world_size: this process among those of the run; it gets the images rank, rank +
            world_size, ... of each canvas.

    Returns:
        A MindSpore dataset with EVAL_COLUMNS, B = test_batch_size, H and W of the batch's canvas:
        image (B, 3, H, W) float32, image_meta (B, 4) float32, image_index (B,) int32. With several
        views (see `views_of`), image and image_meta of each one before image_index.
    """
    images, numbers = evaluation_rows(config, mindrecord_set, rank=rank, world_size=world_size)
    views = views_of(config)
    canvas_of = canvas_numbers(ResizeRule.from_config(config), mindrecord_set.sizes)
    max_pixels = int(config.max_image_pixels)

    def prepare(image: np.ndarray, image_index: np.ndarray, number: np.ndarray) -> Sample:
        index = int(image_index.item())
        rgb = _decode(mindrecord_set, max_pixels, index, image)
        prepared = (view.prepare(rgb, int(canvas_of[index])) for view in views)
        return (*itertools.chain(*prepared), np.int32(number.item()))

    rows = _open_rows(config, mindrecord_set, ["image", "image_index"], images)
    # (N, 1): MindSpore 2.10 cannot hand over scalars with numpy 2
    rows = _numbered(rows, "number", numbers[:, None])
    source = ["image", "image_index", "number"]
    image, meta, index = EVAL_COLUMNS
    more = [f"{name}_{view}" for view in range(1, len(views)) for name in (image, meta)]
    columns = [image, meta, *more, index]
    return _batches(config, rows, prepare, source, columns, int(config.test_batch_size))


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


def _numbered(rows: ds.Dataset, name: str, numbers: np.ndarray) -> ds.Dataset:
    """The rows, each with its row (K,) of `numbers` as a column more."""
    return ds.zip((rows, ds.NumpySlicesDataset({name: numbers}, shuffle=False)))


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
