# SPDX-License-Identifier: Apache-2.0
"""All that was found in a data set: numbers of its splits, pictures twice, and what is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..base.messages import counted, short_list
from ..data.validation_part import no_validation_part
from ..images.geometry import ResizeRule
from ..model_utils.config import Config
from .advice import Advised, advise
from .duplicates import find_groups
from .overlaps import Anchors, best_overlaps
from .pictures import Split
from .statistics import (
    BoxesAPicture,
    BoxTable,
    ClassCount,
    boxes_a_picture,
    count_classes,
    orientation_shares,
    size_shares,
)

_FEW = 10  # objects of a class, below which it can hardly be learned or judged
_UNREACHED = 0.01  # of the boxes, from which on it is said


@dataclass
class SplitNumbers:
    """A split in numbers.

    Attributes:
        name: `train` or `val`.
        images, boxes, crowd: how many; boxes without crowd regions.
        classes: in the configuration's order.
        own_sizes, net_sizes: shares of small, medium and large boxes, in pixels of the pictures and
            of the network's input.
        orientations: shares of landscape, portrait and square pictures.
        picture_sizes: (height, width) of the smallest, the median and the largest picture by area.
        boxes_a_picture: how many, against `num_gts`.
        counts: (M,) boxes of each picture.
        table: the boxes.
        unreached: boxes that no anchor overlaps by `min_pos_iou`, with the present settings.
    """

    name: str
    images: int
    boxes: int
    crowd: int
    classes: list[ClassCount]
    own_sizes: tuple[float, float, float]
    net_sizes: tuple[float, float, float]
    orientations: tuple[float, float, float]
    picture_sizes: tuple[tuple[int, int], ...]
    boxes_a_picture: BoxesAPicture
    counts: np.ndarray
    table: BoxTable
    unreached: int


@dataclass(frozen=True)
class Member:
    """A picture of a group.

    Attributes:
        split: `train` or `val`.
        file_name, image_path: of the picture.
        boxes: that it has.
    """

    split: str
    file_name: str
    image_path: str
    boxes: int


@dataclass(frozen=True)
class Duplicates:
    """Pictures that are alike.

    Attributes:
        members: at least two.
        identical: their files are the same to the byte.
    """

    members: tuple[Member, ...]
    identical: bool

    @property
    def is_leak(self) -> bool:
        """Whether they are in several splits."""
        return len({member.split for member in self.members}) > 1


@dataclass
class Findings:
    """All that was found.

    Attributes:
        config: that it was looked at with.
        splits: that were looked at.
        numbers: of each of them.
        duplicates: pictures that are alike; those in several splits first.
        advised: settings for the training split.
        problems: what is wrong, in words, the worst first.
        notes: on what was not looked at.
    """

    config: Config
    splits: list[Split]
    numbers: list[SplitNumbers]
    duplicates: list[Duplicates]
    advised: Advised
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def has_validation(self) -> bool:
        """Whether a validation part was looked at."""
        return any(numbers.name == "val" for numbers in self.numbers)


def find(config: Config, splits: Sequence[Split], notes: Sequence[str]) -> Findings:
    """Make all numbers of a data set.

    Args:
        config: the present settings.
        splits: the training split first.
        notes: on what was not looked at.
    """
    numbers = [_numbers(config, split) for split in splits]
    train = numbers[0]
    most_in_val = max((n.boxes_a_picture.most for n in numbers[1:]), default=0)
    advised = (
        advise(config, train.table, train.counts, most_in_val) if len(train.table) else Advised()
    )
    found = Findings(
        config,
        list(splits),
        numbers,
        _duplicates(splits),
        advised,
        notes=[*notes, *_partly(splits)],
    )
    found.problems = _problems(found)
    return found


def _partly(splits: Sequence[Split]) -> list[str]:
    return [
        f"note: {split.name}: {split.looked_at} of {split.num_listed} pictures were opened; the "
        "others are as large as the annotations say, and are not compared"
        for split in splits
        if split.looked_at < split.num_listed
    ]


def _numbers(config: Config, split: Split) -> SplitNumbers:
    table = BoxTable.of(split.records, split.sizes)
    placed = table.placed(ResizeRule.from_config(config))
    counts = np.array([len(record.labels) for record in split.records], np.int64)
    own = (table.boxes[:, 2:] - table.boxes[:, :2]).prod(axis=1)
    best = best_overlaps(placed, Anchors.from_config(config))
    order = np.argsort(split.sizes.prod(axis=1), kind="stable")
    chosen = order[[0, len(order) // 2, -1]] if len(order) else order
    return SplitNumbers(
        name=split.name,
        images=len(split.records),
        boxes=len(table),
        crowd=int(counts.sum()) - len(table),
        classes=count_classes(table, placed, config.class_names),
        own_sizes=size_shares(own),
        net_sizes=size_shares(placed.areas),
        orientations=orientation_shares(split.sizes),
        picture_sizes=tuple((int(h), int(w)) for h, w in split.sizes[chosen]),
        boxes_a_picture=boxes_a_picture(counts, int(config.num_gts)),
        counts=counts,
        table=table,
        unreached=int((best < float(config.min_pos_iou)).sum()),
    )


def _duplicates(splits: Sequence[Split]) -> list[Duplicates]:
    prints = [one for split in splits for one in split.prints]
    members = [
        Member(split.name, record.file_name, record.image_path, len(record.labels))
        for split in splits
        for record in split.printed
    ]
    found = [
        Duplicates(tuple(members[i] for i in group.members), group.identical)
        for group in find_groups(prints)
    ]
    return sorted(found, key=lambda group: not group.is_leak)


def _problems(found: Findings) -> list[str]:
    problems = [] if found.has_validation else [no_validation_part(found.config.coco_root)]
    problems += [
        f"{split.name}: {split.report.broken} that cannot be used: a training does not begin with "
        "such data"
        for split in found.splits
        if split.report.broken
    ]
    leaks = [group for group in found.duplicates if group.is_leak]
    if leaks:
        seen = sum(1 for group in leaks for member in group.members if member.split == "val")
        problems.append(
            f"validation pictures that are (nearly) the same as training pictures: {seen}; their "
            "results say little: take them out of one of the splits"
        )
    inner = [group for group in found.duplicates if not group.is_leak]
    if inner:
        extra = sum(len(group.members) - 1 for group in inner)
        problems.append(
            f"pictures that are (nearly) the same as another one of their split: {extra}, groups "
            f"of them: {len(inner)}"
        )
    problems += [line for numbers in found.numbers for line in _class_problems(numbers)]
    train = found.numbers[0]
    over = train.boxes_a_picture
    if over.lost:
        problems.append(
            f"{counted(over.lost, 'box', 'boxes')} of {counted(over.pictures, 'training picture')} "
            f"beyond num_gts {found.config.num_gts} would be learned as background"
        )
    if train.boxes and train.unreached >= _UNREACHED * train.boxes:
        problems.append(
            f"{counted(train.unreached, 'training box has', 'training boxes have')} no anchor with "
            f"an overlap of min_pos_iou {found.config.min_pos_iou:g} "
            f"({train.unreached / train.boxes:.1%}): the first stage does not learn that"
        )
    return problems


def _class_problems(numbers: SplitNumbers) -> list[str]:
    missing = [one.name for one in numbers.classes if not one.boxes]
    few = [f"{one.name} ({one.boxes})" for one in numbers.classes if 0 < one.boxes < _FEW]
    problems = []
    if missing:
        problems.append(
            f"{numbers.name} has no object of {len(missing)} of the {len(numbers.classes)} "
            f"classes: {short_list(missing, 10)}"
        )
    if few:
        problems.append(
            f"{numbers.name} has fewer than {_FEW} objects of "
            f"{counted(len(few), 'class', 'classes')}: {short_list(few, 10)}"
        )
    return problems
