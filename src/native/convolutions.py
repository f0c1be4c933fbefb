# SPDX-License-Identifier: Apache-2.0
"""Our convolutions as Cells with gradients."""

from collections.abc import Callable

from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype
from mindspore.ops.auto_generate import BiasAddGrad, ReluGrad

from ..FasterRcnn.own_canvas import Cells
from .build import Library
from .custom import Shape, agree, given, no_gradient, operator


class NativeConv(nn.Cell):
    """A convolution with bias, as `ops.Conv2D` and `ops.BiasAdd` compute it.

    1x1 as matrix products. 3x3 with stride 1 by Winograd's minimal filtering (Lavin & Gray 2015):
    F(4x4, 3x3), 4 times fewer multiplications than a plain matrix product, and F(2x2, 3x3), 2.25
    times fewer, for small maps and in bfloat16. The error of the former stays below 2e-6, root mean
    square, relative to the results; a plain product in float32 makes up to half of that. 3x3 with
    stride 2 as matrix products of the image's lines; MindSpore keeps a table of all windows for
    each of its three operators: 140 MB for the first of a ResNet-50 at 768x1280. 3x3 in groups of
    channels (ResNeXt) directly, a group at a time.

    With `library.bfloat16` the factors of all products but those of grouped convolutions are
    rounded to bfloat16; those of Winograd's filtering after its transforms, which makes at most
    twice the error of a plain product of rounded factors. Sums, and what goes in and out, are
    float32.

    Args:
        library: our compiled operators, of `build.library()`.
        name: of `_OPERATORS` or `_GROUPED`.
        groups: of channels.
        relu: whether negative results become zeros, in the same pass over the memory.

    Attributes:
        adds_shortcut: whether it can.
        with_relu: the same with `relu`; None where there is none.
    """

    def __init__(self, library: Library, name: str, groups: int = 1, relu: bool = False) -> None:
        super().__init__()
        self.relu = relu
        self.adds_shortcut = name.endswith("1x1")
        can_relu = groups == 1 and not relu
        self.with_relu = NativeConv(library, name, relu=True) if can_relu else None
        strides = name.startswith("strided")
        self.asks_for_image = strides or groups > 1  # its shape, which both hide
        side = 1 if name.endswith("1x1") else 3
        if library.bfloat16 and groups == 1:
            name += "_bf16"
        own_name = f"{name}_relu" if relu else name
        self.forward = operator(library, own_name, _result_shape(groups, 2 if strides else 1))
        image = (lambda image, *others: image) if self.asks_for_image else _image_shape
        self.input_gradient = operator(library, f"{name}_input_gradient", image)
        self.weight_gradient = operator(
            library, f"{name}_weight_gradient", _weight_shape(groups, side)
        )
        self.bias_gradient = BiasAddGrad()
        self.relu_gradient = ReluGrad()

    def construct(
        self,
        image: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        cells: Cells = None,
        shortcut: Tensor | None = None,
    ) -> Tensor:
        """Return (B, O, H / stride, W / stride) float32, sizes rounded up.

        Args:
            image: (B, I, H, W) float32.
            weight: (O, I / groups, k, k) float32.
            bias: (O,) float32, or None.
            cells: (B, 2) float32, rows and columns of each image that are on its own canvas; behind
                it the result is zero, without work. None: all of them.
            shortcut: of the result's shape, added to it before `relu`; None: zeros.
        """
        return self.forward(image, weight, *given(bias), *given(cells), *given(shortcut))

    def bprop(
        self,
        image: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        cells: Cells,
        shortcut: Tensor | None,
        result: Tensor,
        gradient: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor | None, Cells, Tensor | None]:
        """Return the gradients of image, weight, bias and shortcut; cells have none.

        Args:
            image, weight, bias, cells, shortcut: as for `construct`.
            result: what it returned.
            gradient: of the result, of its shape; zero behind the own canvas.
        """
        if self.relu:
            gradient = self.relu_gradient(gradient, result)
        shape = (image,) if self.asks_for_image else ()
        return (
            self.input_gradient(*shape, gradient, weight, *given(cells)),
            self.weight_gradient(image, gradient, *given(cells)),
            None if bias is None else self.bias_gradient(gradient),
            no_gradient(cells),
            None if shortcut is None else gradient,
        )


class NativeZeroBehind(nn.Cell):
    """What `own_canvas.ZeroBehind` computes, in one pass.

    Args:
        library: our compiled operators, of `build.library()`.
    """

    def __init__(self, library: Library) -> None:
        super().__init__()
        self.zero_behind = operator(library, "zero_behind", lambda x, cells: x)

    def construct(self, x: Tensor, cells: Tensor) -> Tensor:
        """Return the map with zeros behind the own canvas, as `ZeroBehind.construct` does.

        Args:
            x, cells: as there.
        """
        return self.zero_behind(x, cells)

    def bprop(
        self, x: Tensor, cells: Tensor, result: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the gradient of the map; cells have none.

        Args:
            x, cells: as for `construct`.
            result: what it returned.
            gradient: of the result.
        """
        return self.zero_behind(gradient, cells), ops.zeros_like(cells)


def conv_settings(conv: nn.Conv2d, library: Library) -> tuple[str, int] | None:
    """Return name and groups of the `NativeConv` that can compute a convolution.

    None for other kernels, strides or channels.

    Args:
        conv: the convolution.
        library: our compiled operators, of `build.library()`.
    """
    operators = _OPERATORS if conv.group == 1 else _GROUPED
    name = operators.get((conv.kernel_size, conv.stride))
    return (name, conv.group) if name and _fits(conv, library) else None


# The operators, by kernel and stride.
_OPERATORS = {
    ((3, 3), (1, 1)): "conv3x3",
    ((3, 3), (2, 2)): "strided3x3",
    ((1, 1), (1, 1)): "conv1x1",
    ((1, 1), (2, 2)): "strided1x1",
}
_GROUPED = {((3, 3), (1, 1)): "grouped3x3", ((3, 3), (2, 2)): "strided_grouped3x3"}


def _fits(conv: nn.Conv2d, library: Library) -> bool:
    half = conv.kernel_size[0] // 2
    is_plain = (conv.dilation, conv.pad_mode) == ((1, 1), "pad")
    is_plain &= conv.padding in (half, (half,) * 4)
    multiple = (library.channels if conv.group == 1 else library.grouped_channels) * conv.group
    outputs = conv.out_channels if half else 0  # of a 1x1 kernel there may be any number
    fits = not (conv.in_channels % multiple or outputs % multiple)
    is_single = conv.weight.dtype == mstype.float32
    return is_plain and fits and is_single


def _result_shape(groups: int, stride: int) -> Callable[..., Shape]:
    def shape(image: Shape, weight: Shape, *others: Shape) -> Shape:
        agree(image[1] == weight[1] * groups, image, weight)
        return [image[0], weight[0], *(-(-side // stride) for side in image[2:])]

    return shape


def _image_shape(gradient: Shape, weight: Shape, *cells: Shape) -> Shape:
    return [gradient[0], weight[1], gradient[2], gradient[3]]


def _weight_shape(groups: int, side: int) -> Callable[..., Shape]:
    return lambda image, gradient, *cells: [gradient[1], image[1] // groups, side, side]
