# SPDX-License-Identifier: Apache-2.0
"""One training step: losses, gradients, their checks, the update; and the loss scale."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from .FasterRcnn.names import total_loss
from .model_utils.config import Config
from .optimization.adam import Adam
from .optimization.gradient_update import GradientUpdate
from .optimization.groups import GroupRules, parameter_groups
from .optimization.rate_table import rate_table

Batch = Sequence[Tensor]
Call = Callable[..., Any]  # of a Cell with its inputs


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
    parameters: Iterable[Parameter | dict[str, Any]],
    rates: np.ndarray,
    *,
    momentum: float,
    weight_decay: float,
) -> nn.Optimizer:
    """Return SGD with momentum in PyTorch's form: v = momentum * v + g + decay * p; p -= rate * v.

    `nn.Momentum` computes just that with one state tensor a parameter; `nn.SGD` needs two. Weight
    decay leaves out the normalisation's gamma and beta, MindSpore's rule for ungrouped parameters.

    Args:
        parameters: those to train, or groups of `parameter_groups`.
        rates: (steps,) float32, the rate of every step of the run.
        momentum: 0 to 1.
        weight_decay: this times a weight is added to its gradient.
    """
    return nn.Momentum(
        list(parameters),
        learning_rate=rate_table(rates),
        momentum=momentum,
        weight_decay=weight_decay,
    )


def build_optimizer(
    config: Config, parameters: Iterable[Parameter], rates: np.ndarray
) -> nn.Optimizer:
    """Return the optimizer that a configuration describes.

    Args:
        config: uses optimizer, momentum, adam_betas, adam_eps and the keys of `GroupRules`.
        parameters: those to train.
        rates: (steps,) float32, the rate of every step of the run.
    """
    parameters, rules = list(parameters), GroupRules.from_config(config)
    if config.optimizer == "sgd":
        groups = None if rules.are_usual() else parameter_groups(parameters, rates, rules)
        return make_optimizer(
            groups or parameters, rates, momentum=config.momentum, weight_decay=config.weight_decay
        )
    return Adam(
        parameter_groups(parameters, rates, rules),
        betas=config.adam_betas,
        eps=config.adam_eps,
        decoupled=config.optimizer == "adamw",
    )


class TrainingStep(Protocol):
    """What makes a step of training: `TrainOneStep`, or one of `training.steps`.

    Attributes:
        loss_net: Cell that returns a tuple of float32 scalars in the order of `names.Losses`.
        optimizer: over the parameters to train.
    """

    loss_net: nn.Cell
    optimizer: nn.Optimizer

    @property
    def backward(self) -> nn.Cell:
        """The Cell of a batch's losses and gradients."""

    def set_train(self, mode: bool = True) -> Any:
        """Put the network into training or evaluation mode.

        Args:
            mode: whether it is training.
        """

    def make(
        self, call: Call, loss_scale: Tensor, batches: Sequence[Batch]
    ) -> tuple[np.ndarray, float]:
        """Make a step.

        Args:
            call: calls a Cell with its inputs, such as a `CompileCache`.
            loss_scale: () float32, the factor on the loss that is differentiated.
            batches: of the step, each the arguments of `loss_net`.

        Returns:
            losses: (6,) float32 means over the batches, not scaled.
            grad_norm: before clipping: not finite on overflow, on every rank alike.
        """


class LossAndGradients(nn.Cell):
    """Forward and backward, with which the graph of every training step begins.

    Args:
        loss_net: Cell that returns a tuple of float32 scalars in the order of `names.Losses`.
        parameters: those that get gradients.
    """

    def __init__(self, loss_net: nn.Cell, parameters: ParameterTuple) -> None:
        super().__init__(auto_prefix=False)
        self.loss_net = loss_net
        self.loss_and_grads = ms.value_and_grad(self._scaled_loss, None, parameters, has_aux=True)

    def _scaled_loss(self, loss_scale: Tensor, *batch: Tensor) -> tuple[Tensor, Tensor]:
        losses = self.loss_net(*batch)
        return total_loss(losses) * loss_scale, ops.stack(losses)


class TrainOneStep(LossAndGradients):
    """Forward, backward, and one `GradientUpdate`, as one graph.

    Args:
        loss_net: Cell that returns a tuple of float32 scalars in the order of `names.Losses`.
        optimizer: over the parameters to train.
        clip_norm, world_size, mean_over_ranks: see `GradientUpdate`.
    """

    def __init__(
        self,
        loss_net: nn.Cell,
        optimizer: nn.Optimizer,
        *,
        clip_norm: float = 0.0,
        world_size: int = 1,
        mean_over_ranks: nn.Cell | None = None,
    ) -> None:
        super().__init__(loss_net, optimizer.parameters)
        self.optimizer = optimizer
        self.update = GradientUpdate(
            optimizer, clip_norm=clip_norm, world_size=world_size, mean_over_ranks=mean_over_ranks
        )

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
        return losses, self.update(gradients, loss_scale)

    @property
    def backward(self) -> nn.Cell:
        """See `TrainingStep`."""
        return self

    def make(
        self, call: Call, loss_scale: Tensor, batches: Sequence[Batch]
    ) -> tuple[np.ndarray, float]:
        """Make a step of one batch, see `TrainingStep`.

        Args:
            call, loss_scale, batches: as there.
        """
        (batch,) = batches
        losses, norm = call(self, loss_scale, *batch)
        return losses.asnumpy(), float(norm.asnumpy())
