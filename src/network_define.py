# SPDX-License-Identifier: Apache-2.0
"""One training step: losses, gradients, their checks, the update; and the loss scale."""

from collections.abc import Iterable, Mapping
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from .FasterRcnn.names import total_loss
from .model_utils.config import Config


class LossScaler:
    """The factor on the loss that keeps fp16 gradients away from zero; lives on the host.

    A static scale never changes. A dynamic one halves after a step whose gradients overflowed (that
    step is skipped), and doubles after `window` good steps in a row.

    Args:
        scale: the factor to start with; a power of two changes no bit of an fp32 result.
        dynamic: whether it adapts.
        window: good steps before a dynamic scale doubles.
    """

    LOWEST, HIGHEST = 1.0, 2.0**24

    def __init__(self, scale: float, *, dynamic: bool = False, window: int = 1000) -> None:
        if not (np.isfinite(scale) and scale > 0) or window < 1:
            raise ValueError(f"loss scale must be positive, got {scale} (window {window})")
        self.scale = float(scale)
        self.dynamic = dynamic
        self.window = window
        self.good_steps = 0

    def update(self, finite: bool) -> None:
        """Take note of how the last step's gradients were.

        Args:
            finite: whether all of them were finite; if not, the step was skipped.
        """
        if not self.dynamic:
            return
        if not finite:
            self.scale, self.good_steps = max(self.scale / 2, self.LOWEST), 0
        elif self.good_steps + 1 >= self.window:
            self.scale, self.good_steps = min(self.scale * 2, self.HIGHEST), 0
        else:
            self.good_steps += 1

    def state(self) -> dict:
        """Return what `restore` needs: plain numbers."""
        return {"scale": self.scale, "good_steps": self.good_steps}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from `state()` of another run; a static scale keeps the configured factor.

        Args:
            state: what `state` returned.
        """
        if self.dynamic:
            self.scale, self.good_steps = float(state["scale"]), int(state["good_steps"])


def make_optimizer(
    parameters: Iterable[Parameter], rates: np.ndarray, *, momentum: float, weight_decay: float
) -> nn.Optimizer:
    """Return SGD with momentum in PyTorch's form: v = momentum * v + g + decay * p; p -= rate * v.

    `nn.Momentum` computes just that with one state tensor a parameter; `nn.SGD` needs two. Weight
    decay leaves out the normalisation's gamma and beta, MindSpore's rule for ungrouped parameters.

    Args:
        parameters: those to train.
        rates: (steps,) float32, the rate of every step of the run.
        momentum: 0 to 1.
        weight_decay: this times a weight is added to its gradient.
    """
    return nn.Momentum(
        list(parameters),
        learning_rate=Tensor(rates, ms.float32),
        momentum=momentum,
        weight_decay=weight_decay,
    )


def build_optimizer(
    config: Config, parameters: Iterable[Parameter], rates: np.ndarray
) -> nn.Optimizer:
    """Return the optimizer that a configuration describes.

    Args:
        config: uses momentum and weight_decay.
        parameters: those to train.
        rates: (steps,) float32, the rate of every step of the run.
    """
    return make_optimizer(
        parameters, rates, momentum=config.momentum, weight_decay=config.weight_decay
    )


class TrainOneStep(nn.Cell):
    """Forward, backward, and one update of the parameters, as one graph.

    The gradients are averaged over the ranks, divided by the loss scale, and clipped to a global
    norm. When that norm is not finite nothing is updated but the optimizer's step counter: the
    schedule belongs to the steps of the run, not to the steps that went well.

    Args:
        loss_net: Cell that returns a tuple of float32 scalars in the order of `names.Losses`.
        optimizer: over the parameters to train.
        clip_norm: largest global L2 norm of the gradients; 0 leaves them as they are.
        world_size: number of ranks; above 1 the gradients are averaged over all of them.
    """

    def __init__(
        self,
        loss_net: nn.Cell,
        optimizer: nn.Optimizer,
        *,
        clip_norm: float = 0.0,
        world_size: int = 1,
    ) -> None:
        super().__init__(auto_prefix=False)
        self.loss_net = loss_net
        self.optimizer = optimizer
        self.clip_norm = float(clip_norm)
        self.reducer = ops.identity
        if world_size > 1:
            self.reducer = nn.DistributedGradReducer(optimizer.parameters, mean=True)
        self.loss_and_grads = ms.value_and_grad(
            self._scaled_loss, None, optimizer.parameters, has_aux=True
        )
        self.one_step = Tensor([1], ms.int32)

    def _scaled_loss(self, loss_scale: Tensor, *batch: Tensor) -> tuple[Tensor, Tensor]:
        losses = self.loss_net(*batch)
        return total_loss(losses) * loss_scale, ops.stack(losses)

    def construct(self, loss_scale: Tensor, *batch: Tensor) -> tuple[Tensor, Tensor]:
        """Make a step.

        Args:
            loss_scale: () float32, the factor on the loss that is differentiated.
            batch: the arguments of `loss_net`.

        Returns:
            losses: (6,) float32, not scaled.
            grad_norm: () float32, before clipping: not finite on overflow, on every rank alike.
        """
        (_, losses), gradients = self.loss_and_grads(loss_scale, *batch)
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
        return losses, norm


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
