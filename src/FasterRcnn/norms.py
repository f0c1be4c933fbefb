# SPDX-License-Identifier: Apache-2.0
"""The normalisation layers of backbone, neck and heads."""

from typing import Any

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
        return BatchNorm(channels, eps)
    if kind == "frozen_bn":
        return FrozenBatchNorm(channels, eps)
    raise ValueError(f"norm {kind!r} is none of {', '.join(NORMS)}")


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation (Ioffe & Szegedy 2015) of own canvases alone, and of several processes.

    MindSpore's operator computes it as long as every cell counts and the batch is of one process.
    The statistics move by 0.1 a step.

    Args:
        channels: of the feature map.
        eps: added to the variance.

    Attributes:
        sum_over_ranks: (N,) float32 -> their sums over all ranks, with gradient; the statistics of
            a training step are then of the batches of all ranks together. None: of the own one.
        normalise: `Normalise` or a Cell with the same arguments.
    """

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__(channels, eps=eps, momentum=0.9)
        self.sum_over_ranks: Any = None
        self.assign_sub = ops.AssignSub()
        self.normalise = Normalise(0, eps)

    def construct(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the normalised map, of the shape of `x`.

        Args:
            x: (B, C, H, W).
            cells: of `x`; those that the statistics of a training step are of.
        """
        if not self.training or self.use_batch_statistics is False:
            return super().construct(x)
        if self.sum_over_ranks is not None:
            result, mean, variance, count = self._over_ranks(x, cells)
        elif cells is None:
            return super().construct(x)
        else:
            result, mean, variance = self.normalise(x, self.gamma, self.beta, cells)
            count = ops.reduce_sum(cells[:, 0] * cells[:, 1])
        unbiased = variance * (count / ops.maximum(count - 1.0, 1.0))
        moved = self._move(self.moving_mean, mean), self._move(self.moving_variance, unbiased)
        return ops.depend(result, moved)

    def _over_ranks(self, x: Tensor, cells: Cells) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the normalised map, mean and variance (C,), and the cells () that they are of."""
        mask = None if cells is None else own_mask(cells, *x.shape[2:])
        count = ops.reshape(_count(x, mask), (1,))
        sums = ops.concat((ops.reduce_sum(_shown(x, mask), (0, 2, 3)), count), 0)
        totals = self.sum_over_ranks(sums)
        count = ops.stop_gradient(totals[-1])
        mean = totals[:-1] / count
        centred = _shown(x - _of_channels(mean), mask)
        variance = self.sum_over_ranks(ops.reduce_sum(centred * centred, (0, 2, 3))) / count
        scale = self.gamma / ops.sqrt(variance + self.eps)
        return centred * _of_channels(scale) + _of_channels(self.beta), mean, variance, count

    def _move(self, statistic: Parameter, value: Tensor) -> Tensor:
        value = ops.stop_gradient(value)
        return self.assign_sub(statistic, (statistic - value) * self.momentum)

    def move_once(self) -> None:
        """Leave what moves the statistics out when feature maps are computed again."""
        self.bn_train.recompute(False)
        self.assign_sub.recompute(False)


def share_statistics(network: nn.Cell, sum_over_ranks: nn.Cell) -> None:
    """Let every trainable BatchNorm take its statistics over the batches of all ranks.

    Args:
        network: searched with all Cells inside it; changed in place.
        sum_over_ranks: see `BatchNorm`.
    """
    for _, layer in network.cells_and_names():
        if isinstance(layer, BatchNorm):
            layer.sum_over_ranks = sum_over_ranks


class FrozenBatchNorm(nn.BatchNorm2d):
    """BatchNorm with its stored statistics and fixed scale and shift: an affine map of a channel.

    Args:
        channels: of the feature map.
        eps: added to the variance.

    Attributes:
        fold: makes it part of a convolution, `FoldNorm` or a Cell with the same arguments.
    """

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__(channels, eps=eps, use_batch_statistics=False)
        self.gamma.requires_grad = False
        self.beta.requires_grad = False
        self.fold = FoldNorm(eps)

    def construct(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the normalised map, of the shape of `x`.

        Args:
            x: (B, C, H, W).
            cells: of `x`; of no interest to stored statistics.
        """
        return super().construct(x)


class FoldNorm(nn.Cell):
    """The convolution that includes a frozen BatchNorm behind it.

    Args:
        eps: added to the variance.
    """

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def construct(
        self, weight: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return its weights (O, I, h, w) and bias (O,).

        Args:
            weight: (O, I, h, w) float32, the filters of the convolution before the norm.
            gamma, beta, mean, variance: (O,) float32, of the norm.
        """
        scale = gamma / ops.sqrt(variance + self.eps)
        return weight * ops.reshape(scale, (-1, 1, 1, 1)), beta - mean * scale


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
        self.normalise = Normalise(num_groups, eps)

    def construct(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the normalised map, of the shape and dtype of `x`.

        Args:
            x: (B, C, H, W).
            cells: of `x`; those that mean and variance are of.
        """
        if cells is None and self.training:
            gamma, beta = ops.cast(self.gamma, x.dtype), ops.cast(self.beta, x.dtype)
            return ops.group_norm(x, self.num_groups, gamma, beta, self.eps)
        result, _, _ = self.normalise(ops.cast(x, ms.float32), self.gamma, self.beta, cells)
        return ops.cast(result, x.dtype)


class Normalise(nn.Cell):
    """A map with mean 0 and variance 1, then scaled and shifted; only cells that are there count.

    Args:
        groups: 0: each channel over the whole batch; otherwise each image's so many groups of
            channels.
        eps: added to the variance.
    """

    def __init__(self, groups: int, eps: float) -> None:
        super().__init__()
        self.groups = groups
        self.eps = eps
        self.reduce_mean = ops.ReduceMean(True)
        self.reduce_sum = ops.ReduceSum(True)

    def construct(
        self, x: Tensor, scale: Tensor, shift: Tensor, cells: Cells = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the map (B, C, H, W), and means and variances, (C,) or (B * groups,), float32.

        The variances are divided by the number of cells. What the map has behind the own canvas is
        for nobody. No gradient comes through the statistics.

        Args:
            x: (B, C, H, W) float32.
            scale, shift: (C,) float32.
            cells: of `x`; None: all.
        """
        batch, channels, height, width = x.shape
        sets = channels if self.groups == 0 else self.groups
        values = ops.reshape(x, (batch, sets, channels // sets, height * width))
        shown = None
        if cells is not None:
            shown = ops.reshape(own_mask(cells, height, width), (batch, 1, 1, height * width))
        mean = self._mean(values, shown)
        values = values - mean
        variance = self._mean(values * values, shown)
        result = ops.reshape(values / ops.sqrt(variance + self.eps), x.shape)
        result = result * _of_channels(scale) + _of_channels(shift)
        statistics = ops.reshape(mean, (-1,)), ops.reshape(variance, (-1,))
        return result, ops.stop_gradient(statistics[0]), ops.stop_gradient(statistics[1])

    def _mean(self, values: Tensor, shown: Cells) -> Tensor:
        """Return the mean of each set, (1 or B, sets, 1, 1), of what is shown."""
        axes = (0, 2, 3) if self.groups == 0 else (2, 3)
        if shown is None:
            return self.reduce_mean(values, axes)
        count = self.reduce_sum(shown, axes) * float(values.shape[2])
        return self.reduce_sum(values * shown, axes) / ops.maximum(count, 1.0)  # of nothing: 0


def _shown(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return (B, C, H, W) with zeros where the mask (B, 1, H, W) has them; None has none."""
    return x if mask is None else x * mask


def _count(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return how many cells of a channel of `x` the mask shows, () float32."""
    if mask is not None:
        return ops.reduce_sum(mask)
    return _number(x.shape[0] * x.shape[2] * x.shape[3])


@ops.constexpr
def _number(value: int) -> Tensor:
    return Tensor(value, ms.float32)


def _of_channels(values: Tensor) -> Tensor:
    """Return (C,) as (1, C, 1, 1)."""
    return ops.reshape(values, (1, -1, 1, 1))
