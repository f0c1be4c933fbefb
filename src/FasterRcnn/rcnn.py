# SPDX-License-Identifier: Apache-2.0
"""Second stage: box head and loss (Fast R-CNN, section 2; FPN, section 4.2)."""

from collections.abc import Callable

import mindspore as ms
from mindspore import Tensor, nn, ops
from mindspore.common.initializer import Normal

from .layers import Dense, at_least_one, masked_sum


class Rcnn(nn.Cell):
    """Two shared dense layers, then class scores and class-specific deltas.

    Args:
        in_channels: of a flattened RoI feature.
        hidden_channels: of the shared layers.
        num_classes: with the background.
        unused_outputs: scores between the background's and the classes' that belong to no class.
            (torchvision's COCO detectors have them.)
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, num_classes: int, unused_outputs: int = 0
    ) -> None:
        super().__init__()
        self.shared_fc_0 = Dense(in_channels, hidden_channels)
        self.shared_fc_1 = Dense(hidden_channels, hidden_channels)
        self.cls_scores = Dense(hidden_channels, num_classes + unused_outputs, Normal(0.01))
        self.reg_scores = Dense(hidden_channels, (num_classes - 1) * 4, Normal(0.001))

    def construct(self, roi_features: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, num_classes + unused_outputs) and deltas (N, num_classes - 1, 4).

        Both are float32.

        Args:
            roi_features: (N, C, h, w), what RoIAlign has pooled; C * h * w is `in_channels`.
        """
        x = ops.reshape(roi_features, (roi_features.shape[0], -1))
        x = ops.relu(self.shared_fc_0(x))
        x = ops.relu(self.shared_fc_1(x))
        logits = ops.cast(self.cls_scores(x), ms.float32)
        deltas = ops.cast(self.reg_scores(x), ms.float32)
        return logits, ops.reshape(deltas, (x.shape[0], -1, 4))


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
