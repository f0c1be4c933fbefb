# SPDX-License-Identifier: Apache-2.0
"""What was found, as lines of text and as JSON."""

from collections.abc import Iterator
from typing import Any

from ..base.messages import counted, one_line, short_list
from .anchor_fit import Shapes
from .findings import Duplicates, Findings, SplitNumbers
from .overlaps import FAIR, GOOD
from .statistics import ORIENTATIONS, SIZE_NAMES

VERSION = 1
_PLACE = "data: "  # begins the notes on where the data is
_MOST_CLASSES = 20  # in the text; the page and the JSON have all
_MOST_GROUPS = 5
_MOST_LISTED, _MOST_NAMED = 1000, 50  # groups in the JSON, and pictures of each


def text_lines(found: Findings) -> list[str]:
    """Return the summary.

    Args:
        found: in the data.
    """
    place = [note for note in found.notes if note.startswith(_PLACE)]
    lines = list(place)
    for split, numbers in zip(found.splits, found.numbers, strict=True):
        lines += ["", *split.report.lines(), *_split_lines(numbers)]
    lines += ["", *_duplicate_lines(found.duplicates)]
    lines += ["", "problems:" if found.problems else "no problems found beyond the above"]
    lines += [f"  - {problem}" for problem in found.problems]
    if found.advised.items:
        lines += ["", "advice:", *_advice_lines(found)]
    lines += [note for note in found.notes if note not in place]
    return [one_line(line) for line in lines]


def _split_lines(numbers: SplitNumbers) -> Iterator[str]:
    boxes = numbers.boxes_a_picture
    yield f"  pictures: {_shares(ORIENTATIONS, numbers.orientations)}; " + ", ".join(
        f"{name} {width}x{height}"
        for name, (height, width) in zip(
            ("smallest", "median", "largest"), numbers.picture_sizes, strict=False
        )
    )
    yield (
        f"  boxes a picture: {boxes.mean:.1f} on average, half have up to {boxes.median:.0f}, "
        f"99 % up to {boxes.p99:.0f}, at most {boxes.most}"
    )
    yield (
        f"  sizes by COCO's limits: {_shares(SIZE_NAMES, numbers.net_sizes)} at the network's "
        f"scale ({_shares(SIZE_NAMES, numbers.own_sizes)} in the pictures)"
    )
    names = [one.name for one in numbers.classes[:_MOST_CLASSES]]
    width = max(map(len, names), default=0)
    for one in numbers.classes[:_MOST_CLASSES]:
        share = one.boxes / max(numbers.boxes, 1)
        yield (
            f"    {one.name:<{width}}  boxes {one.boxes:>8} ({share:>6.1%}), pictures {one.images}"
        )
    if len(numbers.classes) > _MOST_CLASSES:
        more = counted(len(numbers.classes) - _MOST_CLASSES, "more class", "more classes")
        yield f"    and {more}: see the page"


def _shares(names: tuple[str, ...], shares: tuple[float, ...]) -> str:
    pairs = zip(names, shares, strict=True)
    return ", ".join(f"{share:.0%} {name}" for name, share in pairs if share > 0) or "none"


def _duplicate_lines(groups: list[Duplicates]) -> Iterator[str]:
    if not groups:
        yield "no pictures that are alike"
        return
    yield f"groups of pictures that are alike: {len(groups)}"
    for group in groups[:_MOST_GROUPS]:
        kind = "the same file" if group.identical else "nearly the same"
        names = short_list([f"{m.split}: {m.file_name}" for m in group.members], 4)
        yield f"  {kind}: {names}"
    if len(groups) > _MOST_GROUPS:
        yield f"  and {len(groups) - _MOST_GROUPS} more: see the page"


def _advice_lines(found: Findings) -> Iterator[str]:
    for item in found.advised.items:
        change = f"{item.now} -> {item.advised}" if item.keys else f"as it is ({item.now})"
        yield f"  {item.topic}: {change}"
        yield f"    {item.why}"
    yield f"  anchors: boxes whose best anchor overlaps by more than {GOOD} and {FAIR}, on average:"
    width = max((len(row.label) for row in found.advised.anchor_rows), default=0)
    for row in found.advised.anchor_rows:
        yield (
            f"    {row.label:<{width}}  {row.fit.good:>6.1%} {row.fit.fair:>6.1%}  "
            f"{row.fit.mean:.3f}"
        )


# --------------------------------------------------------------------------- JSON


def as_json(found: Findings) -> dict[str, Any]:
    """Return all numbers as plain JSON values.

    Args:
        found: in the data.
    """
    return {
        "version": VERSION,
        "splits": [
            {
                **_split_json(numbers),
                "annotations": split.source.anno_path,
                "looked_at": split.looked_at,
                "findings": split.report.counts,
                "examples": split.report.examples,
            }
            for split, numbers in zip(found.splits, found.numbers, strict=True)
        ],
        "duplicates": [
            {
                "identical": group.identical,
                "pictures": [[m.split, one_line(m.file_name)] for m in group.members[:_MOST_NAMED]],
                "num_pictures": len(group.members),
            }
            for group in found.duplicates[:_MOST_LISTED]
        ],
        "num_duplicate_groups": len(found.duplicates),
        "problems": found.problems,
        "advice": [item._asdict() for item in found.advised.items],
        "anchors": [
            {
                "label": row.label,
                "scales": list(row.anchors.scales),
                "ratios": list(row.anchors.ratios),
                "filter": row.anchors.which,
                "canvas": row.canvas,
                "above_0.7": row.fit.good,
                "above_0.5": row.fit.fair,
                "mean": row.fit.mean,
                "unreached": row.unreached,
            }
            for row in found.advised.anchor_rows
        ],
        "shapes": _shapes_json(found.advised.shapes),
        "notes": found.notes,
    }


def _split_json(numbers: SplitNumbers) -> dict[str, Any]:
    return {
        "name": numbers.name,
        "images": numbers.images,
        "boxes": numbers.boxes,
        "crowd": numbers.crowd,
        "classes": [one._asdict() for one in numbers.classes],
        "sizes": dict(zip(SIZE_NAMES, numbers.own_sizes, strict=True)),
        "network_sizes": dict(zip(SIZE_NAMES, numbers.net_sizes, strict=True)),
        "orientations": dict(zip(ORIENTATIONS, numbers.orientations, strict=True)),
        "picture_sizes": numbers.picture_sizes,
        "boxes_a_picture": numbers.boxes_a_picture._asdict(),
        "unreached": numbers.unreached,
    }


def _shapes_json(shapes: Shapes | None) -> dict[str, Any] | None:
    if shapes is None:
        return None
    return {
        "width_height": shapes.sides.round(1).tolist(),
        "shares": shapes.shares.round(4).tolist(),
        "mean_overlap": shapes.mean,
    }
