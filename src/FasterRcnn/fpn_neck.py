# SPDX-License-Identifier: Apache-2.0
"""Feature pyramid network (Lin et al. 2017)."""

from collections.abc import Sequence

from mindspore import Tensor, nn, ops
from mindspore.common.initializer import XavierUniform

from .conv_block import conv_block
from .names import NO_NORM
from .own_canvas import EVERYWHERE, Cells, PyramidCells, ZeroBehind, repeat_border


class FeatPyramidNeck(nn.Cell):
    """Lateral 1x1 convolutions, a top-down path by doubling, 3x3 smoothing, and P6 from P5.

    Args:
        in_channels: of C2 to C5, e.g. (256, 512, 1024, 2048).
        out_channels: of every P level.
        norm, eps: what follows each convolution (see `conv_block`).
        upsample: how levels are doubled, a key of `UPSAMPLINGS`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        norm: str = NO_NORM,
        eps: float = 0.0,
        upsample: str = "nearest",
    ) -> None:
        super().__init__()
        self.lateral_convs_list = nn.CellList(
            [
                conv_block(channels, out_channels, 1, norm=norm, eps=eps, init=XavierUniform())
                for channels in in_channels
            ]
        )
        self.fpn_convs_list = nn.CellList(
            [
                conv_block(out_channels, out_channels, 3, norm=norm, eps=eps, init=XavierUniform())
                for _ in in_channels
            ]
        )
        if upsample not in UPSAMPLINGS:
            raise ValueError(f"upsampling {upsample!r} is none of {', '.join(UPSAMPLINGS)}")
        self.merge = UPSAMPLINGS[upsample]()
        self.subsample = ops.MaxPool(1, 2, "same")

    def construct(
        self, stages: tuple[Tensor, ...], cells: PyramidCells = EVERYWHERE
    ) -> tuple[Tensor, ...]:
        """Return P2 to P6, (B, out, H_l, W_l) each; P6 has half of P5's size.

        Args:
            stages: C2 to C5, (B, C_l, H_l, W_l) each; every stage has half the size of the one
                before.
            cells: of each level.
        """
        laterals = [
            conv(stage, own) for conv, stage, own in zip(self.lateral_convs_list, stages, cells)
        ]
        merged = [laterals[-1]]
        for lateral, own in zip(laterals[-2::-1], cells[3:0:-1]):
            merged.append(self.merge(lateral, merged[-1], own))
        outputs = [
            conv(level, own) for conv, level, own in zip(self.fpn_convs_list, merged[::-1], cells)
        ]
        return tuple(outputs) + (self.subsample(outputs[-1]),)


class AddUpsampled(nn.Cell):
    """The sum of a level and the next coarser one, doubled by nearest neighbour."""

    def construct(self, fine: Tensor, coarse: Tensor, cells: Cells = None) -> Tensor:
        """Return the sum, (B, C, 2H, 2W).

        Args:
            fine: (B, C, 2H, 2W).
            coarse: (B, C, H, W) of the same dtype.
            cells: of `coarse`; of no interest, as what is behind them stays there.
        """
        batch, channels, height, width = coarse.shape
        coarse = ops.reshape(coarse, (batch, channels, height, 1, width, 1))
        coarse = ops.broadcast_to(coarse, (batch, channels, height, 2, width, 2))
        return fine + ops.reshape(coarse, fine.shape)


class AddInterpolated(nn.Cell):
    """The sum of a level and the next coarser one, doubled bilinearly.

    The centres of cells keep their places, as in PyTorch with align_corners False: a new cell is
    three quarters of the nearest old one and a quarter of the next; a border's own counts twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self.zero_behind = ZeroBehind()

    def construct(self, fine: Tensor, coarse: Tensor, cells: Cells = None) -> Tensor:
        """Return the sum, (B, C, 2H, 2W).

        Args:
            fine: (B, C, 2H, 2W).
            coarse: (B, C, H, W) of the same dtype.
            cells: of `coarse`.
        """
        if cells is not None:
            coarse = repeat_border(self.zero_behind(coarse, cells), cells)
        batch, channels, height, width = coarse.shape
        above = ops.concat((coarse[:, :, :1], coarse[:, :, :-1]), 2)
        below = ops.concat((coarse[:, :, 1:], coarse[:, :, -1:]), 2)
        rows = ops.stack((_nearer(coarse, above), _nearer(coarse, below)), 3)
        rows = ops.reshape(rows, (batch, channels, 2 * height, width))
        left = ops.concat((rows[..., :1], rows[..., :-1]), 3)
        right = ops.concat((rows[..., 1:], rows[..., -1:]), 3)
        doubled = ops.stack((_nearer(rows, left), _nearer(rows, right)), 4)
        return fine + ops.reshape(doubled, fine.shape)


def _nearer(near: Tensor, far: Tensor) -> Tensor:
    return near * 0.75 + far * 0.25


# By their names in configurations.
UPSAMPLINGS: dict[str, type[nn.Cell]] = {"nearest": AddUpsampled, "bilinear": AddInterpolated}
