# SPDX-License-Identifier: Apache-2.0
"""Adam and AdamW, as PyTorch defines them."""

import math
from typing import Any

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops
from mindspore.ops import composite

_update = composite.MultitypeFuncGraph("update")
_KERNEL = ops.AdamWeightDecay()


@_update.register(*["Tensor"] * 5, "Number", *["Tensor"] * 4)
def _update_one(
    correction: Tensor,
    eps: Tensor,
    beta1: Tensor,
    beta2: Tensor,
    rate: Tensor,
    decay: float,
    gradient: Tensor,
    weight: Tensor,
    moment1: Tensor,
    moment2: Tensor,
) -> Tensor:
    """Update one parameter: the kernel has no bias correction, so that it goes into its inputs.

    It computes weight -= r * (moment1 / (sqrt(moment2) + eps) + d * weight); with the rate times
    the correction as r, and the decay over it as d, the decay is rate * decay.
    """
    scaled = rate * correction
    return _KERNEL(
        weight, moment1, moment2, scaled, beta1, beta2, eps, decay / correction, gradient
    )


class Adam(nn.Optimizer):
    """Adam with bias correction: m and v are moving means of the gradients and of their squares,
    p -= rate * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).

    MindSpore's own Adam adds eps before the correction, and its AdamWeightDecay has none.

    Args:
        groups: of `parameter_groups`.
        betas: b1 and b2, from 0 on and below 1.
        eps: above 0.
        decoupled: AdamW: weights decay by rate * decay; else decay * weight is added to gradients.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        decoupled: bool = True,
    ) -> None:
        super().__init__(groups[0]["lr"], groups)
        self.moment1 = self.parameters.clone(prefix="moment1", init="zeros")
        self.moment2 = self.parameters.clone(prefix="moment2", init="zeros")
        # Of the updates that were made: `global_step` counts those that overflowed too.
        self.update_count = Parameter(Tensor([0], ms.int32), name="update_count")
        self.decoupled = decoupled
        self.decays = tuple(d if decoupled else 0.0 for d in self.group_weight_decay)
        self.beta1, self.beta2 = (Tensor(beta, ms.float32) for beta in betas)
        # 1 - b^t through expm1: in float32, 1 - 0.999 has lost four of its seven digits.
        self.log_beta1, self.log_beta2 = (Tensor(_log(beta), ms.float32) for beta in betas)
        self.eps = Tensor(eps, ms.float32)
        self.expm1 = ops.Expm1()

    def construct(self, gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Update the parameters.

        Args:
            gradients: in the order of the parameters.
        """
        if not self.decoupled:
            gradients = self.decay_weight(gradients)
        rates = self.get_lr()
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        self.assignadd(self.update_count, self.global_step_increase_tensor)
        count = self.update_count.astype(ms.float32).reshape(())
        root = ops.sqrt(-self.expm1(count * self.log_beta2))
        correction = root / -self.expm1(count * self.log_beta1)
        return self.hyper_map_reverse(
            ops.partial(_update, correction, self.eps * root, self.beta1, self.beta2),
            rates,
            self.decays,
            gradients,
            self.parameters,
            self.moment1,
            self.moment2,
        )


def _log(beta: float) -> float:
    """The logarithm; of 0 a number whose power is 0."""
    return math.log(beta) if beta > 0 else -1e4
