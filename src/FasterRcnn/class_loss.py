# SPDX-License-Identifier: Apache-2.0
"""How far class scores are from labels: the second stage's classification loss."""

from collections.abc import Callable, Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from .box_ops import gather_rows
from .layers import at_least_one, masked_sum


class ClassLoss(nn.Cell):
    """Softmax cross entropy over the RoIs of a batch, with the arithmetic of torch's
    `cross_entropy`.

    Args:
        label_smoothing: share of the target that all classes, the background too, have in common;
            0 to 1 (Szegedy et al. 2016). Outputs of no class have none of it.
        class_weights: one a class, the background's first, none negative; empty: all count alike.
            The loss is then divided by the sum of the RoIs' weights, so a common factor of all
            weights is of no effect.
        divisor: number or weight of the chosen RoIs, () float32 -> what to divide by.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] = (),
        divisor: Callable[[Tensor], Tensor] = at_least_one,
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.class_weights = Tensor(_at_least_one(class_weights)) if class_weights else None
        self.divisor = divisor

    def construct(
        self, logits: Tensor, labels: Tensor, chosen: Tensor, num_classes: int, number: Tensor
    ) -> Tensor:
        """Compute the loss, () float32.

        Args:
            logits: (N, 1 + C) float32; outputs between the background's and the last C are of no
                class.
            labels: (N,) int32, 0 for background.
            chosen: (N,) bool; other RoIs do not count.
            num_classes: C.
            number: () float32, what to divide by without class weights.
        """
        unused = logits.shape[1] - 1 - num_classes
        own_output = labels + unused * ops.cast(labels > 0, ms.int32)
        log_probability = ops.log_softmax(logits, -1)
        entropy = -gather_rows(log_probability, ops.expand_dims(own_output, -1))[:, 0]
        if self.label_smoothing:
            entropy = self._smoothed(log_probability, labels, entropy, unused)
        elif self.class_weights is not None:
            entropy = entropy * ops.gather(self.class_weights, labels, 0)
        if self.class_weights is not None:
            weights = ops.gather(self.class_weights, labels, 0)
            number = self.divisor(masked_sum(weights, chosen))
        return masked_sum(entropy, chosen) / number

    def _smoothed(
        self, log_probability: Tensor, labels: Tensor, entropy: Tensor, unused: int
    ) -> Tensor:
        """Return (N,): of the own class and of all, weighted."""
        if unused:
            used = (log_probability[:, :1], log_probability[:, 1 + unused :])
            log_probability = ops.concat(used, 1)
        if self.class_weights is not None:
            entropy = entropy * ops.gather(self.class_weights, labels, 0)
            log_probability = log_probability * self.class_weights
        common = -ops.reduce_sum(log_probability, -1) / float(log_probability.shape[1])
        return (1.0 - self.label_smoothing) * entropy + self.label_smoothing * common


def _at_least_one(weights: Sequence[float]) -> np.ndarray:
    """Scale weights so that the smallest positive one is 1: the sum of one RoI is then no less,
    which is the least that losses are divided by."""
    values = np.array(weights, np.float64)
    return (values / values[values > 0].min()).astype(np.float32)
