# SPDX-License-Identifier: Apache-2.0
"""ResNet feature extractor (He et al. 2015) with the stages C2 to C5 as outputs."""

from mindspore import Tensor, nn, ops

from .layers import Conv2d, activate, conv2d, convolve
from .names import STEM_CHANNELS, Backbone
from .norms import norm_layer
from .own_canvas import Cells, ZeroBehind, halved, pyramid_cells

STEM_POOLS = ("same", "symmetric")


def conv_norm(conv: Conv2d, norm: nn.Cell, x: Tensor, folds: bool, cells: Cells = None) -> Tensor:
    """Return norm(conv(x)), or the same with a frozen BatchNorm folded into the convolution.

    The result has the convolution's number format, whatever that of the norm is. Folding saves a
    pass over the feature map, and the map that BatchNorm would keep for its gradient.

    Args:
        conv: of `conv2d`, without bias.
        norm: of `norm_layer`.
        x: (B, in, H, W).
        folds: whether to fold; `norm` is then a `FrozenBatchNorm`.
        cells: of `x`.
    """
    if not folds:
        x = conv(x, cells)
        return ops.cast(norm(x, strided(cells, conv.stride)), x.dtype)
    weight, bias = _folded(conv, norm)
    return convolve(conv, x, weight, bias, cells)


def conv_norm_relu(
    conv: Conv2d,
    norm: nn.Cell,
    x: Tensor,
    folds: bool,
    cells: Cells = None,
    shortcut: Tensor | None = None,
) -> Tensor:
    """Return relu(conv_norm(...) + shortcut).

    Args:
        conv, norm, x, folds, cells: see `conv_norm`.
        shortcut: of the result's shape; None: zeros.
    """
    if folds:
        weight, bias = _folded(conv, norm)
        return activate(conv, x, weight, bias, cells, shortcut)
    result = conv_norm(conv, norm, x, folds, cells)
    return ops.relu(result if shortcut is None else result + shortcut)


def _folded(conv: Conv2d, norm: nn.Cell) -> tuple[Tensor, Tensor]:
    return norm.fold(conv.weight, norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)


def strided(cells: Cells, stride: tuple[int, int]) -> Cells:
    """Return the cells behind a convolution.

    Args:
        cells: those before it.
        stride: (1, 1) or (2, 2).
    """
    return halved(cells) if stride[0] == 2 else cells


class ResidualBlock(nn.Cell):
    """What the blocks of ResNets have in common: the sum with what goes past their convolutions.

    Args:
        stride: of the block.
        folds: fold a frozen BatchNorm into its convolution (see `conv_norm`).
    """

    def __init__(self, stride: int, folds: bool) -> None:
        super().__init__()
        self.stride = (stride, stride)
        self.folds = folds
        self.has_projection = False

    def project(
        self, in_channels: int, out_channels: int, stride: int, norm: str, eps: float
    ) -> None:
        """Let a 1x1 convolution lead past the others, where the input has another shape.

        Args:
            in_channels, out_channels, stride: of the block.
            norm, eps: see `norm_layer`.
        """
        self.has_projection = stride != 1 or in_channels != out_channels
        if self.has_projection:
            self.conv_down_sample = conv2d(in_channels, out_channels, 1, stride)
            self.bn_down_sample = norm_layer(norm, out_channels, eps)

    def convolve(self, x: Tensor, shortcut: Tensor, cells: Cells) -> Tensor:
        """Return relu(what the convolutions make of `x` + shortcut), (B, out, H / stride, ...).

        Args:
            x, cells: see `construct`.
            shortcut: of the result's shape.
        """
        raise NotImplementedError

    def construct(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return (B, out, H / stride, W / stride).

        Args:
            x: (B, in, H, W).
            cells: of `x`.
        """
        past = x
        if self.has_projection:
            past = conv_norm(self.conv_down_sample, self.bn_down_sample, x, self.folds, cells)
        return self.convolve(x, past, cells)


class BasicBlock(ResidualBlock):
    """Residual block of two 3x3 convolutions, the first with the stride (ResNet-18 and 34).

    Args:
        in_channels, width, out_channels, stride, norm, eps, fold, groups: see `Bottleneck`.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        stride: int,
        norm: str,
        eps: float,
        fold: bool = False,
        groups: int = 1,
    ) -> None:
        super().__init__(stride, fold and norm == "frozen_bn")
        self.conv1 = conv2d(in_channels, width, 3, stride, groups=groups)
        self.bn1 = norm_layer(norm, width, eps)
        self.conv2 = conv2d(width, out_channels, 3, groups=groups)
        self.bn2 = norm_layer(norm, out_channels, eps)
        self.project(in_channels, out_channels, stride, norm, eps)

    def convolve(self, x: Tensor, shortcut: Tensor, cells: Cells) -> Tensor:
        """See `ResidualBlock.convolve`.

        Args:
            x, shortcut, cells: see there.
        """
        outer = strided(cells, self.conv1.stride)
        out = conv_norm_relu(self.conv1, self.bn1, x, self.folds, cells)
        return conv_norm_relu(self.conv2, self.bn2, out, self.folds, outer, shortcut)


class Bottleneck(ResidualBlock):
    """Residual block of 1x1, 3x3 and 1x1 convolutions with the stride in the 3x3 (v1.5).

    Args:
        in_channels, width, out_channels: of the block; `width` is that of the 3x3 convolution.
        stride: of the block.
        norm, eps: see `norm_layer`.
        fold: fold a frozen BatchNorm into its convolution (see `conv_norm`).
        groups: of the 3x3 convolution (ResNeXt, Xie et al. 2017).
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        stride: int,
        norm: str,
        eps: float,
        fold: bool = False,
        groups: int = 1,
    ) -> None:
        super().__init__(stride, fold and norm == "frozen_bn")
        stride1, stride2 = self.split_stride(stride)
        self.conv1 = conv2d(in_channels, width, 1, stride1)
        self.bn1 = norm_layer(norm, width, eps)
        self.conv2 = conv2d(width, width, 3, stride2, groups=groups)
        self.bn2 = norm_layer(norm, width, eps)
        self.conv3 = conv2d(width, out_channels, 1)
        self.bn3 = norm_layer(norm, out_channels, eps)
        self.project(in_channels, out_channels, stride, norm, eps)

    @staticmethod
    def split_stride(stride: int) -> tuple[int, int]:
        """Return the strides of the first 1x1 and of the 3x3 convolution.

        Args:
            stride: of the block.
        """
        return 1, stride

    def convolve(self, x: Tensor, shortcut: Tensor, cells: Cells) -> Tensor:
        """See `ResidualBlock.convolve`.

        Args:
            x, shortcut, cells: see there.
        """
        inner = strided(cells, self.conv1.stride)
        outer = strided(inner, self.conv2.stride)
        out = conv_norm_relu(self.conv1, self.bn1, x, self.folds, cells)
        out = conv_norm_relu(self.conv2, self.bn2, out, self.folds, inner)
        return conv_norm_relu(self.conv3, self.bn3, out, self.folds, outer, shortcut)


class Stage(nn.SequentialCell):
    """Blocks, the first of which may have a stride."""

    def construct(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return what the last block does.

        Args:
            x: (B, in, H, W).
            cells: of `x`.
        """
        for block in self.cell_list:
            x = block(x, cells)
            cells = strided(cells, block.stride)
        return x


class ResNetFea(nn.Cell):
    """ResNet without its classifier.

    Args:
        block: `BasicBlock`, `Bottleneck` or a variant.
        plan: how many blocks a stage has, and how wide they are.
        norm, eps: see `norm_layer`.
        frozen_stages: how many of stem, layer1, ... layer4 keep their weights.
        stem_pool: see `StemPool`.
        fold: see `Bottleneck`.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        plan: Backbone,
        norm: str,
        eps: float,
        frozen_stages: int,
        stem_pool: str,
        fold: bool = False,
    ) -> None:
        super().__init__()
        self.folds = fold and norm == "frozen_bn"
        self.conv1 = conv2d(3, STEM_CHANNELS, 7, 2)
        self.bn1 = norm_layer(norm, STEM_CHANNELS, eps)
        self.pool = StemPool(stem_pool)
        channels = STEM_CHANNELS
        stages: list[nn.Cell] = []
        for out_channels, width, count in zip(plan.channels, plan.widths, plan.blocks):
            stride = 2 if stages else 1
            blocks = []
            for _ in range(count):
                blocks.append(
                    block(channels, width, out_channels, stride, norm, eps, fold, plan.groups)
                )
                channels, stride = out_channels, 1
            stages.append(Stage(blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.frozen_stages = frozen_stages
        self._freeze((self.conv1, self.bn1), *((stage,) for stage in stages))

    def _freeze(self, *stages: tuple[nn.Cell, ...]) -> None:
        for cells in stages[: self.frozen_stages]:
            for cell in cells:
                for parameter in cell.trainable_params():
                    parameter.requires_grad = False
                self._fix_statistics(cell)

    @staticmethod
    def _fix_statistics(cell: nn.Cell) -> None:
        for _, layer in cell.cells_and_names():
            if isinstance(layer, nn.BatchNorm2d):
                layer.use_batch_statistics = False

    def construct(self, x: Tensor, own: Cells = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return C2, C3, C4, C5 with strides 4, 8, 16, 32.

        Args:
            x: (B, 3, H, W), the normalised image; H and W are multiples of 32.
            own: (B, 2) float32, the pictures' own canvases, px; None: all of `x`.
        """
        c2_cells, c3_cells, c4_cells, _, _ = pyramid_cells(own)
        x = conv_norm(self.conv1, self.bn1, x, self.folds, own)
        x = self._detach_frozen(self.pool(x, halved(own)), 1)
        c2 = self._detach_frozen(self.layer1(x, c2_cells), 2)
        c3 = self._detach_frozen(self.layer2(c2, c2_cells), 3)
        c4 = self._detach_frozen(self.layer3(c3, c3_cells), 4)
        c5 = self._detach_frozen(self.layer4(c4, c4_cells), 5)
        return c2, c3, c4, c5

    def _detach_frozen(self, x: Tensor, stage: int) -> Tensor:
        """Stop the gradient behind the last frozen stage: nothing there would use it."""
        return ops.stop_gradient(x) if stage == self.frozen_stages else x


class StemPool(nn.Cell):
    """ReLU and 3x3 max pooling with stride 2.

    Args:
        padding: where pooling has it. "same": right and bottom (the model zoo); "symmetric": all
            around (torchvision, detectron2, mmdetection).

    Attributes:
        own: None, or a Cell that computes the same at once.
    """

    def __init__(self, padding: str) -> None:
        super().__init__()
        if padding not in STEM_POOLS:
            raise ValueError(f"stem pool {padding!r} is none of {', '.join(STEM_POOLS)}")
        self.is_symmetric = padding == "symmetric"
        self.zero_behind = ZeroBehind()
        self.maxpool = ops.MaxPool(3, 2, "valid" if self.is_symmetric else "same")
        self.own = None

    def construct(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return (B, C, H / 2, W / 2).

        Args:
            x: (B, C, H, W); H and W are even.
            cells: of `x`.
        """
        if self.own is not None:
            return self.own(x, cells)
        x = self.zero_behind(ops.relu(x), cells)
        if self.is_symmetric:
            x = _pad_top_left(x)
        return self.maxpool(x)


def _pad_top_left(x: Tensor) -> Tensor:
    """Add a row of zeros above and a column to the left of (B, C, H, W); H and W are even.

    This is all that symmetric padding does for pooling with stride 2: the windows end inside. After
    ReLU nothing is below zero, so zeros are as good as -inf. (MindSpore's Pad takes ten times as
    long on a CPU.)
    """
    x = ops.concat((ops.zeros_like(x[:, :, :1]), x), 2)
    return ops.concat((ops.zeros_like(x[:, :, :, :1]), x), 3)
