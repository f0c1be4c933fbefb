# SPDX-License-Identifier: Apache-2.0
"""A sheet of training pictures as the network sees them: augmented, with their boxes."""

import os
from collections.abc import Iterator

from ..base.files import make_folder
from ..data.epoch_plan import canvas_numbers, repeats_in
from ..data.epoch_sampling import build_sampler
from ..data.file_classes import with_file_classes
from ..data.mindrecord import ensure_mindrecord
from ..data.record_set import MindRecordSet
from ..model_utils.config import Config
from .drawing import draw_contact_sheet
from .tiles import TRUTH_LINES, Augmenter, Tile

SHEET = "augmented.png"


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
        lines=TRUTH_LINES,
        columns=8 if count > 32 else 4,
    )
    return png


def _pictures(config: Config, records: MindRecordSet, count: int, epoch: int) -> Iterator[Tile]:
    """What the sheet shows of each picture, in the order of the epoch."""
    augmenter = Augmenter.from_config(config, epoch)
    canvases = canvas_numbers(augmenter.target.rule, records.sizes)
    order = build_sampler(config, records.records).order(int(config.seed), epoch)[:count]
    for index, repeat in zip(order.tolist(), repeats_in(order).tolist(), strict=True):
        yield augmenter.tile(records.records[index], index, int(canvases[index]), repeat)
