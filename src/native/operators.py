# SPDX-License-Identifier: Apache-2.0
"""Our C++ operators as Cells with gradients, and what they take the place of in a network."""

from collections.abc import Callable, Hashable
from typing import Any

from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype

from ..FasterRcnn.bbox_assign_sample import BboxAssignSample
from ..FasterRcnn.box_ops import shrink_to_legacy
from ..FasterRcnn.fpn_neck import AddInterpolated, AddUpsampled, FeatPyramidNeck
from ..FasterRcnn.layers import Conv2d, Dense
from ..FasterRcnn.nms import KernelNms
from ..FasterRcnn.norms import BatchNorm, FrozenBatchNorm, GroupNorm
from ..FasterRcnn.own_canvas import LOWEST, Cells
from ..FasterRcnn.resnet import StemPool
from ..FasterRcnn.roi_align import GatherRoiAlign
from ..FasterRcnn.rpn import RpnRegClsBlock
from ..FasterRcnn.soft_nms import SoftNms
from .build import Library
from .convolutions import NativeConv, NativeZeroBehind, conv_settings
from .custom import Shape, agree, given, no_gradient, operator
from .dense import NativeDense, dense_settings
from .norms import NativeNormalise
from .stem import NativeStemPool
from .suppression import NativeNms, NativeSoftNms


def use_native_operators(
    network: nn.Cell, library: Library, tight: bool = False, apart: bool = False
) -> int:
    """Let a network use the Cells below wherever they fit; returns in how many places.

    Parameters, their names and the network's structure stay as they are.

    Args:
        network: changed in place; Cells inside it get one of ours as an attribute. Equal ones of a
            part of the network are the same Cell: MindSpore reads, types and differentiates it
            once.
        library: our compiled operators, of `build.library()`.
        tight: whether the network knows its pictures' own canvases.
        apart: every place has a Cell of its own, as blocks must that are computed again for the
            gradients.
    """
    made: dict[Hashable, nn.Cell] = {}
    places = 0
    for path, cell in network.cells_and_names():
        part = path if apart else path.partition(".")[0]
        for kind, attribute, make, settings in _PLACES + _CANVAS_PLACES if tight else _PLACES:
            values = settings(cell, library) if isinstance(cell, kind) else None
            if values is not None:
                key = part, make, values
                if key not in made:
                    made[key] = make(library, *values)
                setattr(cell, attribute, made[key])
                places += 1
    return places


class NativePoolRegions(nn.Cell):
    """What `roi_sampling.GatherSamples` and `GatherRegions` compute, in one pass over the maps.

    Args:
        library: our compiled operators, of `build.library()`.
        out_size, sample_num: see `roi_align.build_roi_align`.
    """

    def __init__(self, library: Library, out_size: int, sample_num: int) -> None:
        super().__init__()
        self.samples = Tensor([sample_num], mstype.int32)
        self.forward = operator(
            library, "pool", lambda *shapes: [shapes[-2][0], shapes[0][1], out_size, out_size]
        )
        self.map_gradients = operator(library, "pool_gradient", _map_shapes, _map_types)

    def construct(self, features: tuple[Tensor, ...], boxes: Tensor, places: Tensor) -> Tensor:
        """Return the averages, as `GatherSamples.construct` does.

        Args:
            features, boxes, places: as there.
        """
        return self.forward(*features, boxes, places, self.samples)

    def bprop(
        self,
        features: tuple[Tensor, ...],
        boxes: Tensor,
        places: Tensor,
        result: Tensor,
        gradient: Tensor,
    ) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """Return the gradients: of the maps; boxes and places have none.

        Args:
            features, boxes, places: as for `construct`.
            result: what it returned.
            gradient: of the result, of its shape.
        """
        gradients = self.map_gradients(*features, boxes, places, self.samples, gradient)
        return gradients, ops.zeros_like(boxes), ops.zeros_like(places)


class NativeAddUpsampled(nn.Cell):
    """What `fpn_neck.AddUpsampled` computes, without the doubled map in between.

    Args:
        library: our compiled operators, of `build.library()`.
    """

    def __init__(self, library: Library) -> None:
        super().__init__()
        self.forward = operator(library, "add_upsampled", _sum_shape)
        self.coarse_gradient = operator(
            library, "add_upsampled_gradient", _half_shape, lambda gradient: gradient
        )

    def construct(self, fine: Tensor, coarse: Tensor, cells: Cells = None) -> Tensor:
        """Return the sum, as `fpn_neck.AddUpsampled.construct` does.

        Args:
            fine, coarse, cells: as there.
        """
        return self.forward(fine, coarse)

    def bprop(
        self, fine: Tensor, coarse: Tensor, cells: Cells, result: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor, Cells]:
        """Return the gradients of both; cells have none.

        Args:
            fine, coarse, cells: as for `construct`.
            result: what it returned.
            gradient: of the result, (B, C, 2H, 2W).
        """
        return gradient, self.coarse_gradient(gradient), no_gradient(cells)


class NativePerAnchor(nn.Cell):
    """What `rpn.PerAnchor` computes; MindSpore keeps tables four times as large for it.

    Args:
        library: our compiled operators, of `build.library()`.
    """

    def __init__(self, library: Library) -> None:
        super().__init__()
        self.lowest = Tensor([LOWEST], mstype.float32)
        self.forward = operator(library, "per_anchor", _anchor_shapes, _both_types)
        self.map_gradients = operator(library, "per_anchor_gradient", _head_shapes, _both_types)

    def construct(self, logits: Tensor, deltas: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
        """Return both in another order, as `rpn.PerAnchor.construct` does.

        Args:
            logits, deltas, cells: as there.
        """
        return self.forward(logits, deltas, self.lowest, *given(cells))

    def bprop(
        self,
        logits: Tensor,
        deltas: Tensor,
        cells: Cells,
        results: tuple[Tensor, Tensor],
        gradients: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor, Cells]:
        """Return the gradients of logits and deltas; cells have none.

        Args:
            logits, deltas, cells: as for `construct`.
            results: what it returned.
            gradients: of both, of their shapes.
        """
        of_logits, of_deltas = self.map_gradients(logits, *gradients, *given(cells))
        return of_logits, of_deltas, no_gradient(cells)


class NativeFoldNorm(nn.Cell):
    """What `norms.FoldNorm` computes, in one operator; MindSpore takes six, and keeps tables.

    Args:
        library: our compiled operators, of `build.library()`.
        eps: see `norms.FoldNorm`.
    """

    def __init__(self, library: Library, eps: float) -> None:
        super().__init__()
        self.eps = Tensor([eps], mstype.float32)
        self.fold = operator(library, "fold_norm", _folded_shapes, _both_types)
        self.weight_gradient = operator(
            library, "fold_norm_gradient", lambda gradient, *norm: gradient
        )

    def construct(
        self, weight: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return weights and bias, as `norms.FoldNorm.construct` does.

        Args:
            weight, gamma, beta, mean, variance: as there.
        """
        return self.fold(weight, gamma, beta, mean, variance, self.eps)

    def bprop(
        self,
        weight: Tensor,
        gamma: Tensor,
        beta: Tensor,
        mean: Tensor,
        variance: Tensor,
        results: tuple[Tensor, Tensor],
        gradients: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the gradient of the weights; the norm is fixed.

        Args:
            weight, gamma, beta, mean, variance: as for `construct`.
            results: what it returned.
            gradients: of both, of their shapes.
        """
        none = ops.zeros_like(gamma)
        return (
            self.weight_gradient(gradients[0], gamma, variance, self.eps),
            none,
            none,
            none,
            none,
        )


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
        self.match = operator(library, "match_anchors", _match_shapes, _match_types)

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


# Kinds of Cells that use one of ours, its attribute there, its class, and what that takes beside
# the library; None: nothing fits.
_Place = tuple[Any, str, Callable[..., nn.Cell], Callable[[Any, Library], tuple[Any, ...] | None]]
_PLACES: tuple[_Place, ...] = (
    (Conv2d, "own", NativeConv, conv_settings),
    (Dense, "own", NativeDense, dense_settings),
    (
        GatherRoiAlign,
        "pool",
        NativePoolRegions,
        lambda cell, library: (cell.out_size, cell.sample_num),
    ),
    (
        FeatPyramidNeck,
        "merge",
        NativeAddUpsampled,
        lambda cell, library: () if isinstance(cell.merge, AddUpsampled) else None,
    ),
    (RpnRegClsBlock, "per_anchor", NativePerAnchor, lambda cell, library: ()),
    (
        (BatchNorm, GroupNorm),
        "normalise",
        NativeNormalise,
        lambda cell, library: (cell.normalise.groups, cell.normalise.eps),
    ),
    (FrozenBatchNorm, "fold", NativeFoldNorm, lambda cell, library: (cell.eps,)),
    (
        BboxAssignSample,
        "overlaps",
        NativeAnchorOverlaps,
        lambda cell, library: (cell.offset, cell.matcher.min_pos_iou),
    ),
    (KernelNms, "own", NativeNms, lambda cell, library: (cell.iou_threshold,)),
    (StemPool, "own", NativeStemPool, lambda cell, library: (cell.is_symmetric,)),
    (SoftNms, "take", NativeSoftNms, lambda cell, library: (cell.take,)),
)
# Those of networks that know their pictures' own canvases.
_CANVAS_PLACES: tuple[_Place, ...] = (
    (
        Conv2d,
        "zero_behind",
        NativeZeroBehind,
        lambda cell, library: () if cell.has_window and cell.own is None else None,
    ),
    (AddInterpolated, "zero_behind", NativeZeroBehind, lambda cell, library: ()),
)


def _map_shapes(*shapes: Shape) -> tuple[Shape, ...]:
    return tuple(shapes[:-4])


def _map_types(*types: mstype.Type) -> tuple[mstype.Type, ...]:
    return tuple(types[:-4])


def _sum_shape(fine: Shape, coarse: Shape) -> Shape:
    agree(list(fine) == [coarse[0], coarse[1], 2 * coarse[2], 2 * coarse[3]], fine, coarse)
    return fine


def _anchor_shapes(logits: Shape, deltas: Shape, *others: Shape) -> tuple[Shape, Shape]:
    batch, anchors, height, width = logits
    agree(list(deltas) == [batch, 4 * anchors, height, width], logits, deltas)
    count = height * width * anchors
    return [batch, count], [batch, count, 4]


def _head_shapes(logits: Shape, *others: Shape) -> tuple[Shape, Shape]:
    batch, anchors, height, width = logits
    return logits, [batch, 4 * anchors, height, width]


def _both_types(*types: mstype.Type) -> tuple[mstype.Type, mstype.Type]:
    return mstype.float32, mstype.float32


def _folded_shapes(weight: Shape, gamma: Shape, *others: Shape) -> tuple[Shape, Shape]:
    return weight, gamma


def _half_shape(gradient: Shape) -> Shape:
    return [gradient[0], gradient[1], gradient[2] // 2, gradient[3] // 2]


def _match_shapes(*shapes: Shape) -> tuple[Shape, ...]:
    return (shapes[4],) * 4


def _match_types(*types: mstype.Type) -> tuple[mstype.Type, ...]:
    return mstype.float32, mstype.int32, mstype.int32, mstype.float32
