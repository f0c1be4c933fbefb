# SPDX-License-Identifier: Apache-2.0
"""Feature pyramid network (Lin et al. 2017)."""

from collections.abc import Sequence

from mindspore import Tensor, nn, ops
from mindspore.common.initializer import XavierUniform

from .layers import conv2d
from .own_canvas import EVERYWHERE, PyramidCells


class FeatPyramidNeck(nn.Cell):
    """Lateral 1x1 convolutions, a top-down path by doubling, 3x3 smoothing, and P6 from P5.

    Args:
        in_channels: of C2 to C5, e.g. (256, 512, 1024, 2048).
        out_channels: of every P level.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        self.lateral_convs_list = nn.CellList(
            [
                conv2d(channels, out_channels, 1, has_bias=True, init=XavierUniform())
                for channels in in_channels
            ]
        )
        self.fpn_convs_list = nn.CellList(
            [
                conv2d(out_channels, out_channels, 3, has_bias=True, init=XavierUniform())
                for _ in in_channels
            ]
        )
        self.merge = AddUpsampled()
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
        for lateral in laterals[-2::-1]:
            merged.append(self.merge(lateral, merged[-1]))
        outputs = [
            conv(level, own) for conv, level, own in zip(self.fpn_convs_list, merged[::-1], cells)
        ]
        return tuple(outputs) + (self.subsample(outputs[-1]),)


class AddUpsampled(nn.Cell):
    """The sum of a level and the next coarser one, doubled by nearest neighbour."""

    def construct(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return the sum, (B, C, 2H, 2W).

        Args:
            fine: (B, C, 2H, 2W).
            coarse: (B, C, H, W) of the same dtype.
        """
        batch, channels, height, width = coarse.shape
        coarse = ops.reshape(coarse, (batch, channels, height, 1, width, 1))
        coarse = ops.broadcast_to(coarse, (batch, channels, height, 2, width, 2))
        return fine + ops.reshape(coarse, fine.shape)
