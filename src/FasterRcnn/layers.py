# SPDX-License-Identifier: Apache-2.0
"""Convolutions, dense layers and losses that several parts of the network share."""

from typing import Any

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import HeNormal, Initializer, XavierUniform, initializer

from .own_canvas import Cells, ZeroBehind


class Conv2d(nn.Conv2d):
    """A convolution that can read zeros behind a picture's own canvas (see `own_canvas`).

    Attributes:
        own: computes x, weight, bias, cells -> result in its place, without the work behind the own
            canvas; its result is zero there. None: nothing does. It may have a Cell `with_relu`,
            which also adds a shortcut if it says `adds_shortcut`.
        zero_behind: what otherwise writes the zeros into its input.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.own: nn.Cell | None = None
        self.zero_behind = ZeroBehind()
        self.has_window = self.kernel_size != (1, 1)

    def construct(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return (B, out, H / stride, W / stride); of use on the own canvas.

        Args:
            x: (B, in, H, W).
            cells: of `x`.
        """
        return convolve(self, x, self.weight, self.bias if self.has_bias else None, cells)

    def by_operators(self, x: Tensor, weight: Tensor, bias: Tensor | None, cells: Cells) -> Tensor:
        """Return what `convolve` does, by MindSpore's operators, in the precision of this Cell.

        Args:
            x, weight, bias, cells: as there.
        """
        if cells is not None and self.has_window:
            x = self.zero_behind(x, cells)
        output = self.conv2d(x, weight)
        return output if bias is None else self.bias_add(output, bias)


# Functions and no methods: MindSpore reads a method's source again for every Cell. (Only methods
# know a Cell's precision.)
def activate(
    conv: Conv2d,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    cells: Cells = None,
    shortcut: Tensor | None = None,
) -> Tensor:
    """Return relu(convolve(...) + shortcut), in one pass over the memory where something can.

    Args:
        conv, x, weight, bias, cells: as for `convolve`.
        shortcut: of the result's shape; None: zeros.
    """
    own = conv.own.with_relu if conv.own is not None else None
    if own is not None and (shortcut is None or own.adds_shortcut):
        return own(x, weight, bias, cells, shortcut)
    result = convolve(conv, x, weight, bias, cells)
    return ops.relu(result if shortcut is None else result + shortcut)


def convolve(
    conv: Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None, cells: Cells = None
) -> Tensor:
    """Return a convolution with weight and bias in the place of its own.

    Args:
        conv: the convolution.
        x, cells: as for `Conv2d.construct`.
        weight: of the shape of its own.
        bias: (out,); None: zeros.
    """
    if conv.own is not None:
        return conv.own(x, weight, bias, cells, None)
    return conv.by_operators(x, weight, bias, cells)


def relu_of(conv: Conv2d, x: Tensor, cells: Cells = None) -> Tensor:
    """Return relu(conv(x, cells)), in one pass over the memory where something can.

    Args:
        conv: of `conv2d`.
        x: (B, in, H, W).
        cells: of `x`.
    """
    if conv.own is None:
        return ops.relu(conv(x, cells))
    return activate(conv, x, conv.weight, conv.bias if conv.has_bias else None, cells)


def conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    *,
    groups: int = 1,
    has_bias: bool = False,
    init: Initializer | None = None,
) -> Conv2d:
    """Return a `Conv2d` padded by half its kernel.

    Args:
        in_channels, out_channels, kernel_size, stride, groups, has_bias: of the convolution.
        init: of the weights; He initialisation (fan out) unless given.
    """
    init = init or HeNormal(mode="fan_out", nonlinearity="relu")
    return Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride,
        pad_mode="pad",
        padding=kernel_size // 2,
        group=groups,
        has_bias=has_bias,
        weight_init=init,
        bias_init="zeros",
    )


class Dense(nn.Cell):
    """Fully connected layer whose weight is (in, out), as published checkpoints store it.

    Args:
        in_channels, out_channels: numbers an example before and after the layer.
        init: of the weight; Xavier (uniform) unless given. The bias begins at zero.

    Attributes:
        own: computes x, weight, bias -> result in its place. None: nothing does.
    """

    def __init__(
        self, in_channels: int, out_channels: int, init: Initializer | None = None
    ) -> None:
        super().__init__()
        shape = (in_channels, out_channels)
        self.weight = Parameter(initializer(init or XavierUniform(), shape, ms.float32))
        self.bias = Parameter(initializer("zeros", (out_channels,), ms.float32))
        self.matmul = ops.MatMul()  # ops.matmul's gradient transposes by copying
        self.own: nn.Cell | None = None

    def construct(self, x: Tensor) -> Tensor:
        """Return (N, out) of the dtype of `x`.

        Args:
            x: (N, in).
        """
        if self.own is not None:
            return self.own(x, self.weight, self.bias)
        weight = ops.cast(self.weight, x.dtype)
        return ops.bias_add(self.matmul(x, weight), ops.cast(self.bias, x.dtype))


def compute_in(part: nn.Cell, dtype: Any) -> None:
    """Let the convolutions and dense layers of a Cell compute in `dtype`, and BatchNorm in float32.

    On a GPU, BatchNorm takes parameters in float32 only, and with half-precision maps a network
    trained from scratch had no finite gradients.

    Args:
        part: searched with all Cells inside it; changed in place.
        dtype: a MindSpore floating-point type, e.g. `ms.float16`. Parameters stay float32.
    """
    for _, layer in part.cells_and_names():
        if isinstance(layer, nn.Conv2d | Dense):
            layer.to_float(dtype)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.to_float(ms.float32)


def at_least_one(count: Tensor) -> Tensor:
    """Return a number of samples to divide a loss by, () float32.

    Args:
        count: () float32; what is below 1 counts as 1.
    """
    return ops.maximum(count, 1.0)


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Return the sum of the values that the mask shows, ().

    Args:
        values: of any shape, floating point.
        mask: of the same shape, bool.
    """
    return ops.reduce_sum(ops.select(mask, values, ops.zeros_like(values)))
