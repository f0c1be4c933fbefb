# SPDX-License-Identifier: Apache-2.0
"""What stands on top of a report, and what the run ran on."""

import datetime
from collections.abc import Mapping
from typing import Any

from ..base.messages import counted
from ..data.validation_part import ON_TRAINING
from ..model_utils.config import Config
from ..pages.elements import Cell, Column, Table, Tile
from . import checked
from .curves import best_row
from .data_summary import DataSummary
from .run_files import RunFiles

_ENVIRONMENT = {  # key of environment.json -> its name
    "started": "started",
    "command": "command",
    "version": "version of faster-rcnn",
    "commit": "commit",
    "device_target": "device",
    "device": "device's name",
    "processes": "processes",
    "processor": "processor",
    "processors": "processors",
    "memory_mb": "memory, MB",
    "python": "Python",
    "platform": "system",
}
_MOST_PACKAGES = 50
_LONGEST_SPAN = 1e9  # seconds: thirty years


def lead(run: RunFiles, config: Config) -> str:
    """Return what the run trained, where and when, in a line.

    Args:
        run: what is in its folder.
        config: its configuration.
    """
    parts = [f"{config.backbone}, {counted(len(config.class_names), 'class', 'classes')}"]
    device = checked.text(run.environment.get("device"), 60)
    if device:
        parts.append(device)
    started = checked.text(run.environment.get("started"), 40)
    if started:
        parts.append(f"started {started[:16].replace('T', ' ')}")
    return "; ".join(parts)


def tiles(run: RunFiles, config: Config, data: DataSummary) -> list[Tile]:
    """Return the numbers on top.

    Args:
        run: what is in its folder.
        config: its configuration.
        data: its pictures.
    """
    found = _precision_tiles(run, ON_TRAINING if data.has_no_validation else "")
    if run.training:
        last = run.training[-1]
        if last.get("total_loss") is not None:
            found.append(Tile("Total loss", f"{last['total_loss']:.4f}", "last row"))
        epochs = f"{last['epoch']} of {config.epoch_size}" if run.settings else f"{last['epoch']}"
        early = ", ended early" if run.stopped_early else ""
        found.append(Tile("Epochs", epochs, counted(last["step"], "step") + early))
        found += _time_tiles(run)
    counts = {name: f"{len(split.records):,}" for name, split in data.splits.items()}
    if "train" in counts:
        also = f"{counts['val']} for validation" if "val" in counts else ""
        also = "the same for validation" if data.has_no_validation else also
        found.append(Tile("Training pictures", counts["train"], also))
    return found


def _precision_tiles(run: RunFiles, remark: str) -> list[Tile]:
    tiles = []
    also = f", {remark}" if remark else ""
    best = best_row(run.evaluations)
    summary = checked.mapping(run.evaluation.get("summary"))
    ap, ap50 = (checked.number(summary.get(key)) for key in ("ap", "ap50"))
    if best:
        tiles.append(Tile("Best AP", f"{best['ap']:.3f}", f"epoch {best['epoch']}{also}"))
        if best.get("ap50") is not None:
            tiles.append(Tile("AP50", f"{best['ap50']:.3f}", f"epoch {best['epoch']}{also}"))
    elif ap is not None:
        tiles.append(Tile("AP", f"{ap:.3f}", f"of the evaluation below{also}"))
        if ap50 is not None:
            tiles.append(Tile("AP50", f"{ap50:.3f}", remark))
    return tiles


def _time_tiles(run: RunFiles) -> list[Tile]:
    rows = [*run.training, *run.evaluations]
    times = [row["time"] for row in rows if row.get("time") is not None]
    speeds = [row["images_per_second"] for row in run.training if row.get("images_per_second")]
    tiles = []
    span = round(max(times) - min(times)) if times else 0
    if 0 < span < _LONGEST_SPAN:
        time = str(datetime.timedelta(seconds=span))
        tiles.append(Tile("Time", time, "first to last row"))
    if speeds:
        middle = sorted(speeds)[len(speeds) // 2]
        tiles.append(Tile("Images per second", f"{middle:.2f}", "median of the rows"))
    return tiles


def environment_table(environment: Mapping[str, Any]) -> Table | None:
    """Return what the run ran on; None when it is not known.

    Args:
        environment: of `environment.json`, unchecked.
    """
    rows = []
    for key, name in _ENVIRONMENT.items():
        value = environment.get(key)
        if isinstance(value, list):
            value = " ".join(checked.text(part) for part in value[:200])
        if checked.text(value):
            rows.append([Cell(name), Cell(checked.text(value, 600))])
    for group in ("packages", "variables"):
        values = list(checked.mapping(environment.get(group)).items())[:_MOST_PACKAGES]
        rows += [[Cell(checked.text(k)), Cell(checked.text(v))] for k, v in values]
    return Table((Column("what"), Column("value")), rows) if rows else None
