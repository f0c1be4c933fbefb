# SPDX-License-Identifier: Apache-2.0
"""How far predicted boxes are from their targets: the regression losses of both stages.

A box loss is a Cell with the arguments of `SmoothL1Loss`; the configuration names it by its key in
`BOX_LOSSES`. One that compares boxes and not deltas can decode both relative to any box, such as
the unit square: overlaps do not depend on it.
"""

from mindspore import Tensor, nn, ops

from .box_ops import BoxCoder


class SmoothL1Loss(nn.Cell):
    """Smooth L1 (Fast R-CNN, equation 3), quadratic below `beta`.

    Args:
        coder: what deltas mean.
        beta: where the loss turns from square to linear.
    """

    def __init__(self, coder: BoxCoder, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def construct(self, deltas: Tensor, targets: Tensor) -> Tensor:
        """Return one loss a box, (...) float32.

        Args:
            deltas: (..., 4) float32, predicted: dx, dy, dw, dh.
            targets: (..., 4) float32, what they should be.
        """
        difference = ops.abs(deltas - targets)
        quadratic = difference * difference * (0.5 / self.beta)
        loss = ops.select(difference < self.beta, quadratic, difference - 0.5 * self.beta)
        return ops.reduce_sum(loss, -1)


class L1Loss(nn.Cell):
    """The sum of absolute differences (the default of detectron2 and mmdetection 2).

    Args:
        coder, beta: of no use here.
    """

    def __init__(self, coder: BoxCoder, beta: float) -> None:
        super().__init__()

    def construct(self, deltas: Tensor, targets: Tensor) -> Tensor:
        """See `SmoothL1Loss.construct`.

        Args:
            deltas, targets: (..., 4) float32.
        """
        return ops.reduce_sum(ops.abs(deltas - targets), -1)


BOX_LOSSES: dict[str, type[nn.Cell]] = {"smooth_l1": SmoothL1Loss, "l1": L1Loss}


def build_box_loss(kind: str, coder: BoxCoder, beta: float) -> nn.Cell:
    """Return the box loss that a configuration calls `kind`.

    Args:
        kind: a key of `BOX_LOSSES`.
        coder: what the deltas of the stage mean.
        beta: see `SmoothL1Loss`.

    Raises:
        ValueError: there is no such loss.
    """
    if kind not in BOX_LOSSES:
        raise ValueError(f"box loss {kind!r} is none of {', '.join(BOX_LOSSES)}")
    return BOX_LOSSES[kind](coder, beta)
