# SPDX-License-Identifier: Apache-2.0
"""A training log's losses: read, averaged, drawn as a curve."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..base.errors import UserError
from ..base.files import save_whole
from ..base.foreign_files import is_regular_file
from ..base.plots import import_matplotlib

_LINE = re.compile(r"epoch:\s*(\d{1,9})\s+step:\s*(\d{1,9}),\s*(.+)")
_VALUE = re.compile(r"(\w+):\s*([-+\w.]+)")
# Colours that colour-blind readers tell apart too (Okabe and Ito).
_CURVES = {
    "rpn_cls_loss": ("RPN class", "#0072B2"),
    "rpn_reg_loss": ("RPN box", "#56B4E9"),
    "rcnn_cls_loss": ("RCNN class", "#D55E00"),
    "rcnn_reg_loss": ("RCNN box", "#E69F00"),
}
_INK = "#222222"
_LARGEST = 3.5e38  # all that float32 holds; sums and ranges of these are finite
_LONGEST_LINE = 4096  # characters that are looked at together


@dataclass(frozen=True)
class LossLine:
    """One line of a loss log: ``epoch`` and ``step`` (in the epoch) count from 1."""

    epoch: int
    step: int
    losses: dict[str, float]


def read_loss_log(path: str | os.PathLike[str]) -> list[LossLine]:
    """Read the loss lines of a training log, in the order of training.

    A resumed run may have written a step twice: the later line counts. Other lines are skipped.

    Args:
        path: a ``loss_<rank>.log``.

    Raises:
        UserError: the file cannot be read or holds no loss line.
    """
    lines: dict[tuple[int, int], LossLine] = {}
    try:
        if os.path.lexists(path) and not os.path.isdir(path) and not is_regular_file(path):
            raise UserError(f"loss log {path} cannot be read: a pipe or a device")
        with open(path, encoding="utf-8", errors="replace") as file:
            while text := file.readline(_LONGEST_LINE):
                for epoch, step, rest in _LINE.findall(text):
                    losses = _losses(rest)
                    if "total_loss" in losses:
                        lines[int(epoch), int(step)] = LossLine(int(epoch), int(step), losses)
    except OSError as error:
        raise UserError(f"loss log {path} cannot be read: {error.strerror}") from error
    if not lines:
        raise UserError(f"loss log {path} has no line 'epoch: E step: S, ... total_loss: L'")
    return [lines[key] for key in sorted(lines)]


def _losses(text: str) -> dict[str, float]:
    """The values of a line by name, NaN for larger ones than a run writes.

    None of a line with something else in their place.
    """
    try:
        values = {name: float(value) for name, value in _VALUE.findall(text)}
    except ValueError:
        return {}
    return {name: v if abs(v) <= _LARGEST else math.nan for name, v in values.items()}


def global_steps(lines: Sequence[LossLine]) -> tuple[np.ndarray, int]:
    """Steps since the start of training, from steps that begin anew with each epoch.

    Args:
        lines: a log in the order of training.

    Returns:
        (N,) int64 steps, and the steps of an epoch (the highest step that the log shows).
    """
    per_epoch = max(line.step for line in lines)
    return np.array([(line.epoch - 1) * per_epoch + line.step for line in lines]), per_epoch


def smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Return the centred moving average, over fewer values at both ends.

    Args:
        values: (N,) numbers.
        width: how many are averaged; an even number counts as the next odd one.

    Returns:
        (N,) float64.
    """
    half = max(0, width // 2)
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def draw_loss_curve(
    log: str | os.PathLike[str], png: str | os.PathLike[str], title: str = "Training loss"
) -> None:
    """Draw a log's total loss and its four parts over the training steps.

    Args:
        log: a ``loss_<rank>.log``.
        png: the picture to write (1600 x 700 pixels).
        title: stands above the left curve.

    Raises:
        UserError: the log holds no losses.
    """
    import_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = read_loss_log(log)
    steps, per_epoch = global_steps(lines)
    epochs = lines[-1].epoch
    figure = Figure(figsize=(16, 7), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    whole, parts = figure.subplots(1, 2)
    width = max(1, len(lines) // 15)

    total = np.array([line.losses["total_loss"] for line in lines])
    whole.plot(steps, total, color=_INK, alpha=0.25, linewidth=1, label="as logged")
    averaged = smooth(total, width)
    whole.plot(steps, averaged, color=_INK, linewidth=2.5, label="moving average")
    whole.annotate(
        f"{averaged[-1]:.3f}",
        (steps[-1], averaged[-1]),
        xytext=(6, 0),
        va="center",
        textcoords="offset points",
        fontsize=12,
        color=_INK,
    )
    whole.set_title(title, loc="left", fontsize=15, parse_math=False)
    for name, (label, color) in _CURVES.items():
        values = np.array([line.losses.get(name, np.nan) for line in lines])
        parts.plot(steps, values, color=color, alpha=0.2, linewidth=1)
        parts.plot(steps, smooth(values, width), color=color, linewidth=2.5, label=label)
    parts.set_title("Its four parts", loc="left", fontsize=15)

    for axes in (whole, parts):
        axes.set_xlim(0, steps[-1] * 1.07)
        axes.set_ylim(0, None)
        axes.set_xlabel("step", fontsize=12)
        axes.tick_params(labelsize=11)
        axes.grid(axis="y", color="#E5E5E5", linewidth=1)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        # A faint line where each epoch ends, as long as they can be told apart.
        for epoch in range(1, epochs + 1) if epochs <= 30 else ():
            axes.axvline(epoch * per_epoch, color="#DDDDDD", linewidth=1, linestyle=":", zorder=0)
        axes.legend(frameon=False, fontsize=12, loc="upper right")
    save_whole(png, lambda path: figure.savefig(path, format="png"))
