# SPDX-License-Identifier: Apache-2.0
"""Our C++ operators that thin out boxes, as Cells."""

from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype

from ..FasterRcnn.names import SOFT_GAUSSIAN
from ..FasterRcnn.soft_nms import SoftNmsRounds
from .build import Library
from .custom import given, no_gradient, operator


class NativeSoftNms(nn.Cell):
    """What `soft_nms.SoftNmsRounds` computes, without a table of all pairs.

    Args:
        library: our compiled operators, of `build.library()`.
        rounds: the Cell that it takes the place of.
    """

    def __init__(self, library: Library, rounds: SoftNmsRounds) -> None:
        super().__init__()
        is_gaussian = float(rounds.kind == SOFT_GAUSSIAN)
        rule = [is_gaussian, rounds.iou_threshold, rounds.sigma, rounds.min_score]
        self.rule = Tensor(rule, mstype.float32)
        self.most = Tensor([rounds.most], mstype.int32)
        self.take = operator(library, "soft_nms", lambda *shapes: shapes[1])

    def construct(self, boxes: Tensor, scores: Tensor, groups: Tensor) -> Tensor:
        """Suppress, as `soft_nms.SoftNmsRounds.construct` does.

        Args:
            boxes, scores, groups: as there.
        """
        return self.take(boxes, scores, groups, self.rule, self.most)


class NativeNms(nn.Cell):
    """What `nms.KernelNms` computes; MindSpore's operator compares all pairs, on one thread.

    Boxes stay where they are, so that their overlaps are not rounded by a grid's coordinates.

    Args:
        library: our compiled operators, of `build.library()`.
        iou_threshold: see there.
    """

    def __init__(self, library: Library, iou_threshold: float) -> None:
        super().__init__()
        self.threshold = Tensor([iou_threshold], mstype.float32)
        self.suppress = operator(library, "hard_nms", lambda *shapes: shapes[1], _second_type)

    def construct(
        self, boxes: Tensor, valid: Tensor, groups: Tensor | None, parts: Tensor
    ) -> Tensor:
        """Suppress, as `nms.KernelNms.construct` does.

        Args:
            boxes, valid, groups: as there.
            parts: as there, (parts,) int32.
        """
        return self.suppress(boxes, valid, self.threshold, parts, *given(groups))

    def bprop(
        self,
        boxes: Tensor,
        valid: Tensor,
        groups: Tensor | None,
        parts: Tensor,
        kept: Tensor,
        gradient: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Return no gradients: which boxes stay has none.

        Args:
            boxes, valid, groups, parts: as for `construct`.
            kept: what it returned.
            gradient: of no use.
        """
        return (
            ops.zeros_like(boxes),
            ops.zeros_like(valid),
            no_gradient(groups),
            ops.zeros_like(parts),
        )


def _second_type(first: mstype.Type, second: mstype.Type, *others: mstype.Type) -> mstype.Type:
    return second
