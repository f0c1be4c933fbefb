# SPDX-License-Identifier: Apache-2.0
"""The convolutions of neck and heads: with a bias, or with a normalisation layer behind them."""

from mindspore import Tensor, nn, ops
from mindspore.common.initializer import Initializer

from .layers import Conv2d, conv2d, relu_of
from .names import NO_NORM
from .norms import norm_layer
from .own_canvas import Cells


class ConvNorm(nn.Cell):
    """A convolution of stride 1 without bias, and its normalisation.

    Args:
        conv: of `conv2d`.
        norm: of `norm_layer`.
    """

    def __init__(self, conv: Conv2d, norm: nn.Cell) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm

    def construct(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return (B, out, H, W) in the convolution's number format.

        Args:
            x: (B, in, H, W).
            cells: of `x`.
        """
        x = self.conv(x, cells)
        return ops.cast(self.norm(x, cells), x.dtype)


class ConvStack(nn.SequentialCell):
    """Convolutions with ReLU behind each.

    Args:
        convs: of `conv_block`, all of one kind.
    """

    def __init__(self, convs: list[nn.Cell]) -> None:
        super().__init__(convs)
        self.are_plain = all(isinstance(conv, Conv2d) for conv in convs)

    def construct(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return what the last one does, (B, out, H, W).

        Args:
            x: (B, in, H, W).
            cells: of `x`.
        """
        for conv in self.cell_list:
            x = relu_of(conv, x, cells) if self.are_plain else ops.relu(conv(x, cells))
        return x


def conv_block(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    norm: str = NO_NORM,
    eps: float = 0.0,
    init: Initializer | None = None,
) -> nn.Cell:
    """Return a convolution of stride 1: a `Conv2d` with bias, or a `ConvNorm`.

    Args:
        in_channels, out_channels, kernel_size, init: see `conv2d`.
        norm: `NO_NORM`, or a kind of `norm_layer`.
        eps: see `norm_layer`.
    """
    if norm == NO_NORM:
        return conv2d(in_channels, out_channels, kernel_size, has_bias=True, init=init)
    return ConvNorm(
        conv2d(in_channels, out_channels, kernel_size, init=init),
        norm_layer(norm, out_channels, eps),
    )
