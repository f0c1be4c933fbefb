# SPDX-License-Identifier: Apache-2.0
"""Steps of training of more than one graph: the update apart, gradients of several batches."""

from collections.abc import Callable, Sequence

import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from ..network_define import Batch, Call, LossAndGradients
from ..optimization.gradient_update import GradientUpdate


class BatchGradients(LossAndGradients):
    """Forward and backward, as one graph.

    Args:
        loss_net, parameters: see `LossAndGradients`.
        mean_over_ranks: Cell that averages the gradients over the ranks; None: they stay as they
            are.
    """

    def __init__(
        self, loss_net: nn.Cell, parameters: ParameterTuple, mean_over_ranks: nn.Cell | None = None
    ) -> None:
        super().__init__(loss_net, parameters)
        self.reducer = mean_over_ranks or ops.identity

    def construct(self, loss_scale: Tensor, *batch: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Take a batch; return its losses, (6,) float32, not scaled, and the gradients.

        Args:
            loss_scale: () float32, the factor on the loss that is differentiated.
            batch: the arguments of `loss_net`.
        """
        (_, losses), gradients = self.loss_and_grads(loss_scale, *batch)
        return losses, self.reducer(gradients)


class StepInTwoGraphs:
    """One step as `TrainOneStep` makes it, the update as a graph of its own.

    Args:
        loss_net, optimizer: see `TrainOneStep`.
        mean_over_ranks: see `BatchGradients`.
        update: Cell that takes the loss scale and the gradients, updates the weights, and returns
            the gradients' norm.
    """

    def __init__(
        self,
        loss_net: nn.Cell,
        optimizer: nn.Optimizer,
        update: nn.Cell,
        mean_over_ranks: nn.Cell | None = None,
    ) -> None:
        self.loss_net, self.optimizer, self.update = loss_net, optimizer, update
        self.gradients = BatchGradients(loss_net, optimizer.parameters, mean_over_ranks)

    @property
    def backward(self) -> nn.Cell:
        """See `TrainingStep`."""
        return self.gradients

    def set_train(self, mode: bool = True) -> None:
        """See `TrainingStep`.

        Args:
            mode: whether it is training.
        """
        self.gradients.set_train(mode)

    def make(
        self, call: Call, loss_scale: Tensor, batches: Sequence[Batch]
    ) -> tuple[np.ndarray, float]:
        """Make a step of one batch, see `TrainingStep`.

        Args:
            call, loss_scale, batches: as there.
        """
        (batch,) = batches
        losses, gradients = call(self.gradients, loss_scale, *batch)
        numbers = losses.asnumpy()  # the gradients are computed by now
        norm = call(self.update, loss_scale, self.update.places(gradients))
        return numbers, norm.asnumpy().item()


class SumGradients(LossAndGradients):
    """Forward and backward; the gradients are added to those of the batches before, as one graph.

    Args:
        loss_net, parameters: see `LossAndGradients`.

    Attributes:
        sums: of the gradients since the last update.
    """

    def __init__(self, loss_net: nn.Cell, parameters: ParameterTuple) -> None:
        super().__init__(loss_net, parameters)
        self.sums = parameters.clone(prefix="gradient_sum", init="zeros")
        self.each = ops.HyperMap()

    def construct(self, loss_scale: Tensor, *batch: Tensor) -> Tensor:
        """Take a batch; return its losses, (6,) float32, not scaled.

        Args:
            loss_scale: () float32, the factor on the loss that is differentiated.
            batch: the arguments of `loss_net`.
        """
        (_, losses), gradients = self.loss_and_grads(loss_scale, *batch)
        return ops.depend(losses, self.each(ops.assign_add, self.sums, gradients))


class UpdateFromSums(nn.Cell):
    """One `GradientUpdate` with the mean of summed gradients, which begin at 0 again.

    Args:
        sums: of the gradients of several batches.
        update: what is done with their mean.
        batches: so many.
    """

    def __init__(self, sums: ParameterTuple, update: GradientUpdate, batches: int) -> None:
        super().__init__(auto_prefix=False)
        self.sums, self.update, self.batches = sums, update, batches
        self.each = ops.HyperMap()

    def construct(self, loss_scale: Tensor) -> Tensor:
        """Update the weights; return the norm of the mean gradient, () float32.

        Args:
            loss_scale: () float32, what the gradients have been multiplied with.
        """
        norm = self.update(self.sums, loss_scale * self.batches)
        return ops.depend(norm, self.each(_to_zero, self.sums))


def _to_zero(parameter: Parameter) -> Tensor:
    """Begin a sum anew; after what has read it before, as the order of the program is kept."""
    return ops.assign(parameter, ops.zeros_like(parameter))


class AccumulatedStep:
    """One step from several batches: their gradients are added up, and their mean makes the update.

    That is the step of a batch as large as all of them, where each has the same share of the loss.

    Args:
        loss_net, optimizer, clip_norm, world_size, mean_over_ranks: see `TrainOneStep`.
        batches: so many make a step.
        make_update: makes the Cell that does as `UpdateFromSums` does, from `sums`; that one by
            default.
    """

    def __init__(
        self,
        loss_net: nn.Cell,
        optimizer: nn.Optimizer,
        *,
        batches: int,
        clip_norm: float = 0.0,
        world_size: int = 1,
        mean_over_ranks: nn.Cell | None = None,
        make_update: Callable[..., nn.Cell] | None = None,
    ) -> None:
        self.loss_net, self.optimizer = loss_net, optimizer
        self.sum = SumGradients(loss_net, optimizer.parameters)
        if make_update is not None:
            self.update = make_update(sums=self.sum.sums)
            return
        update = GradientUpdate(
            optimizer, clip_norm=clip_norm, world_size=world_size, mean_over_ranks=mean_over_ranks
        )
        self.update = UpdateFromSums(self.sum.sums, update, batches)

    @property
    def backward(self) -> nn.Cell:
        """See `TrainingStep`."""
        return self.sum

    def set_train(self, mode: bool = True) -> None:
        """See `TrainingStep`.

        Args:
            mode: whether it is training.
        """
        self.sum.set_train(mode)
        self.update.set_train(mode)

    def make(
        self, call: Call, loss_scale: Tensor, batches: Sequence[Batch]
    ) -> tuple[np.ndarray, float]:
        """Make a step, see `TrainingStep`.

        Args:
            call, loss_scale, batches: as there.
        """
        losses = [call(self.sum, loss_scale, *batch).asnumpy() for batch in batches]
        norm = call(self.update, loss_scale)
        return np.mean(losses, axis=0), norm.asnumpy().item()
