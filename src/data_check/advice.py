# SPDX-License-Identifier: Apache-2.0
"""Settings that fit a data set: what they are now, what they should be, and why."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ..base.errors import UserError
from ..base.messages import counted
from ..FasterRcnn.names import MODERN
from ..images.geometry import ResizeRule
from ..model_utils.config import Config
from .anchor_fit import Score, Shapes, fit_anchors, kmeans_shapes, sample_boxes, thickened
from .canvas import BUDGETS, canvas_keys, describe
from .overlaps import FAIR, GOOD, Anchors, Fit, PlacedBoxes, best_overlaps
from .schedule import SMALL_SET, schedule
from .statistics import BoxesAPicture, BoxTable, boxes_a_picture, canvas_fill

_NUM_SHAPES = 9
_WORTH = 0.02  # of the score that other anchors have to be better by than the present ones
_BORDER = 1.0  # pixels at the network's scale from a picture's edge: the box may be cut off there
_BORDER_SHARE, _BORDER_WORTH = 0.02, 0.01  # of the boxes there; of their mean overlap
_GTS_STEP, _MOST_GTS = 16, 1024
_TYPICAL = 4  # times p99, up to which the fullest picture decides num_gts
_EXTRA_SCALES = 2


class Advice(NamedTuple):
    """What is advised on one matter.

    Attributes:
        topic: the matter.
        keys: key -> advised value, those alone that differ from the present ones.
        now, advised: in words.
        why: with numbers.
    """

    topic: str
    keys: dict[str, Any]
    now: str
    advised: str
    why: str


class AnchorRow(NamedTuple):
    """Anchors and how well they fit.

    Attributes:
        label: which ones they are.
        anchors: themselves.
        canvas: in words.
        fit: to the training boxes.
        unreached: share of the boxes that no anchor overlaps by `min_pos_iou`.
    """

    label: str
    anchors: Anchors
    canvas: str
    fit: Fit
    unreached: float


@dataclass
class Advised:
    """All advice for a data set.

    Attributes:
        items: in the order of their importance.
        anchor_rows: the present state; the present anchors on the advised canvas; the advised
            ones; alternatives.
        shapes: typical shapes of the boxes on the advised canvas.
        overlaps: (N,) best overlap of each training box, now and as advised.
        placed: the training boxes on the advised canvas.
        boxes_a_picture: of the training split.
    """

    items: list[Advice] = field(default_factory=list)
    anchor_rows: list[AnchorRow] = field(default_factory=list)
    shapes: Shapes | None = None
    overlaps: tuple[np.ndarray, np.ndarray] = (np.zeros(0), np.zeros(0))
    placed: PlacedBoxes | None = None
    boxes_a_picture: BoxesAPicture = BoxesAPicture(0.0, 0.0, 0.0, 0, 0, 0)  # noqa: RUF009

    def keys(self) -> dict[str, Any]:
        """Return all advised values."""
        return {key: value for item in self.items for key, value in item.keys.items()}


def advise(config: Config, table: BoxTable, counts: np.ndarray, most_in_val: int) -> Advised:
    """Find settings for a training split.

    Args:
        config: the present ones.
        table: its boxes, at least one.
        counts: (M,) boxes of each picture, crowd regions too.
        most_in_val: boxes of the fullest validation picture.
    """
    on_cpu = config.device_target == "CPU"
    advised = Advised()
    canvas = _canvas_advice(config, table, on_cpu)
    convention = _convention_advice(config, canvas.keys)
    wanted = config.replace(**canvas.keys, **(convention.keys if convention else {}))
    advised.items.append(canvas)
    advised.items += _anchor_advice(config, wanted, table, advised)
    advised.items += [convention] if convention else []
    advised.boxes_a_picture = boxes_a_picture(counts, int(config.num_gts))
    advised.items.append(_num_gts_advice(config, advised.boxes_a_picture))
    most = max(most_in_val, advised.boxes_a_picture.most)
    if most > config.test_max_per_img:
        advised.items.append(_detections_advice(config, most))
    rule = ResizeRule.from_config(wanted)
    backbone = _backbone_advice(config, len(table.sizes), on_cpu)
    advised.items += [backbone] if backbone else []
    advised.items += _schedule_advice(config, len(table.sizes), math.prod(rule.largest), on_cpu)
    return advised


def _differing(config: Config, keys: Mapping[str, Any]) -> dict[str, Any]:
    """The keys whose value is another one now."""

    def plain(value: Any) -> Any:
        return list(value) if isinstance(value, tuple | list) else value

    return {k: v for k, v in keys.items() if plain(getattr(config, k)) != plain(v)}


# --------------------------------------------------------------------------- the network's input


def _canvas_advice(config: Config, table: BoxTable, on_cpu: bool) -> Advice:
    keys = canvas_keys(table, on_cpu=on_cpu)
    now, then = ResizeRule.from_config(config), ResizeRule.from_config(config.replace(**keys))
    side = BUDGETS[on_cpu].side

    def in_words(rule: ResizeRule) -> str:
        sides = np.sqrt(table.placed(rule).areas)
        return (
            f"{describe(rule)}: pictures fill {canvas_fill(rule, table.sizes):.0%}, the smallest "
            f"2 % of boxes are below {np.quantile(sides, 0.02):.0f} px, half below "
            f"{np.median(sides):.0f}"
        )

    device = "a CPU" if on_cpu else "an accelerator"
    why = (
        f"of the pictures' shape, and as large as boxes need: nearly all at {side:.0f} px or more "
        f"(root of the area), within what {device} has time for"
    )
    changes = {} if now == then else _differing(config, keys)  # `auto` may say the same
    return Advice("canvas", changes, in_words(now), in_words(then), why)


def _convention_advice(config: Config, canvas: Mapping[str, Any]) -> Advice | None:
    """The convention of a detector that starts without weights, where nobody has chosen one."""
    key = "box_convention"
    if config.pre_trained or config.is_given(key) or config.box_convention == MODERN:
        return None
    if not _is_taken(config, {**canvas, key: MODERN}):
        return None
    return Advice(
        "box convention",
        {key: MODERN},
        config.box_convention,
        MODERN,
        "training from scratch: no weights need the model zoo's widths of one pixel more; "
        "annotations and COCO's evaluation count as torchvision and detectron2 do",
    )


def _backbone_advice(config: Config, images: int, on_cpu: bool) -> Advice | None:
    """The backbone of a small set's detector that starts without weights, on a CPU."""
    key, small = "backbone", "resnet_v1.5_18"
    if config.pre_trained or config.is_given(key) or not on_cpu or images > SMALL_SET:
        return None
    return Advice(
        key,
        {key: small},
        config.backbone,
        small,
        "training from scratch on few pictures: it gets as far in the same steps, in half the time",
    )


# --------------------------------------------------------------------------- anchors


def _anchor_advice(
    config: Config, wanted: Config, table: BoxTable, advised: Advised
) -> list[Advice]:
    """Anchors for the advised canvas; fills in `advised` what the page shows of them."""
    now_rule, rule = ResizeRule.from_config(config), ResizeRule.from_config(wanted)
    placed, weights = table.placed(rule), table.class_weights()
    present, kept = Anchors.from_config(config), Anchors.from_config(wanted)
    reach = float(config.min_pos_iou)

    def row(label: str, anchors: Anchors, boxes: PlacedBoxes, canvas: ResizeRule) -> AnchorRow:
        best = best_overlaps(boxes, anchors)
        return AnchorRow(
            label, anchors, describe(canvas), Fit.of(best), float((best < reach).mean())
        )

    count = len(present.scales)
    found = fit_anchors(placed, weights, kept, count)
    which, border = _anchor_filter(found, placed)
    start = replace(kept, which=which)
    if which != present.which:
        found = fit_anchors(placed, weights, start, count)
    rows = [row("now", present, table.placed(now_rule), now_rule)]
    rows.append(row("present anchors, advised canvas", start, placed, rule))
    fitted = row("advised", found, placed, rule)
    sample = sample_boxes(placed.sides)
    score = Score(placed.select(sample), weights[sample])
    if score(found) < score(start) + _WORTH or not _is_taken(wanted, _anchor_keys(found)):
        found, fitted = start, rows[-1]._replace(label="advised (present anchors)")
    rows.append(fitted)
    for extra in range(1, _EXTRA_SCALES + 1):
        more = fit_anchors(placed, weights, start, count + extra)
        rows.append(row(f"alternative: {count + extra} scales", more, placed, rule))
    advised.anchor_rows, advised.placed = rows, placed
    advised.shapes = kmeans_shapes(thickened(placed.sides[sample]), weights[sample], _NUM_SHAPES)
    advised.overlaps = (
        best_overlaps(table.placed(now_rule), present),
        best_overlaps(placed, found),
    )
    before = rows[1]
    why = (
        f"on the advised canvas, boxes whose best anchor overlaps them by more than {GOOD}: "
        f"{before.fit.good:.1%} with the present anchors, {fitted.fit.good:.1%} with these; by "
        f"more than {FAIR}: {before.fit.fair:.1%} and {fitted.fit.fair:.1%}; that none reaches: "
        f"{before.unreached:.1%} and {fitted.unreached:.1%}; as many anchors as now, so that a "
        "detector's weights still fit"
    )
    items = [
        Advice(
            "anchors",
            _differing(config, _anchor_keys(found)),
            _anchors_text(present),
            _anchors_text(found),
            why,
        )
    ]
    if which != present.which:
        items.append(
            Advice("anchor filter", {"anchor_filter": which}, present.which, which, border)
        )
    return items


def _anchor_keys(anchors: Anchors) -> dict[str, Any]:
    return {"anchor_scales": list(anchors.scales), "anchor_ratios": list(anchors.ratios)}


def _is_taken(config: Config, keys: Mapping[str, Any]) -> bool:
    """Whether the configuration takes values: they may not go with others of its keys."""
    try:
        config.replace(**keys)
    except UserError:
        return False
    return True


def _anchors_text(anchors: Anchors) -> str:
    scales, ratios = (
        ", ".join(f"{v:g}" for v in values) for values in (anchors.scales, anchors.ratios)
    )
    return f"scales {scales}; ratios {ratios}"


def _anchor_filter(anchors: Anchors, placed: PlacedBoxes) -> tuple[str, str]:
    """Which anchors should take part, and why: objects that the border cuts want them across it."""
    height, width = placed.extents[:, 0], placed.extents[:, 1]
    boxes = placed.boxes
    cut = (boxes[:, :2] < _BORDER).any(axis=1)
    cut |= (boxes[:, 2] > width - _BORDER) | (boxes[:, 3] > height - _BORDER)
    if anchors.which != "inside" or cut.mean() < _BORDER_SHARE:
        return anchors.which, ""
    there = placed.select(cut)
    inside = float(best_overlaps(there, anchors).mean())
    centred = float(best_overlaps(there, replace(anchors, which="centred")).mean())
    if centred < inside + _BORDER_WORTH:
        return anchors.which, ""
    return "centred", (
        f"{cut.mean():.0%} of the boxes touch their picture's border; their best anchor overlaps "
        f"them by {inside:.2f} on average if it must lie inside, by {centred:.2f} if only its "
        "centre must"
    )


# --------------------------------------------------------------------------- numbers of boxes


def _num_gts_advice(config: Config, found: BoxesAPicture) -> Advice:
    most = found.most
    outlier = most > _TYPICAL * max(found.p99, _GTS_STEP)
    covered = math.ceil(found.p99 * 2) if outlier else most
    value = min(max(math.ceil(covered / _GTS_STEP), 1) * _GTS_STEP, _MOST_GTS)
    boxes = counted(most, "box", "boxes")
    why = f"the fullest picture has {boxes}, 99 % have at most {found.p99:.0f}"
    if found.lost:
        why += (
            f"; now {counted(found.lost, 'box', 'boxes')} of {counted(found.pictures, 'picture')} "
            "would be learned as background"
        )
    if value < most:
        why += f"; pictures with more than {value} boxes are so rare that they are cut"
    keys = _differing(config, {"num_gts": value})
    return Advice("boxes a picture", keys, f"num_gts {config.num_gts}", f"num_gts {value}", why)


def _detections_advice(config: Config, most: int) -> Advice:
    value = math.ceil(most * 1.25 / 50) * 50
    return Advice(
        "detections a picture",
        {"test_max_per_img": value},
        str(config.test_max_per_img),
        str(value),
        f"a picture has {most} boxes: with fewer detections some cannot be found (COCO's metric "
        "itself counts the best 100 of a class)",
    )


# --------------------------------------------------------------------------- the schedule


def _schedule_advice(config: Config, images: int, canvas_pixels: int, on_cpu: bool) -> list[Advice]:
    """Batch, rate and epochs, as far as the user has not chosen them."""
    given = config.is_given("batch_size")
    pretrained = bool(config.pre_trained)
    plan = schedule(
        images,
        canvas_pixels,
        on_cpu=on_cpu,
        pretrained=pretrained,
        batch=int(config.batch_size) if given else None,
    )
    steps_now = max(images // config.batch_size, 1)
    rate_now = config.base_lr / config.lr_base_batch * config.batch_size
    start = "from pretrained weights" if pretrained else "from scratch"
    rate: dict[str, Any] = {"base_lr": plan.rate, "lr_base_batch": plan.batch}
    if not pretrained:
        rate |= {"optimizer": "adamw", "weight_decay": 0.05, "grad_clip": True, "clip_norm": 10.0}
    length: dict[str, Any] = {"epoch_size": plan.epochs, "warmup_step": plan.warmup}
    if not plan.is_usual:
        length["lr_type"] = "cosine"
    items = [
        Advice(
            "batch",
            {"batch_size": plan.batch},
            f"{counted(config.batch_size, 'picture')} a device",
            f"{counted(plan.batch, 'picture')} a device",
            f"what a step of {canvas_pixels:,} pixels a picture leaves room and time for",
        ),
        Advice(
            "learning rate",
            rate,
            f"{rate_now:g} for a step of {config.batch_size}",
            f"{plan.rate:g} for a step of {plan.batch}{'' if pretrained else ', AdamW'}",
            f"training {start}: {plan.rate / plan.batch:g} for each picture of a step; it grows "
            "with the number of devices by itself",
        ),
        Advice(
            "epochs",
            length,
            f"{config.epoch_size} ({counted(config.epoch_size * steps_now, 'step')})",
            f"{plan.epochs} ({counted(plan.epochs * plan.steps, 'step')})",
            f"{counted(images, 'picture')}: {counted(plan.steps, 'step')} an epoch",
        ),
    ]
    return [
        item._replace(keys=_differing(config, item.keys))
        for item in items
        if not any(config.is_given(key) for key in item.keys)
    ]
