# SPDX-License-Identifier: Apache-2.0
"""From gradients to new weights: average over the ranks, clipping, overflow, the optimizer."""

import mindspore as ms
from mindspore import Tensor, nn, ops


class GradientUpdate(nn.Cell):
    """From gradients to new weights.

    The gradients are averaged over the ranks, divided by the loss scale, and clipped to a global
    norm. When that norm is not finite nothing is updated but the optimizer's step counter: the
    schedule belongs to the steps of the run, not to the steps that went well.

    Args:
        optimizer: over the parameters to train.
        clip_norm: largest global L2 norm of the gradients; 0 leaves them as they are.
        world_size: number of ranks; above 1 the gradients are averaged over all of them.
        mean_over_ranks: Cell that does so, gradients -> gradients; MindSpore's by default.
    """

    def __init__(
        self,
        optimizer: nn.Optimizer,
        *,
        clip_norm: float = 0.0,
        world_size: int = 1,
        mean_over_ranks: nn.Cell | None = None,
    ) -> None:
        super().__init__(auto_prefix=False)
        self.optimizer = optimizer
        self.clip_norm = float(clip_norm)
        self.reducer = ops.identity
        if world_size > 1:
            parameters = optimizer.parameters
            self.reducer = mean_over_ranks or nn.DistributedGradReducer(parameters, mean=True)
        self.one_step = Tensor([1], ms.int32)

    def construct(self, gradients: tuple[Tensor, ...], loss_scale: Tensor) -> Tensor:
        """Update the weights.

        Args:
            gradients: in the order of the optimizer's parameters.
            loss_scale: () float32, what they have been multiplied with.

        Returns:
            () float32, their norm before clipping: not finite on overflow, on every rank alike.
        """
        gradients = self.reducer(gradients)
        unscale = 1.0 / loss_scale
        norm = global_norm(gradients) * unscale
        factor = unscale
        if self.clip_norm > 0:
            factor = factor * ops.minimum(self.clip_norm / (norm + 1e-6), Tensor(1.0, ms.float32))
        if ops.isfinite(norm):
            update: tuple[Tensor, ...] = ()
            for gradient in gradients:
                update = update + (gradient * factor,)
            self.optimizer(update)
        else:
            ops.assign_add(self.optimizer.global_step, self.one_step)
        return norm


def global_norm(gradients: tuple[Tensor, ...]) -> Tensor:
    """Return the L2 norm over all tensors together, () float32.

    Row by row first: MindSpore's sum over everything at once runs on one thread on a CPU.

    Args:
        gradients: of any shapes with at least one dimension.
    """
    squares = ops.zeros((), ms.float32)
    for gradient in gradients:
        rows = ops.reshape(ops.square(gradient), (gradient.shape[0], -1))
        squares = squares + ops.reduce_sum(ops.reduce_sum(rows, 1))
    return ops.sqrt(squares)
