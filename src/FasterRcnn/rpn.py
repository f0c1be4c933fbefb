# SPDX-License-Identifier: Apache-2.0
"""Region proposal network: head and loss (Faster R-CNN, section 3.1)."""

from collections.abc import Callable

import mindspore as ms
from mindspore import Tensor, nn, ops
from mindspore.common.initializer import Normal

from .box_ops import gather_rows
from .conv_block import ConvStack, conv_block
from .layers import at_least_one, conv2d, convolve, masked_sum, relu_of
from .own_canvas import EVERYWHERE, Cells, PyramidCells, hide_logits


class RpnRegClsBlock(nn.Cell):
    """A 3x3 convolution, then objectness and deltas of every anchor by 1x1 convolutions.

    Args:
        in_channels: of a pyramid level.
        feat_channels: what the 3x3 convolution returns.
        num_anchors: anchors a cell.
        conv_depth: 3x3 convolutions one behind the other.
    """

    def __init__(
        self, in_channels: int, feat_channels: int, num_anchors: int, conv_depth: int = 1
    ) -> None:
        super().__init__()
        inputs = (in_channels,) + (feat_channels,) * (conv_depth - 1)
        convs = [conv_block(channels, feat_channels, 3, init=Normal(0.01)) for channels in inputs]
        self.has_stack = conv_depth > 1
        self.rpn_conv = ConvStack(convs) if self.has_stack else convs[0]
        self.num_anchors = num_anchors
        self.rpn_cls = conv2d(feat_channels, num_anchors, 1, has_bias=True, init=Normal(0.01))
        self.rpn_reg = conv2d(feat_channels, num_anchors * 4, 1, has_bias=True, init=Normal(0.01))
        self.per_anchor = PerAnchor()

    def construct(self, x: Tensor, cells: Cells = None) -> tuple[Tensor, Tensor]:
        """Return logits (B, H*W*anchors) and deltas (B, H*W*anchors, 4), float32.

        Args:
            x: (B, in, H, W), one pyramid level.
            cells: of `x`; behind them all logits are `own_canvas.LOWEST`.
        """
        x = self.rpn_conv(x, cells) if self.has_stack else relu_of(self.rpn_conv, x, cells)
        return self.per_anchor(*self._of_cells(x), cells)

    def _of_cells(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, anchors, H, W) and deltas (B, anchors * 4, H, W)."""
        if self.rpn_cls.own is None:
            return self.rpn_cls(x), self.rpn_reg(x)
        # One convolution: the gradient is one map of the size of `x`, not two and their sum.
        weight = ops.concat((self.rpn_cls.weight, self.rpn_reg.weight), 0)
        bias = ops.concat((self.rpn_cls.bias, self.rpn_reg.bias), 0)
        both = convolve(self.rpn_cls, x, weight, bias)
        return both[:, : self.num_anchors], both[:, self.num_anchors :]


class PerAnchor(nn.Cell):
    """What the head returns for a level, anchor by anchor instead of channel by channel."""

    def construct(self, logits: Tensor, deltas: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
        """Return logits (B, H*W*anchors) and deltas (B, H*W*anchors, 4), float32.

        Args:
            logits: (B, anchors, H, W).
            deltas: (B, anchors * 4, H, W).
            cells: of both; behind them all logits are `own_canvas.LOWEST`.
        """
        batch = logits.shape[0]
        logits = hide_logits(ops.cast(logits, ms.float32), cells)
        logits = ops.transpose(logits, (0, 2, 3, 1))
        deltas = ops.transpose(ops.cast(deltas, ms.float32), (0, 2, 3, 1))
        return ops.reshape(logits, (batch, -1)), ops.reshape(deltas, (batch, -1, 4))


class RPN(nn.Cell):
    """The head, shared by all pyramid levels.

    Args:
        in_channels, feat_channels, conv_depth: of the 3x3 convolutions.
        num_anchors: anchors a cell.
    """

    def __init__(
        self, in_channels: int, feat_channels: int, num_anchors: int, conv_depth: int = 1
    ) -> None:
        super().__init__()
        head = RpnRegClsBlock(in_channels, feat_channels, num_anchors, conv_depth)
        self.rpn_convs_list = nn.CellList([head])  # checkpoints know it as rpn_convs_list.0

    def construct(
        self, features: tuple[Tensor, ...], cells: PyramidCells = EVERYWHERE
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return tuples with the (B, A_l) logits and the (B, A_l, 4) deltas of each level.

        Args:
            features: P2 to P6, (B, in, H_l, W_l) each.
            cells: of each level.
        """
        logits: tuple[Tensor, ...] = ()
        deltas: tuple[Tensor, ...] = ()
        for feature, own in zip(features, cells):
            level_logits, level_deltas = self.rpn_convs_list[0](feature, own)
            logits += (level_logits,)
            deltas += (level_deltas,)
        return logits, deltas


class RpnLoss(nn.Cell):
    """Objectness and regression loss of the chosen anchors (Faster R-CNN, equation 1).

    Args:
        box_loss: of `box_losses.py`.
        expected: divide by this many anchors an image, as the model zoo does; None: by the number
            really chosen in the batch (torchvision).
        divisor: the number chosen in the batch, () float32 -> what to divide by.
    """

    def __init__(
        self,
        box_loss: nn.Cell,
        expected: int | None,
        divisor: Callable[[Tensor], Tensor] = at_least_one,
    ) -> None:
        super().__init__()
        self.box_loss = box_loss
        self.expected = expected
        self.divisor = divisor

    def construct(
        self,
        logits: tuple[Tensor, ...],
        deltas: tuple[Tensor, ...],
        index: Tensor,
        is_object: Tensor,
        chosen: Tensor,
        targets: Tensor,
        anchors: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Compute the losses.

        Args:
            logits, deltas: what `RPN` returns.
            index: (B, T) int32, the chosen anchors among those of all levels.
            is_object: (B, T) bool, the objectness target.
            chosen: (B, T) bool; other places do not count.
            targets: (B, T, 4) float32; of use where `is_object`.
            anchors: (A, 4) float32 of all levels.

        Returns:
            cls_loss and reg_loss, () float32 each.
        """
        own_logits = gather_rows(ops.concat(logits, 1), index)
        own_deltas = gather_rows(ops.concat(deltas, 1), index)
        objectness = ops.cast(is_object, ms.float32)
        entropy = ops.relu(own_logits) - own_logits * objectness
        entropy = entropy + ops.log1p(ops.exp(-ops.abs(own_logits)))
        distance = self.box_loss(own_deltas, targets, ops.gather(anchors, index, 0))

        if self.expected is None:
            number = self.divisor(ops.reduce_sum(ops.cast(chosen, ms.float32)))
        else:
            number = float(self.expected * own_logits.shape[0])
        return masked_sum(entropy, chosen) / number, masked_sum(distance, is_object) / number
