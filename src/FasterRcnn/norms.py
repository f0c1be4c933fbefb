# SPDX-License-Identifier: Apache-2.0
"""The normalisation layers of backbone, neck and heads."""

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import initializer

from .names import NORM_GROUPS
from .own_canvas import Cells, own_mask

NORMS = ("frozen_bn", "bn", "gn")


def norm_layer(kind: str, channels: int, eps: float) -> nn.Cell:
    """Return the normalisation layer of a `kind`.

    "frozen_bn": BatchNorm with its stored statistics and fixed scale and shift; "bn": ordinary
    BatchNorm (statistics move by 0.1 a step); "gn": GroupNorm with 32 groups (Wu & He 2018).

    Args:
        kind: of `NORMS`.
        channels: of the feature map.
        eps: added to the variance.

    Raises:
        ValueError: there is no such kind.
    """
    if kind == "gn":
        return GroupNorm(NORM_GROUPS, channels, eps)
    if kind == "bn":
        return BatchNorm(channels, eps=eps, momentum=0.9)
    if kind == "frozen_bn":
        return FrozenBatchNorm(channels, eps)
    raise ValueError(f"norm {kind!r} is none of {', '.join(NORMS)}")


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation (Ioffe & Szegedy 2015) that can count the cells of own canvases alone."""

    def construct(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the normalised map, of the shape of `x`.

        Args:
            x: (B, C, H, W).
            cells: of `x`; those that the statistics of a training step are of.
        """
        if cells is None or not self.training or self.use_batch_statistics is False:
            return super().construct(x)
        mask = own_mask(cells, *x.shape[2:])
        count = ops.reduce_sum(mask)
        mean = ops.reduce_sum(x * mask, (0, 2, 3)) / count
        centred = (x - _of_channels(mean)) * mask
        variance = ops.reduce_sum(centred * centred, (0, 2, 3)) / count
        result = centred * _of_channels(self.gamma / ops.sqrt(variance + self.eps))
        unbiased = variance * (count / (count - 1.0))
        moved = self._move(self.moving_mean, mean), self._move(self.moving_variance, unbiased)
        return ops.depend(result + _of_channels(self.beta), moved)

    def _move(self, statistic: Parameter, value: Tensor) -> Tensor:
        value = ops.stop_gradient(value)
        return ops.assign_sub(statistic, (statistic - value) * self.momentum)


class FrozenBatchNorm(nn.BatchNorm2d):
    """BatchNorm with its stored statistics and fixed scale and shift: an affine map of a channel.

    Args:
        channels: of the feature map.
        eps: added to the variance.

    Attributes:
        scale_filters: multiplies filters by the scales of their channels, `ScaleFilters` or a Cell
            with the same arguments.
    """

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__(channels, eps=eps, use_batch_statistics=False)
        self.gamma.requires_grad = False
        self.beta.requires_grad = False
        self.scale_filters = ScaleFilters()

    def construct(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the normalised map, of the shape of `x`.

        Args:
            x: (B, C, H, W).
            cells: of `x`; of no interest to stored statistics.
        """
        return super().construct(x)

    def fold_into(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights (O, I, h, w) and bias (O,) of the convolution that includes this norm.

        Args:
            weight: (O, I, h, w) float32, the filters of the convolution before this norm.
        """
        scale = self.gamma / ops.sqrt(self.moving_variance + self.eps)
        return self.scale_filters(weight, scale), self.beta - self.moving_mean * scale


class ScaleFilters(nn.Cell):
    """Filters times a number for each output channel."""

    def construct(self, weight: Tensor, scale: Tensor) -> Tensor:
        """Return (O, I, h, w).

        Args:
            weight: (O, I, h, w).
            scale: (O,).
        """
        return weight * ops.reshape(scale, (-1, 1, 1, 1))


class GroupNorm(nn.Cell):
    """Group normalisation (Wu & He 2018) with MindSpore's operator in training.

    For inference it is written out, because the ONNX exporter lacks the operator.

    Args:
        num_groups: groups of channels that share a mean and a variance.
        channels: of the feature map, a multiple of `num_groups`.
        eps: added to the variance.
    """

    def __init__(self, num_groups: int, channels: int, eps: float) -> None:
        super().__init__()
        self.num_groups = num_groups
        self.eps = eps
        self.gamma = Parameter(initializer("ones", (channels,), ms.float32))
        self.beta = Parameter(initializer("zeros", (channels,), ms.float32))

    def construct(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the normalised map, of the shape and dtype of `x`.

        Args:
            x: (B, C, H, W).
            cells: of `x`; those that mean and variance are of.
        """
        gamma, beta = ops.cast(self.gamma, x.dtype), ops.cast(self.beta, x.dtype)
        if cells is not None:
            return self._normalise_cells(x, cells) * _of_channels(gamma) + _of_channels(beta)
        if self.training:
            return ops.group_norm(x, self.num_groups, gamma, beta, self.eps)
        groups = ops.cast(ops.reshape(x, (x.shape[0], self.num_groups, -1)), ms.float32)
        groups = groups - ops.ReduceMean(True)(groups, 2)
        variance = ops.ReduceMean(True)(groups * groups, 2)
        groups = ops.cast(groups / ops.sqrt(variance + self.eps), x.dtype)
        groups = ops.reshape(groups, x.shape)
        return groups * _of_channels(gamma) + _of_channels(beta)

    def _normalise_cells(self, x: Tensor, cells: Tensor) -> Tensor:
        """Return the map with mean 0 and variance 1 on the own canvas, and zeros behind it."""
        batch, channels, height, width = x.shape
        mask = own_mask(cells, height, width)
        per_group = channels // self.num_groups
        count = ops.reshape(cells[:, 0] * cells[:, 1] * float(per_group), (batch, 1, 1))
        shown = ops.reshape(mask, (batch, 1, 1, height * width))
        shape = (batch, self.num_groups, per_group, height * width)
        groups = ops.reshape(ops.cast(x, ms.float32), shape) * shown
        mean = ops.reduce_sum(groups, (2, 3)).reshape((batch, -1, 1)) / count
        groups = (groups - ops.expand_dims(mean, 3)) * shown
        variance = ops.reduce_sum(groups * groups, (2, 3)).reshape((batch, -1, 1)) / count
        groups = groups / ops.expand_dims(ops.sqrt(variance + self.eps), 3)
        return ops.cast(ops.reshape(groups, x.shape), x.dtype)


def _of_channels(values: Tensor) -> Tensor:
    """Return (C,) as (1, C, 1, 1)."""
    return ops.reshape(values, (1, -1, 1, 1))
