# SPDX-License-Identifier: Apache-2.0
"""Our C++ operator that makes an update of all weights: MindSpore compiles for minutes for it."""

from collections.abc import Sequence

import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn
from mindspore import dtype as mstype

from .build import Library
from .custom import given, operator

SGD, ADAM, ADAMW = range(3)  # as updating.h has them


class NativeUpdate(nn.Cell):
    """What `GradientUpdate` does with `nn.Momentum` or `optimization.adam.Adam`, in one operator.

    It has to be a graph of its own: MindSpore does not know that parameters change in it.

    Args:
        library: our compiled operators, of `build.library()`.
        weights: those that are trained, all float32.
        moments: what the optimizer keeps of each: one tuple for SGD, two for Adam.
        rule: SGD, ADAM (decay in the gradients) or ADAMW.
        betas: momentum and 0, or Adam's two.
        eps: Adam's.
        rates: (places,) float32 table of the rates of all steps.
        scales, decays: of each weight, what the rate is multiplied with, and its decay.
        steps: the optimizer's count of steps, (1,) int32.
        updates: its count of updates, which Adam's corrections depend on, (1,) int32.
        clip_norm: largest global L2 norm of the gradients; 0 leaves them as they are.
        sums: parameters that hold the gradients, added up over `batches`; they are set to 0
            afterwards. Without them it is told where the gradients are.
        batches: so many have been added up.
    """

    def __init__(
        self,
        library: Library,
        weights: Sequence[Parameter],
        moments: Sequence[Sequence[Parameter]],
        *,
        rule: int,
        betas: tuple[float, float],
        eps: float,
        rates: Tensor,
        scales: Sequence[float],
        decays: Sequence[float],
        steps: Parameter,
        updates: Parameter,
        clip_norm: float = 0.0,
        sums: Sequence[Parameter] = (),
        batches: int = 1,
    ) -> None:
        super().__init__(auto_prefix=False)
        types = {parameter.dtype for kind in (weights, *moments) for parameter in kind}
        if types != {mstype.float32}:
            raise TypeError(f"the CPU operators take float32, not {types}")
        self.weights = ParameterTuple(weights)
        self.moments = ParameterTuple([one for kind in moments for one in kind])
        settings = [rule, *betas, eps, clip_norm, batches, bool(sums)]
        self.settings = Tensor(settings, mstype.float32)
        self.members = Tensor(np.stack([scales, decays], axis=1), mstype.float32)
        self.rates = Parameter(rates, name="rates_of_all_steps", requires_grad=False)
        self.steps, self.updates = steps, updates
        self.sums = ParameterTuple(sums)
        self.update = operator(library, "update_weights", lambda *shapes: [1])

    def places(self, gradients: Sequence[Tensor]) -> Tensor:
        """Return where the gradients are in memory, (weights,) int64.

        MindSpore keeps the inputs of a graph until its next run: gradients would stay through the
        whole next step. These addresses are of use as long as the caller has the gradients.

        Args:
            gradients: float32, in the order of the weights, and computed by now.

        Raises:
            ValueError: they are not those of the weights.
        """
        for gradient, weight in zip(gradients, self.weights, strict=True):
            if gradient.shape != weight.shape or gradient.dtype != mstype.float32:
                raise ValueError(
                    f"the gradient of {weight.name} {weight.shape} cannot be {gradient.dtype} "
                    f"{gradient.shape}"
                )
        return Tensor(np.array([gradient.data_ptr() for gradient in gradients], np.int64))

    def construct(self, loss_scale: Tensor, places: Tensor | None = None) -> Tensor:
        """Update the weights.

        Args:
            loss_scale: () float32, what the gradients have been multiplied with.
            places: of `places`, of all gradients; None where there are sums.

        Returns:
            (1,) float32, their norm before clipping; when it is not finite, only the count of steps
            has changed.
        """
        return self.update(
            loss_scale,
            self.settings,
            self.members,
            self.rates,
            self.steps,
            self.updates,
            *self.weights,
            *given(places),
            *self.sums,
            *self.moments,
        )
