# SPDX-License-Identifier: Apache-2.0
"""How far predicted boxes are from their targets: the regression losses of both stages.

A box loss is a Cell with the arguments of `SmoothL1Loss`; the configuration names it by its key in
`BOX_LOSSES`. Some compare deltas, others the boxes that the deltas make of their references.
"""

import math
from collections.abc import Callable

from mindspore import Tensor, nn, ops

from .box_ops import BoxCoder, as_modern, split_coordinates

# Added to divisors (px and px squared), as torchvision does: boxes can have no area.
_EPSILON = 1e-7


class SmoothL1Loss(nn.Cell):
    """Smooth L1 (Fast R-CNN, equation 3), quadratic below `beta`.

    Args:
        beta: where the loss turns from square to linear.
    """

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def construct(self, deltas: Tensor, targets: Tensor, references: Tensor) -> Tensor:
        """Return one loss a box, (...) float32.

        Args:
            deltas: (..., 4) float32, predicted: dx, dy, dw, dh.
            targets: (..., 4) float32, what they should be.
            references: (..., 4) float32 xyxy, the boxes that both are relative to.
        """
        difference = ops.abs(deltas - targets)
        quadratic = difference * difference * (0.5 / self.beta)
        loss = ops.select(difference < self.beta, quadratic, difference - 0.5 * self.beta)
        return ops.reduce_sum(loss, -1)


class L1Loss(nn.Cell):
    """The sum of absolute differences (the default of detectron2 and mmdetection 2)."""

    def construct(self, deltas: Tensor, targets: Tensor, references: Tensor) -> Tensor:
        """See `SmoothL1Loss.construct`.

        Args:
            deltas, targets, references: (..., 4) float32.
        """
        return ops.reduce_sum(ops.abs(deltas - targets), -1)


class DecodedLoss(nn.Cell):
    """A loss of the decoded boxes, in pixels.

    Args:
        coder: what deltas mean. Where its convention counts pixels, a box ends behind its last one.
        measure: boxes and their targets, (..., 4) float32 each -> (...) float32.
    """

    def __init__(self, coder: BoxCoder, measure: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.coder = coder
        self.measure = measure

    def construct(self, deltas: Tensor, targets: Tensor, references: Tensor) -> Tensor:
        """See `SmoothL1Loss.construct`; finite whatever the boxes are, and so are the gradients.

        Args:
            deltas, targets, references: (..., 4) float32.
        """
        boxes = self.coder.decode(references, deltas)
        wanted = self.coder.decode(references, targets)
        offset = self.coder.offset
        return self.measure(as_modern(boxes, offset), as_modern(wanted, offset))


def giou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """Return 1 - GIoU (Rezatofighi et al. 2019), 0 to 2; (...).

    Args:
        boxes, targets: (..., 4) xyxy, modern convention.
    """
    common, union = _common_and_union(boxes, targets)
    width, height = _sides_around(boxes, targets)
    around = width * height
    return 1.0 - common / (union + _EPSILON) + (around - union) / (around + _EPSILON)


def diou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """Return 1 - IoU and the squared distance of the centres, relative to the diagonal of the box
    around both (Zheng et al. 2020); 0 to 2, (...).

    Args:
        boxes, targets: (..., 4) xyxy, modern convention.
    """
    return 1.0 - _iou(boxes, targets) + _centre_distance(boxes, targets)


def ciou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """Return the DIoU loss and how much the aspect ratios differ (Zheng et al. 2020); (...).

    The factor of the second part has no gradient, as in the authors' program and torchvision.

    Args:
        boxes, targets: (..., 4) xyxy, modern convention.
    """
    iou = _iou(boxes, targets)
    difference = _aspect_angle(targets) - _aspect_angle(boxes)
    aspect = (4.0 / math.pi**2) * difference * difference
    factor = ops.stop_gradient(aspect / (1.0 - iou + aspect + _EPSILON))
    return 1.0 - iou + _centre_distance(boxes, targets) + factor * aspect


def _iou(boxes: Tensor, targets: Tensor) -> Tensor:
    common, union = _common_and_union(boxes, targets)
    return common / (union + _EPSILON)


def _common_and_union(boxes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return both areas, (...)."""
    x1, y1, x2, y2 = split_coordinates(boxes)
    tx1, ty1, tx2, ty2 = split_coordinates(targets)
    width = ops.relu(ops.minimum(x2, tx2) - ops.maximum(x1, tx1))
    height = ops.relu(ops.minimum(y2, ty2) - ops.maximum(y1, ty1))
    common = width * height
    return common, _area(boxes) + _area(targets) - common


def _area(boxes: Tensor) -> Tensor:
    width, height = _sides(boxes)
    return width * height


def _sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return width and height; of a box that ends before it starts they are 0."""
    x1, y1, x2, y2 = split_coordinates(boxes)
    return ops.relu(x2 - x1), ops.relu(y2 - y1)


def _sides_around(boxes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return width and height of the smallest box around both."""
    x1, y1, x2, y2 = split_coordinates(boxes)
    tx1, ty1, tx2, ty2 = split_coordinates(targets)
    width = ops.relu(ops.maximum(x2, tx2) - ops.minimum(x1, tx1))
    return width, ops.relu(ops.maximum(y2, ty2) - ops.minimum(y1, ty1))


def _centre_distance(boxes: Tensor, targets: Tensor) -> Tensor:
    """Return the centres' distance over the diagonal of the box around both, squared."""
    width, height = _sides_around(boxes, targets)
    apart = 0.5 * (boxes[..., :2] + boxes[..., 2:] - targets[..., :2] - targets[..., 2:])
    diagonal = width * width + height * height
    return ops.reduce_sum(apart * apart, -1) / (diagonal + _EPSILON)


def _aspect_angle(boxes: Tensor) -> Tensor:
    width, height = _sides(boxes)
    return ops.atan(width / ops.maximum(height, _EPSILON))


# By their names in configurations: what makes one of a stage's coder and beta.
BOX_LOSSES: dict[str, Callable[[BoxCoder, float], nn.Cell]] = {
    "smooth_l1": lambda coder, beta: SmoothL1Loss(beta),
    "l1": lambda coder, beta: L1Loss(),
    "giou": lambda coder, beta: DecodedLoss(coder, giou_loss),
    "diou": lambda coder, beta: DecodedLoss(coder, diou_loss),
    "ciou": lambda coder, beta: DecodedLoss(coder, ciou_loss),
}


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
