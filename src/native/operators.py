# SPDX-License-Identifier: Apache-2.0
"""Our C++ operators as Cells with gradients, and what they take the place of in a network."""

from collections.abc import Callable
from typing import Any

from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype

from ..FasterRcnn.bbox_assign_sample import BboxAssignSample
from ..FasterRcnn.box_ops import shrink_to_legacy
from ..FasterRcnn.fpn_neck import FeatPyramidNeck
from ..FasterRcnn.resnet import FrozenBatchNorm
from ..FasterRcnn.roi_align import GatherRoiAlign
from .build import Library

Shape = list[int]


def use_native_operators(network: nn.Cell, library: Library) -> int:
    """Let a network use the Cells below wherever they fit; returns in how many places.

    Parameters, their names and the network's structure stay as they are.

    Args:
        network: changed in place; Cells inside it get one of ours as an attribute.
        library: our compiled operators, of `build.library()`.
    """
    places = 0
    for _, cell in network.cells_and_names():
        for kind, name, make in _PLACES:
            if isinstance(cell, kind):
                own = make(cell, library)
                if own is not None:
                    setattr(cell, name, own)
                    places += 1
    return places


class NativeConv3x3(nn.Cell):
    """What `ops.Conv2D` computes for a 3x3 kernel, stride 1 and padding 1.

    By Winograd's minimal filtering F(2x2, 3x3) (Lavin & Gray 2015): 2.25 times fewer
    multiplications than a plain matrix product, at two to three times its rounding error.

    Args:
        library: our compiled operators, of `build.library()`.
    """

    def __init__(self, library: Library) -> None:
        super().__init__()
        self.forward = _operator(library, "conv3x3", _result_shape)
        self.input_gradient = _operator(library, "conv3x3_input_gradient", _image_shape)
        self.weight_gradient = _operator(library, "conv3x3_weight_gradient", _weight_shape)

    def construct(self, image: Tensor, weight: Tensor) -> Tensor:
        """Return (B, O, H, W) float32.

        Args:
            image: (B, I, H, W) float32.
            weight: (O, I, 3, 3) float32.
        """
        return self.forward(image, weight)

    def bprop(
        self, image: Tensor, weight: Tensor, result: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of image and weight.

        Args:
            image, weight: as for `construct`.
            result: what it returned.
            gradient: of the result, (B, O, H, W).
        """
        return self.input_gradient(gradient, weight), self.weight_gradient(image, gradient)


class NativeStridedConv3x3(nn.Cell):
    """What `ops.Conv2D` computes for a 3x3 kernel, stride 2 and padding 1.

    As matrix products of the image's lines; MindSpore keeps a table of all windows for each of its
    three operators: 140 MB for the first of a ResNet-50 at 768x1280.

    Args:
        library: our compiled operators, of `build.library()`.
    """

    def __init__(self, library: Library) -> None:
        super().__init__()
        self.forward = _operator(library, "strided3x3", _halved_shape)
        self.input_gradient = _operator(
            library, "strided3x3_input_gradient", lambda image, gradient, weight: image
        )
        self.weight_gradient = _operator(library, "strided3x3_weight_gradient", _weight_shape)

    def construct(self, image: Tensor, weight: Tensor) -> Tensor:
        """Return (B, O, H / 2, W / 2) float32, sizes rounded up.

        Args:
            image: (B, I, H, W) float32.
            weight: (O, I, 3, 3) float32.
        """
        return self.forward(image, weight)

    def bprop(
        self, image: Tensor, weight: Tensor, result: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of image and weight.

        Args:
            image, weight: as for `construct`.
            result: what it returned.
            gradient: of the result, of its shape.
        """
        of_image = self.input_gradient(image, gradient, weight)
        return of_image, self.weight_gradient(image, gradient)


class NativePoolCells(nn.Cell):
    """What `GatherCells` computes, in one pass that keeps nothing for the gradient.

    Args:
        library: our compiled operators, of `build.library()`.
    """

    def __init__(self, library: Library) -> None:
        super().__init__()
        self.forward = _operator(library, "pool", _pooled_shape)
        self.map_gradients = _operator(library, "pool_gradient", _map_shapes, _map_types)

    def construct(self, features: tuple[Tensor, ...], rows: Tensor, weights: Tensor) -> Tensor:
        """Return the sums, as `GatherCells.construct` does.

        Args:
            features, rows, weights: as there.
        """
        return self.forward(*features, rows, weights)

    def bprop(
        self,
        features: tuple[Tensor, ...],
        rows: Tensor,
        weights: Tensor,
        result: Tensor,
        gradient: Tensor,
    ) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """Return the gradients: of the maps; rows and weights have none.

        Args:
            features, rows, weights: as for `construct`.
            result: what it returned.
            gradient: of the result, (R, C, bins).
        """
        gradients = self.map_gradients(*features, rows, weights, gradient)
        return gradients, ops.zeros_like(rows), ops.zeros_like(weights)


class NativeAddUpsampled(nn.Cell):
    """What `fpn_neck.AddUpsampled` computes, without the doubled map in between.

    Args:
        library: our compiled operators, of `build.library()`.
    """

    def __init__(self, library: Library) -> None:
        super().__init__()
        self.forward = _operator(library, "add_upsampled", _sum_shape)
        self.coarse_gradient = _operator(
            library, "add_upsampled_gradient", _half_shape, lambda gradient: gradient
        )

    def construct(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return the sum, as `fpn_neck.AddUpsampled.construct` does.

        Args:
            fine, coarse: as there.
        """
        return self.forward(fine, coarse)

    def bprop(
        self, fine: Tensor, coarse: Tensor, result: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of both.

        Args:
            fine, coarse: as for `construct`.
            result: what it returned.
            gradient: of the result, (B, C, 2H, 2W).
        """
        return gradient, self.coarse_gradient(gradient)


class NativeScaleFilters(nn.Cell):
    """What `resnet.ScaleFilters` computes; MindSpore keeps a table four times as large for it.

    Args:
        library: our compiled operators, of `build.library()`.
    """

    def __init__(self, library: Library) -> None:
        super().__init__()
        self.scale = _operator(library, "scale_filters", lambda weight, scale: weight)

    def construct(self, weight: Tensor, scale: Tensor) -> Tensor:
        """Return the scaled filters, as `resnet.ScaleFilters.construct` does.

        Args:
            weight, scale: as there.
        """
        return self.scale(weight, scale)

    def bprop(
        self, weight: Tensor, scale: Tensor, result: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the gradient of the weights; the scale is fixed.

        Args:
            weight, scale: as for `construct`.
            result: what it returned.
            gradient: of the result, (O, I, h, w).
        """
        return self.scale(gradient, scale), ops.zeros_like(scale)


class NativeAnchorOverlaps(nn.Cell):
    """What `matcher.AnchorOverlaps` computes, without a table of all pairs: 250 MB at 768x1280.

    Args:
        library: `build.library()`.
        offset, min_pos_iou: see `matcher.AnchorOverlaps`.
    """

    def __init__(self, library: Library, offset: float, min_pos_iou: float) -> None:
        super().__init__()
        self.offset = offset
        self.least = Tensor([min_pos_iou], mstype.float32)
        self.match = _operator(library, "match_anchors", _match_shapes, _match_types)

    def construct(
        self, anchors: Tensor, gt_boxes: Tensor, gt_valid: Tensor, gt_crowd: Tensor, usable: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compare, as `matcher.AnchorOverlaps.construct` does.

        Args:
            anchors, gt_boxes, gt_valid, gt_crowd, usable: as there.
        """
        return self.match(
            shrink_to_legacy(anchors, self.offset),
            shrink_to_legacy(gt_boxes, self.offset),
            gt_valid,
            gt_crowd,
            usable,
            self.least,
        )


def _conv3x3(conv: nn.Conv2d, library: Library) -> nn.Cell | None:
    """Return what can compute the convolution; None for other kernels, strides or channels."""
    settings = (conv.kernel_size, conv.dilation, conv.group, conv.pad_mode)
    is_plain = settings == ((3, 3), (1, 1), 1, "pad") and conv.padding in (1, (1, 1, 1, 1))
    fits = not (conv.in_channels % library.channels or conv.out_channels % library.channels)
    own = {(1, 1): NativeConv3x3, (2, 2): NativeStridedConv3x3}.get(conv.stride)
    is_single = conv.weight.dtype == mstype.float32
    return own(library) if own and is_plain and fits and is_single else None


# Cells that use one of ours, its attribute there, and what makes it.
_PLACES = (
    (nn.Conv2d, "conv2d", _conv3x3),
    (GatherRoiAlign, "pool", lambda cell, library: NativePoolCells(library)),
    (FeatPyramidNeck, "merge", lambda cell, library: NativeAddUpsampled(library)),
    (FrozenBatchNorm, "scale_filters", lambda cell, library: NativeScaleFilters(library)),
    (
        BboxAssignSample,
        "overlaps",
        lambda cell, library: NativeAnchorOverlaps(library, cell.offset, cell.matcher.min_pos_iou),
    ),
)


def _operator(
    library: Library, name: str, shapes: Callable[..., Any], types: Callable[..., Any] | None = None
) -> ops.Custom:
    return ops.Custom(f"{library.path}:{name}", shapes, types or _float32, "aot")


def _float32(first: mstype.Type, *others: mstype.Type) -> mstype.Type:
    # A parameter's type is a Ref[Tensor[Float32]], which is equal to nothing.
    if "Float32" not in str(first):
        raise TypeError(f"the CPU operators take float32, not {first}")
    return mstype.float32


def _result_shape(image: Shape, weight: Shape) -> Shape:
    _agree(image[1] == weight[1], image, weight)
    return [image[0], weight[0], image[2], image[3]]


def _halved_shape(image: Shape, weight: Shape) -> Shape:
    batch, channels, height, width = _result_shape(image, weight)
    return [batch, channels, (height + 1) // 2, (width + 1) // 2]


def _agree(fits: bool, *shapes: Shape) -> None:
    if not fits:
        raise ValueError(f"the shapes {', '.join(map(str, shapes))} do not fit together")


def _image_shape(gradient: Shape, weight: Shape) -> Shape:
    return [gradient[0], weight[1], gradient[2], gradient[3]]


def _weight_shape(image: Shape, gradient: Shape) -> Shape:
    return [gradient[1], image[1], 3, 3]


def _pooled_shape(*shapes: Shape) -> Shape:
    regions, bins, _ = shapes[-1]
    return [regions, shapes[0][1], bins]


def _map_shapes(*shapes: Shape) -> tuple[Shape, ...]:
    return tuple(shapes[:-3])


def _map_types(*types: mstype.Type) -> tuple[mstype.Type, ...]:
    return tuple(types[:-3])


def _sum_shape(fine: Shape, coarse: Shape) -> Shape:
    _agree(list(fine) == [coarse[0], coarse[1], 2 * coarse[2], 2 * coarse[3]], fine, coarse)
    return fine


def _half_shape(gradient: Shape) -> Shape:
    return [gradient[0], gradient[1], gradient[2] // 2, gradient[3] // 2]


def _match_shapes(*shapes: Shape) -> tuple[Shape, ...]:
    return (shapes[4],) * 4


def _match_types(*types: mstype.Type) -> tuple[mstype.Type, ...]:
    return mstype.float32, mstype.int32, mstype.int32, mstype.float32
