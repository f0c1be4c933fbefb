# SPDX-License-Identifier: Apache-2.0
"""From RPN outputs to proposals in an ONNX graph: what `FasterRcnn.proposal_generator` computes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...FasterRcnn.anchor_generator import AnchorGenerator, PyramidAnchors
from ...FasterRcnn.own_canvas import LOWEST
from ...FasterRcnn.proposal_generator import Proposal
from .boxes import Boxes, as_float, clip, decode, is_sizeable, non_max_suppression, only_at
from .builder import GraphBuilder


@dataclass(frozen=True, slots=True)
class AnchorGrids:
    """The anchors of a pyramid, as the sums that runtimes compute when they load a graph: written
    out, they would be megabytes of a file.

    Attributes:
        generators: of each level.
        shapes: rows and columns of each level.
    """

    generators: tuple[AnchorGenerator, ...]
    shapes: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, anchors: PyramidAnchors, canvas: tuple[int, int]) -> "AnchorGrids":
        """Return those of a canvas.

        Args:
            anchors: of the network.
            canvas: height and width, px.
        """
        strides, scales, ratios, offset, rounded = anchors.settings
        return cls(
            tuple(AnchorGenerator(s, scales, ratios, offset, rounded) for s in strides),
            tuple((-(-canvas[0] // stride), -(-canvas[1] // stride)) for stride in strides),
        )

    @property
    def strides(self) -> tuple[int, ...]:
        """Of each level."""
        return tuple(generator.stride for generator in self.generators)

    def count(self, level: int) -> int:
        """How many anchors a level has.

        Args:
            level: its number.
        """
        rows, columns = self.shapes[level]
        return rows * columns * len(self.generators[level].base_anchors)

    def write(self, graph: GraphBuilder, level: int) -> str:
        """Return (A_l, 4) float32 xyxy.

        Args:
            graph: that it will be in.
            level: its number.
        """
        generator, (rows, columns) = self.generators[level], self.shapes[level]
        x = np.zeros((1, columns, 1, 4), np.float32)
        x[0, :, 0, ::2] = np.arange(columns)[:, None] * generator.stride
        y = np.zeros((rows, 1, 1, 4), np.float32)
        y[:, 0, 0, 1::2] = np.arange(rows)[:, None] * generator.stride
        base = np.asarray(generator.base_anchors, np.float32)[None, None]
        moved = graph.op("Add", graph.op("Add", x, y), base)
        return graph.op("Reshape", moved, [-1, 4])


def propose(
    graph: GraphBuilder,
    cell: Proposal,
    logits: Sequence[str],
    deltas: Sequence[str],
    anchors: AnchorGrids,
    limit: str,
) -> tuple[str, str, int]:
    """Propose, as `Proposal.construct`.

    Args:
        graph: that all is in.
        cell: gives the settings.
        logits: (B, A_l) float32 of each level.
        deltas: (B, A_l, 4) float32 of each level.
        anchors: of each level.
        limit: width and height that boxes are clipped to, (B, 1, 2) float32.

    Returns:
        Proposals (B, N, 4) float32 xyxy and which are valid, (B, N) bool; and N.
    """
    boxes, scores, total = [], [], 0
    for level in range(len(logits)):
        count = min(cell.nms_pre, anchors.count(level))
        best, order = graph.ops("TopK", 2, logits[level], [count], axis=1)
        references = graph.op("Gather", anchors.write(graph, level), order, axis=0)
        found = decode(graph, cell.coder, references, graph.picked(deltas[level], order))
        found = clip(graph, found, limit)
        boxes.append(found.joined(graph))
        scores.append(_thinned(graph, cell, found, best, count, limit))
        total += min(count, cell.nms_post)
    number = min(cell.max_num, total)
    all_scores = graph.op("Concat", *scores, axis=1)
    best, order = graph.ops("TopK", 2, all_scores, [number], axis=1)
    rois = graph.picked(graph.op("Concat", *boxes, axis=1), order)
    return rois, graph.op("Greater", best, float(np.float32(LOWEST))), number


def _thinned(
    graph: GraphBuilder, cell: Proposal, found: Boxes, scores: str, count: int, limit: str
) -> str:
    """Return the scores (B, count), `LOWEST` for boxes that went."""
    # Ranks, which are above 0, in the place of logits: some runtimes drop scores below it.
    ranks: str | np.ndarray = np.arange(count, 0, -1, dtype=np.float32)[None]
    sizeable = is_sizeable(graph, found, limit, cell.min_size, cell.offset)
    if sizeable is None:
        ranks = graph.op("Add", graph.op("Mul", scores, 0.0), ranks)
    else:
        ranks = graph.op("Mul", as_float(graph, sizeable), ranks)
    most = min(cell.nms_post, count)
    places = non_max_suppression(graph, found, ranks, cell.nms.iou_threshold, most)
    return only_at(graph, scores, places, LOWEST)
