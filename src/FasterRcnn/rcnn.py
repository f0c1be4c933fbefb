# SPDX-License-Identifier: Apache-2.0
"""Second stage: box head and loss (Fast R-CNN, section 2; FPN, section 4.2)."""

from collections.abc import Callable

import mindspore as ms
from mindspore import Tensor, nn, ops
from mindspore.common.initializer import Normal

from .conv_block import ConvStack, conv_block
from .layers import Dense, at_least_one, masked_sum
from .names import NO_NORM
from .norms import BatchNorm
from .own_canvas import Cells


class Rcnn(nn.Cell):
    """Shared 3x3 convolutions, if any, and dense layers; then class scores and deltas.

    Args:
        channels, size: of a RoI's features: (channels, size, size).
        hidden_channels: of the shared dense layers.
        num_classes: with the background.
        unused_outputs: scores between the background's and the classes' that belong to no class.
            (torchvision's COCO detectors have them.)
        convs: how many convolutions there are.
        dense: how many shared dense layers there are, 1 or 2.
        norm, eps: what follows each convolution (see `conv_block`).
        class_agnostic: all classes of a RoI have the same deltas.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        hidden_channels: int,
        num_classes: int,
        unused_outputs: int = 0,
        *,
        convs: int = 0,
        dense: int = 2,
        norm: str = NO_NORM,
        eps: float = 0.0,
        class_agnostic: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.has_convs = convs > 0
        if self.has_convs:
            self.shared_convs = ConvStack(
                [conv_block(channels, channels, 3, norm=norm, eps=eps) for _ in range(convs)]
            )
        layers = [cell for _, cell in self.cells_and_names()]
        self.of_batch = any(isinstance(layer, BatchNorm) for layer in layers)
        self.shared_fc_0 = Dense(channels * size**2, hidden_channels)
        self.has_second = dense > 1
        if self.has_second:
            self.shared_fc_1 = Dense(hidden_channels, hidden_channels)
        self.cls_scores = Dense(hidden_channels, num_classes + unused_outputs, Normal(0.01))
        self.num_boxes = 1 if class_agnostic else num_classes - 1
        self.reg_scores = Dense(hidden_channels, self.num_boxes * 4, Normal(0.001))

    def construct(
        self, roi_features: Tensor, chosen: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return logits (N, num_classes + unused_outputs) and deltas (N, num_classes - 1, 4).

        Both are float32.

        Args:
            roi_features: (N, channels, size, size), what RoIAlign has pooled.
            chosen: (N,) bool, those RoIs that the statistics of a training step are of; None: all.
        """
        x = roi_features
        if self.has_convs:
            x = self.shared_convs(x, self._counted(x, chosen))
        x = ops.reshape(x, (x.shape[0], -1))
        x = ops.relu(self.shared_fc_0(x))
        if self.has_second:
            x = ops.relu(self.shared_fc_1(x))
        logits = ops.cast(self.cls_scores(x), ms.float32)
        deltas = ops.reshape(ops.cast(self.reg_scores(x), ms.float32), (x.shape[0], -1, 4))
        if self.num_boxes != self.num_classes - 1:
            deltas = ops.broadcast_to(deltas, (x.shape[0], self.num_classes - 1, 4))
        return logits, deltas

    def _counted(self, x: Tensor, chosen: Tensor | None) -> Cells:
        """Return (N, 2) float32: rows and columns of each RoI that are there; None: all of them.

        Only statistics over several RoIs need to know. Where no RoI was chosen, all are there:
        there are no statistics of nothing.
        """
        if chosen is None or not self.of_batch:
            return None
        there = ops.cast(ops.reshape(chosen, (-1, 1)), ms.float32)
        there = ops.maximum(there, 1.0 - ops.reduce_max(there))
        return ops.concat((there * x.shape[2], there * x.shape[3]), 1)


class RcnnLoss(nn.Cell):
    """Softmax cross entropy and regression of the own class's box (Fast R-CNN, equation 1).

    Args:
        box_loss: of `box_losses.py`.
        class_loss: `ClassLoss`.
        divisor: the number of chosen RoIs, () float32 -> what both are divided by.
    """

    def __init__(
        self,
        box_loss: nn.Cell,
        class_loss: nn.Cell,
        divisor: Callable[[Tensor], Tensor] = at_least_one,
    ) -> None:
        super().__init__()
        self.box_loss = box_loss
        self.class_loss = class_loss
        self.divisor = divisor

    def construct(
        self,
        logits: Tensor,
        deltas: Tensor,
        labels: Tensor,
        chosen: Tensor,
        targets: Tensor,
        rois: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Compute the losses.

        Args:
            logits: (B*T, 1 + C) float32, of `Rcnn`; outputs between the background's and the last
                C are of no class.
            deltas: (B*T, C, 4) float32, of `Rcnn`.
            labels: (B, T) int32, 0 for background.
            chosen: (B, T) bool; other RoIs do not count.
            targets: (B, T, 4) float32; of use where labels > 0.
            rois: (B, T, 4) float32 xyxy.

        Returns:
            cls_loss and reg_loss, () float32 each.
        """
        labels, chosen = ops.reshape(labels, (-1,)), ops.reshape(chosen, (-1,))
        is_object = labels > 0
        own_deltas = _pick(deltas, ops.relu(labels - 1))
        distance = self.box_loss(
            own_deltas, ops.reshape(targets, (-1, 4)), ops.reshape(rois, (-1, 4))
        )

        number = self.divisor(ops.reduce_sum(ops.cast(chosen, ms.float32)))
        cls_loss = self.class_loss(logits, labels, chosen, deltas.shape[1], number)
        reg_loss = masked_sum(distance, is_object) / number
        return cls_loss, reg_loss


def _pick(values: Tensor, column: Tensor) -> Tensor:
    """Return (N, D): of `values` (N, C, D) in every row the `column` (N,) int32."""
    rows, columns, depth = values.shape
    flat = ops.reshape(values, (rows * columns, depth))
    start = ops.arange(0, rows * columns, columns, dtype=ms.int32)
    return ops.gather(flat, start + column, 0)
