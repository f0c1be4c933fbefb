# SPDX-License-Identifier: Apache-2.0
"""Sheets of a split's pictures: their true boxes, and what augmentation makes of them.

Nothing is converted: annotations and pictures are read as they are.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..base.console import warn
from ..base.errors import UserError
from ..base.files import make_folder
from ..base.messages import short_list
from ..data.records import AnnotationReport, ImageRecord, fit_boxes
from ..data.source import DataSource, data_source
from ..model_utils.config import Config
from ..pictures.drawing import draw_contact_sheet, read_picture
from ..pictures.tiles import TRUTH_LINES, Augmenter, Tile, truth_tile

_PICTURES_A_SHEET = 24
_ROWS_A_SHEET = 8
_COLUMNS = 4


@dataclass(frozen=True)
class Choice:
    """Which pictures are shown.

    Attributes:
        split: `train` or `val`.
        pictures: how many, at most.
        start: number of the first one, from 1, the others follow it; 0: evenly spread.
        only: pictures with an object of one of these classes; none: all.
        draws: times that each training picture is augmented; 0: not at all.
    """

    split: str
    pictures: int
    start: int
    only: tuple[str, ...]
    draws: int


def draw_sheets(config: Config, choice: Choice, folder: str) -> list[str]:
    """Draw sheets; return their paths.

    Args:
        config: of a training on the data, with its classes.
        choice: of the pictures.
        folder: gets the sheets; made when missing.

    Raises:
        UserError: the data cannot be used, a class is unknown, or no picture is left to show.
    """
    source = data_source(config, choice.split)
    source = replace(source, annotations=source.annotations.tolerant())
    unknown = [name for name in choice.only if name not in config.class_names]
    if unknown:
        raise UserError(
            f"command line: --only {unknown[0]!r} is no class; there are "
            f"{short_list(list(config.class_names), 20)}"
        )
    records, report = source.read(max_boxes=0)
    if broken := report.broken:
        warn(f"note: left out of {source.anno_path}: {broken}; the command check lists them")
    chosen = _chosen(records, choice, config.class_names)
    if not chosen:
        raise UserError(f"{source.anno_path}: no picture from number {choice.start} on to show")
    make_folder(folder, "output_dir")
    shown = _Shown(config, source, records)
    paths = [
        shown.sheet(folder, "truth", number, part, shown.truth, _COLUMNS)
        for number, part in enumerate(_parts(chosen, _PICTURES_A_SHEET), start=1)
    ]
    if choice.draws and choice.split == "train":
        draw = shown.augmented(choice.draws)
        for number, part in enumerate(_parts(chosen, _ROWS_A_SHEET), start=1):
            paths.append(shown.sheet(folder, "augmented", number, part, draw, choice.draws + 1))
    return paths


def _chosen(
    records: Sequence[ImageRecord], choice: Choice, class_names: Sequence[str]
) -> list[int]:
    """Positions of the pictures to show."""
    wanted = [class_names.index(name) + 1 for name in choice.only]
    fitting = [i for i, r in enumerate(records) if not wanted or np.isin(wanted, r.labels).any()]
    if choice.start:
        return fitting[choice.start - 1 :][: choice.pictures]
    count = min(len(fitting), choice.pictures)
    return [fitting[i] for i in np.linspace(0, len(fitting) - 1, count).astype(int)]


def _parts(chosen: Sequence[int], most: int) -> Iterator[Sequence[int]]:
    return (chosen[i : i + most] for i in range(0, len(chosen), most))


class _Shown:
    """What the sheets show of a split."""

    def __init__(self, config: Config, source: DataSource, records: list[ImageRecord]) -> None:
        self._config, self._source, self._records = config, source, records
        self._names = config.class_names

    def sheet(
        self,
        folder: str,
        kind: str,
        number: int,
        part: Sequence[int],
        tiles: Callable[[int], Iterator[Tile]],
        columns: int,
    ) -> str:
        """Draw a sheet; return its path."""
        split = self._source.split
        png = os.path.join(folder, f"{kind}_{split}_{number:02d}.png")
        what = "True boxes" if kind == "truth" else "True boxes, and augmented in epochs 1, 2, ..."
        draw_contact_sheet(
            (tile for position in part for tile in tiles(position)),
            png,
            class_names=self._names,
            title=f"{what}: {split}, sheet {number}",
            lines=TRUTH_LINES,
            columns=columns,
        )
        return png

    def truth(self, position: int) -> Iterator[Tile]:
        """Yield the picture with its boxes."""
        rgb, record = self._read(position)
        yield truth_tile(rgb, record, self._names)

    def augmented(self, draws: int) -> Callable[[int], Iterator[Tile]]:
        """Return what yields the picture, then what the first epochs make of it."""
        augmenters = [Augmenter.from_config(self._config, 1 + i) for i in range(draws)]

        def tiles(position: int) -> Iterator[Tile]:
            rgb, record = self._read(position)
            yield truth_tile(rgb, record, self._names)
            for augmenter in augmenters:
                yield augmenter.tile(record, position)

        return tiles

    def _read(self, position: int) -> tuple[np.ndarray, ImageRecord]:
        """A picture, and its boxes cut at its border."""
        record = self._records[position]
        rgb = read_picture(record.image_path, self._source.max_image_pixels)
        return rgb, fit_boxes(record, rgb.shape[0], rgb.shape[1], AnnotationReport())
