# SPDX-License-Identifier: Apache-2.0
"""Run an exported model in Python, and compare what it finds with what the network finds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..images.overlaps import overlaps
from ..runtimes.mindspore_runtime import MindIrSession
from ..runtimes.onnx_runtime import OnnxRuntimeSession
from ..runtimes.session import Outputs

OUTPUT_NAMES = ("boxes", "scores", "labels", "valid")
# Two runs of one network in other libraries: a few units in the last place of float32, after a
# hundred layers. In px and in score.
BOX_TOLERANCE, SCORE_TOLERANCE = 0.05, 1.0e-3
# Scores that belong to the same features: RoIs that pool to zeros, for example, all have one score.
_TIE = 1.0e-6
# Overlaps right at a threshold may fall to either side.
_ON_THE_EDGE = 0.02

Model = Callable[[np.ndarray, np.ndarray], Outputs]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the detections of two models differ.

    Attributes:
        count: detections of the first one.
        unmatched: of both, those without a partner of the same class within the tolerances. Not
            counted are those whose score ties with others' of their image, where the other model
            has chosen others of the same score.
        box, score: the largest differences of partners, px and score.
        equal: whether all outputs are the same bit for bit.
    """

    count: int
    unmatched: int
    box: float
    score: float
    equal: bool

    @property
    def same(self) -> bool:
        """Whether both are the same detector."""
        return self.equal or self.unmatched <= int(_ON_THE_EDGE * self.count)


def open_onnx(path: str | Path, threads: int = 0) -> tuple[Model, list[str], list[str]]:
    """Open an ONNX file in onnxruntime, on the CPU.

    Args:
        path: the file.
        threads: 0 leaves the choice to onnxruntime.

    Returns:
        (image, image_meta) -> boxes, scores, labels, valid; the names of inputs and outputs.

    Raises:
        UserError: onnxruntime is not installed, or cannot read the file, or there is too little
            memory.
    """
    session = OnnxRuntimeSession(Path(path), threads)
    inputs = [tensor.name for tensor in session.inputs]
    return session.run, inputs, [tensor.name for tensor in session.outputs]


def open_mindir(path: str | Path) -> Model:
    """Open a MINDIR file in MindSpore, on the device that was chosen.

    Args:
        path: the file.

    Returns:
        (image, image_meta) -> boxes, scores, labels, valid.

    Raises:
        UserError: MindSpore cannot read the file, or there is too little memory.
    """
    return MindIrSession(Path(path)).run


def compare(expected: Outputs, found: Outputs) -> Comparison:
    """Compare what two models find in the same images.

    Detections are compared as sets: where scores nearly tie, their order may differ.

    Args:
        expected: boxes (B, K, 4) xyxy, px; scores, labels and valid (B, K) of the first model.
        found: the same of the second one.
    """
    if any(a.shape != b.shape for a, b in zip(expected, found, strict=True)):
        return Comparison(int(expected[3].sum()), expected[3].size, np.inf, np.inf, False)
    equal = all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    count = unmatched = 0
    box = score = 0.0
    for row in range(len(expected[0])):
        ours, theirs = _detections(expected, row), _detections(found, row)
        count += len(ours)
        if not len(ours) or not len(theirs):
            unmatched += len(ours) + len(theirs)
            continue
        distance = np.abs(ours[:, None] - theirs[None])  # (N, M, 6): box, score, label
        near = (distance[..., :4].max(-1) <= BOX_TOLERANCE) & (distance[..., 5] == 0)
        near &= distance[..., 4] <= SCORE_TOLERANCE
        lone, other_lone = ours[~near.any(1)], theirs[~near.any(0)]
        unmatched += _not_tied(lone, ours, other_lone) + _not_tied(other_lone, theirs, lone)
        if near.any():
            partner = np.where(near, distance[..., :4].max(-1), np.inf).argmin(1)
            pairs = distance[np.arange(len(ours)), partner][near.any(1)]
            box = max(box, float(pairs[:, :4].max()))
            score = max(score, float(pairs[:, 4].max()))
    return Comparison(count, unmatched, box, score, equal)


def kept(expected: Outputs, found: Outputs, least_iou: float = 0.9) -> int:
    """Return how many detections of one model another one has too: of the same class, and with an
    overlap above `least_iou`.

    Args:
        expected, found: see `compare`.
        least_iou: 0 to 1.
    """
    number = 0
    for row in range(len(expected[0])):
        ours, theirs = _detections(expected, row), _detections(found, row)
        if len(ours) and len(theirs):
            near = overlaps(ours[:, None, :4], theirs[None, :, :4]) > least_iou
            number += int((near & (ours[:, None, 5] == theirs[None, :, 5])).any(1).sum())
    return number


def _not_tied(lone: np.ndarray, own: np.ndarray, other_lone: np.ndarray) -> int:
    """Count the `lone` detections of one model whose place in `own` is not the choice in a tie.

    Args:
        lone, own, other_lone: (N, 6) detections without a partner, all of the same model, and those
            of the other model without a partner.
    """

    def alike(others: np.ndarray, tolerance: float) -> np.ndarray:
        same = np.abs(lone[:, None, 4] - others[None, :, 4]) <= tolerance
        return (same & (lone[:, None, 5] == others[None, :, 5])).sum(1)

    in_a_tie = (alike(own, _TIE) > 1) & (alike(other_lone, SCORE_TOLERANCE) > 0)
    return int((~in_a_tie).sum())


def _detections(outputs: Outputs, row: int) -> np.ndarray:
    """Return (N, 6) float64 of one image: box, score, label of its detections."""
    boxes, scores, labels, valid = (np.asarray(o[row], np.float64) for o in outputs)
    return np.concatenate([boxes, scores[:, None], labels[:, None]], 1)[valid > 0]
