# SPDX-License-Identifier: Apache-2.0
"""Weights to start from: a classifier's backbone, or a detector to fine-tune on other classes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Parameter, nn

from ..base.errors import UserError
from ..base.messages import counted, short_list
from ..model_utils.parameters import set_parameter
from .class_rows import SCORES, ClassRows, HeadClasses
from .file import STATE_NAMES, Checkpoint, canonical_name
from .loading import check_model
from .settings import open_checkpoint


@dataclass
class LoadReport:
    """How a pretrained checkpoint fitted a network; names are the network's.

    Attributes:
        path: the file.
        total: parameters in the network.
        loaded: taken from the file.
        by_class: taken from the file for the classes that both name, in `class_line`'s words.
        fresh: name -> (shape in the file, shape in the network), differing: left at their initial
            values.
        missing: not in the file: left at their initial values.
        unused: in the file (its names), not in the network.
        class_line: which classes these are; empty where no parameter is in `by_class`.
        known_classes: how many of the network's classes the file has seen, by its own word.
        notes: what else a reader should know.
    """

    path: Path
    total: int
    loaded: list[str] = field(default_factory=list)
    by_class: list[str] = field(default_factory=list)
    fresh: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    class_line: str = ""
    known_classes: int = 0
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the report for people, the heads that start fresh by name."""
        total = counted(self.total, "parameter")
        rows = f", {len(self.by_class)} class by class" if self.by_class else ""
        lines = [f"pretrained {self.path}: {len(self.loaded)} of {total} loaded{rows}"]
        lines += [f"  {self.class_line}"] if self.class_line else []
        lines += [
            f"  starts fresh: {name} is {old} in the file, {new} here"
            for name, (old, new) in self.fresh.items()
        ]
        if self.missing:
            lines.append(f"  starts fresh, not in the file: {_grouped(self.missing)}")
        if self.unused:
            lines.append(f"  in the file, not used: {_grouped(self.unused)}")
        return lines + [f"  note: {note}" for note in self.notes]


def load_pretrained(
    network: nn.Cell,
    weights: str | Path | Checkpoint,
    expected: Mapping[str, Any] | None = None,
    *,
    key: str = "pre_trained",
) -> LoadReport:
    """Load what fits: a backbone from a classifier's checkpoint, or a detector to fine-tune.

    The backbone fits entirely or is refused. Where the file and the configuration name their
    classes, those that both have keep their scores and boxes, and so does the background. Any other
    parameter of another shape starts fresh.

    Args:
        network: gets the values.
        weights: a MindSpore .ckpt file, or what has been read of one.
        expected: `describe_model` of the configuration; None: any model is taken.
        key: the setting that named the file, for errors.

    Raises:
        UserError: for an unreadable file, another backbone or box convention, or nothing that
        matches.
    """
    checkpoint = weights if isinstance(weights, Checkpoint) else open_checkpoint(weights, key)
    expected = expected or {}
    notes = check_model(checkpoint, expected, same_heads=False)
    parameters = {p.name: p for p in network.get_parameters()}
    report = LoadReport(checkpoint.path, len(parameters), notes=notes)
    values = _fitting(checkpoint, expected, parameters, report)
    if not values:
        raise UserError(
            f"{checkpoint.path}: none of its {len(checkpoint.arrays)} parameters fits this network "
            f"(the file has {short_list(list(checkpoint.arrays))}); set {key} to a ResNet or "
            "Faster R-CNN checkpoint, or leave it empty"
        )
    _check_backbone(report, key)
    for name, array in values.items():
        set_parameter(parameters[name], array)
    return report


def _fitting(
    checkpoint: Checkpoint,
    expected: Mapping[str, Any],
    parameters: Mapping[str, Parameter],
    report: LoadReport,
) -> dict[str, np.ndarray]:
    """The values that a file has for a network's parameters, by their names; fills the report."""
    values: dict[str, np.ndarray] = {}
    rows = _class_rows(checkpoint, expected)
    moved = rows if rows and not rows.as_they_are else None
    unused = checkpoint.meta.get("unused_outputs", 0) - expected.get("unused_outputs", 0)
    by_name = {canonical_name(name): name for name in parameters}
    for name, array in checkpoint.arrays.items():
        if STATE_NAMES.match(name):
            continue
        target = by_name.get(canonical_name(name))
        if target is None:
            report.unused.append(name)
            continue
        shape = tuple(parameters[target].shape)
        taken = moved.take(target, array, parameters[target].asnumpy()) if moved else None
        if moved and taken is not None:
            values[target] = taken
            report.by_class.append(target)
            report.class_line = moved.line()
            continue
        if unused > 0 and name.startswith(SCORES):
            array = np.delete(array, np.s_[1 : 1 + unused], axis=-1)
        if shape == array.shape:
            values[target] = array
        else:
            report.fresh[target] = (array.shape, shape)
    if rows and any(name.startswith(SCORES) for name in values):
        report.known_classes = len(rows.shared)
    report.loaded = [n for n in parameters if n in values and n not in report.by_class]
    report.missing = [n for n in parameters if n not in values and n not in report.fresh]
    return values


def _class_rows(checkpoint: Checkpoint, expected: Mapping[str, Any]) -> ClassRows | None:
    """What takes a file's classes by name; None where one side names none."""
    old, new = HeadClasses.described(checkpoint.meta), HeadClasses.described(expected)
    return ClassRows(old, new) if old and new else None


def _check_backbone(report: LoadReport, key: str) -> None:
    """Refuse a backbone that fits only in part: a deeper one begins like a shallower one."""
    partial = [name for name in (*report.fresh, *report.missing) if name.startswith("backbone.")]
    surplus = [n for n in report.unused if canonical_name(n).startswith("backbone.")]
    has_backbone = any(name.startswith("backbone.") for name in report.loaded)
    if has_backbone and (partial or surplus):
        what = f"{partial[0]} does not fit" if partial else f"{surplus[0]} has no place here"
        raise UserError(
            f"{report.path}: holds another backbone ({what}, {len(partial) + len(surplus)} such "
            f"parameters); set backbone (and norm) to the checkpoint's, or {key} to another file"
        )


def _grouped(names: Sequence[str]) -> str:
    """Return 'fpn_neck.* (16), fc.weight': names by their first part."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[name.split(".")[0]].append(name)
    return ", ".join(
        members[0] if len(members) == 1 else f"{group}.* ({len(members)})"
        for group, members in groups.items()
    )
