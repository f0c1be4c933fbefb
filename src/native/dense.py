# SPDX-License-Identifier: Apache-2.0
"""Our dense layer as a Cell with gradients."""

from mindspore import Tensor, nn
from mindspore.ops.auto_generate import BiasAddGrad

from ..FasterRcnn.layers import Dense
from .build import Library
from .custom import Shape, agree, operator


class NativeDense(nn.Cell):
    """What `layers.Dense` computes, with factors that are rounded to bfloat16.

    Sums, and what goes in and out, are float32.

    Args:
        library: our compiled operators, of `build.library()`.
    """

    def __init__(self, library: Library) -> None:
        super().__init__()
        self.forward = operator(library, "dense_bf16", _result_shape)
        self.input_gradient = operator(
            library, "dense_bf16_input_gradient", lambda gradient, weight: [gradient[0], weight[0]]
        )
        self.weight_gradient = operator(
            library, "dense_bf16_weight_gradient", lambda x, gradient: [x[1], gradient[1]]
        )
        self.bias_gradient = BiasAddGrad()

    def construct(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return (N, out) float32.

        Args:
            x: (N, in) float32.
            weight: (in, out) float32.
            bias: (out,) float32.
        """
        return self.forward(x, weight, bias)

    def bprop(
        self, x: Tensor, weight: Tensor, bias: Tensor, result: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of x, weight and bias.

        Args:
            x, weight, bias: as for `construct`.
            result: what it returned.
            gradient: of the result, of its shape.
        """
        return (
            self.input_gradient(gradient, weight),
            self.weight_gradient(x, gradient),
            self.bias_gradient(gradient),
        )


def dense_settings(dense: Dense, library: Library) -> tuple[()] | None:
    """Say with () that `NativeDense` shall compute a dense layer; None where float32 is asked for.

    Layers of few outputs, such as scores and deltas, are left to MindSpore and float32.

    Args:
        dense: the layer.
        library: our compiled operators, of `build.library()`.
    """
    sides = dense.weight.shape
    fits = not any(side % library.channels for side in sides) and min(sides) >= _LEAST
    return () if library.bfloat16 and fits else None


_LEAST = 256  # inputs and outputs


def _result_shape(x: Shape, weight: Shape, bias: Shape) -> Shape:
    agree(x[1] == weight[0] and list(bias) == [weight[1]], x, weight, bias)
    return [x[0], weight[1]]
