# SPDX-License-Identifier: Apache-2.0
"""The exponential moving average (EMA) of the weights, which is evaluated in their place."""

import contextlib
from collections.abc import Iterable, Iterator

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops
from mindspore.ops import composite

from ..model_utils.parameters import set_parameter
from ..native.averaging import NativeFollow
from ..native.build import Library

_follow = composite.MultitypeFuncGraph("follow")


@_follow.register("Tensor", "Tensor", "Tensor")
def _follow_one(share: Tensor, average: Tensor, value: Tensor) -> Tensor:
    return ops.assign_add(average, (value - average) * share)


def decay_at(step: int, decay: float) -> float:
    """Return the decay of a step: min(decay, (1 + step) / (10 + step)).

    With little behind it an average forgets faster, so that it soon is one of trained weights.

    >>> decay_at(0, 0.999), decay_at(89, 0.999)
    (0.1, 0.9090909090909091)

    Args:
        step: steps of the run before it.
        decay: the highest, 0 to 1.
    """
    return min(decay, (1 + step) / (10 + step))


class Follow(nn.Cell):
    """average += share * (value - average), of many parameters.

    Args:
        library: our C++ operators; None: MindSpore's.
    """

    def __init__(self, library: Library | None = None) -> None:
        super().__init__(auto_prefix=False)
        self.own = NativeFollow(library) if library else None
        self.each = ops.HyperMap()

    def construct(
        self, share: Tensor, averages: tuple[Tensor, ...], values: tuple[Tensor, ...]
    ) -> Tensor:
        """Change the averages in place.

        Args:
            share: (1,) float32, 1 - decay.
            averages: parameters, float32.
            values: parameters of their shapes.
        """
        if self.own is not None:
            return self.own(share, averages, values)
        return ops.depend(share, self.each(ops.partial(_follow, share), averages, values))


class MovingAverage(nn.Cell):
    """Averages of parameters, which begin as these are.

    A graph of its own, of one operator with our C++ operators: a step's own graph is the same with
    and without it.

    Args:
        parameters: float32, those that training changes, and BatchNorm's statistics.
        decay: the highest, see `decay_at`.
        library: our C++ operators; None: MindSpore's.

    Attributes:
        averages: in the order of the parameters, under names of their own.
    """

    def __init__(
        self, parameters: Iterable[Parameter], decay: float, library: Library | None = None
    ) -> None:
        super().__init__(auto_prefix=False)
        self.decay = decay
        self.values = ParameterTuple(list(parameters))
        self.averages = self.values.clone(prefix="ema", init="same")
        self.follow = Follow(library)

    def construct(self, share: Tensor) -> Tensor:
        """Let every average follow its parameter.

        Args:
            share: (1,) float32, 1 - decay.
        """
        return self.follow(share, self.averages, self.values)

    def take(self, step: int) -> None:
        """Take note of a step's weights.

        Args:
            step: its number in the run, from 1.
        """
        self(Tensor([1.0 - decay_at(step - 1, self.decay)], ms.float32))

    def begin(self) -> None:
        """Let the averages be what the parameters are."""
        for average, value in zip(self.averages, self.values, strict=True):
            set_parameter(average, _copy(value))

    def by_name(self) -> dict[str, Parameter]:
        """Return the averages by the names of their parameters."""
        return {p.name: e for p, e in zip(self.values, self.averages, strict=True)}

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the parameters the values of their averages, for what is done in this context."""
        trained = [_copy(value) for value in self.values]
        for average, value in zip(self.averages, self.values, strict=True):
            set_parameter(value, _copy(average))
        try:
            yield
        finally:
            for value, array in zip(self.values, trained, strict=True):
                set_parameter(value, array)


def _copy(parameter: Parameter) -> np.ndarray:
    return parameter.asnumpy().copy()
