# SPDX-License-Identifier: Apache-2.0
"""RoIAlign over a feature pyramid (Mask R-CNN, section 3; level choice: FPN, equation 1)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from .box_ops import split_coordinates
from .own_canvas import EVERYWHERE, PyramidCells, ZeroBehind, repeat_border
from .roi_sampling import GatherRegions, GatherSamples, largest_areas, spatial_shapes

ROI_ALIGN_KINDS = ("gather", "operator")
LEVEL_FORMULAS = ("mmdetection", "torchvision")
_LEVEL_EPS = 1.0e-6
# MindSpore's operator takes a RoI for padding whose x1 and x2 are both closer to 0 than this.
NO_PLACE = 1.0e-3
# Cells that a RoI is moved by so that it reads none.
_FAR = 1.0e6


@dataclass(frozen=True, slots=True)
class RoiAlignForm:
    """What is pooled, whatever computes it.

    Attributes:
        strides, out_size, sample_num, finest_scale, offset, aligned: see `build_roi_align`.
        added_inside: see `LevelChooser`.
    """

    strides: tuple[int, ...]
    out_size: int
    sample_num: int
    finest_scale: float
    offset: float
    aligned: bool
    added_inside: bool


def build_roi_align(
    kind: str,
    *,
    strides: Sequence[int],
    out_size: int,
    sample_num: int,
    finest_scale: float,
    offset: float,
    aligned: bool,
    level_formula: str,
) -> nn.Cell:
    """Return the RoIAlign Cell of a `kind`: "gather" (one pass, CPU) or "operator" (GPU, Ascend).

    Adaptive samples are always gathered: MindSpore's operator rounds their number down.

    Args:
        kind: of `ROI_ALIGN_KINDS`.
        strides: of the pyramid levels that are pooled, e.g. (4, 8, 16, 32).
        out_size: bins a side.
        sample_num: samples a bin and side; 0: adaptive, ceil(RoI side in cells / out_size).
        finest_scale: RoIs below twice this side, px, go to the first level, below four times to
            the second, and so on.
        offset: see `box_ops`; a legacy RoI reaches to the end of its last pixel.
        aligned: move RoIs by half a feature cell, so that features sit at cell centres
            (detectron2's ROIAlignV2).
        level_formula: see `LevelChooser`.

    Raises:
        ValueError: there is no such kind or formula.
    """
    if kind not in ROI_ALIGN_KINDS:
        raise ValueError(f"RoIAlign kind {kind!r} is none of {', '.join(ROI_ALIGN_KINDS)}")
    cell = OperatorRoiAlign if kind == "operator" and sample_num else GatherRoiAlign
    choose_level = LevelChooser(len(strides), finest_scale, offset, level_formula)
    built = cell(choose_level, strides, out_size, sample_num, offset, aligned)
    added_inside = choose_level.added_inside
    built.form = RoiAlignForm(
        tuple(strides), out_size, sample_num, finest_scale, offset, aligned, added_inside
    )
    return built


class LevelChooser(nn.Cell):
    """The pyramid level of every RoI by its size.

    Args:
        num_levels: how many there are.
        finest_scale: see `build_roi_align`.
        offset: see `box_ops`.
        formula: of `LEVEL_FORMULAS`: whether the small number that decides on the border of two
            levels is added inside the logarithm or behind it.
    """

    def __init__(self, num_levels: int, finest_scale: float, offset: float, formula: str) -> None:
        super().__init__()
        if formula not in LEVEL_FORMULAS:
            raise ValueError(f"level formula {formula!r} is none of {', '.join(LEVEL_FORMULAS)}")
        self.added_inside = formula == "mmdetection"
        self.highest = float(num_levels - 1)
        self.finest_scale = finest_scale
        self.offset = offset

    def construct(self, rois: Tensor) -> Tensor:
        """Return the level of each RoI, (R,) int32, counted from the finest one, 0.

        Args:
            rois: (R, 4) float32 xyxy in network-input pixels.
        """
        x1, y1, x2, y2 = split_coordinates(rois)
        width, height = x2 - x1 + self.offset, y2 - y1 + self.offset
        scale = ops.sqrt(ops.relu(width * height)) / self.finest_scale
        if self.added_inside:
            octave = ops.log(scale + _LEVEL_EPS) / math.log(2.0)
        else:
            octave = ops.log(ops.maximum(scale, _LEVEL_EPS)) / math.log(2.0) + _LEVEL_EPS
        return ops.cast(ops.clamp(ops.floor(octave), 0.0, self.highest), ms.int32)


class GatherRoiAlign(nn.Cell):
    """All levels in one pass: every RoI reads only the cells it needs.

    Args:
        choose_level: which level a RoI is pooled from.
        strides, out_size, sample_num, offset, aligned: see `build_roi_align`.

    Attributes:
        pool: computes the averages: `roi_sampling.GatherSamples`, or a Cell with the same inputs.
    """

    def __init__(
        self,
        choose_level: LevelChooser,
        strides: Sequence[int],
        out_size: int,
        sample_num: int,
        offset: float,
        aligned: bool,
    ) -> None:
        super().__init__()
        self.choose_level = choose_level
        self.out_size, self.sample_num = out_size, sample_num
        self.offset = offset
        self.half_cell = 0.5 if aligned else 0.0
        self.scales = Tensor(1.0 / np.array(strides, np.float32))
        if sample_num:
            self.pool = GatherSamples(out_size, sample_num)
        else:
            areas = largest_areas(strides, choose_level.finest_scale)
            self.pool = GatherRegions(out_size, areas)

    def construct(
        self, features: tuple[Tensor, ...], rois: Tensor, cells: PyramidCells = EVERYWHERE
    ) -> Tensor:
        """Pool.

        Args:
            features: (B, C, H_l, W_l) of each level.
            rois: (B, R, 4) float32 in network-input pixels.
            cells: of each level; behind them there is nothing, as behind a map's border.

        Returns:
            (B*R, C, out_size, out_size) float32.
        """
        batch, number = rois.shape[:2]
        rois = ops.reshape(rois, (-1, 4))
        level = self.choose_level(rois)
        image = _image_of_roi(batch, number)
        height, width, area, start = _level_constants(spatial_shapes(features), batch)
        first = ops.gather(start, level, 0) + image * ops.gather(area, level, 0)
        line = ops.gather(width, level, 0)
        size = ops.stack((ops.gather(height, level, 0), line), -1)
        if cells[0] is not None:
            own = ops.cast(ops.reshape(ops.stack(cells), (-1, 2)), ms.int32)
            size = ops.gather(own, level * batch + image, 0)
        places = ops.concat((ops.stack((first, line), -1), size), 1)
        boxes = self._in_cells(rois, ops.gather(self.scales, level, 0))
        return self.pool(features, ops.stop_gradient(boxes), places)

    def _in_cells(self, rois: Tensor, scale: Tensor) -> Tensor:
        """Return y, x, height and width of `rois` in cells, (R, 4)."""
        x1, y1, x2, y2 = split_coordinates(rois)
        y, height = self._axis(y1, y2, scale)
        x, width = self._axis(x1, x2, scale)
        if self.offset:
            x = x - (1.0 - _has_place(x1, x2)) * _FAR
        return ops.stack((y, x, height, width), -1)

    def _axis(self, low: Tensor, high: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        start = low * scale - self.half_cell
        length = (high + self.offset) * scale - self.half_cell - start
        if not (self.half_cell or self.offset):  # the model zoo's operator does neither
            length = ops.maximum(length, 1.0)
        return start, length


class OperatorRoiAlign(nn.Cell):
    """MindSpore's ROIAlign operator on every level; each RoI keeps the result of its own.

    At the border of a picture's own canvas, RoIs narrower than a cell are not exact.

    Args:
        choose_level: which level a RoI is pooled from.
        strides, out_size, sample_num, offset, aligned: see `build_roi_align`.
    """

    def __init__(
        self,
        choose_level: LevelChooser,
        strides: Sequence[int],
        out_size: int,
        sample_num: int,
        offset: float,
        aligned: bool,
    ) -> None:
        super().__init__()
        self.choose_level = choose_level
        self.offset = offset
        self.zero_behind = ZeroBehind()
        self.shifts = [0.5 * stride if aligned else 0.0 for stride in strides]
        self.shortest = [None if aligned or offset else float(stride) for stride in strides]
        self.pools = [ops.ROIAlign(out_size, out_size, 1.0 / s, sample_num, 1) for s in strides]

    def construct(
        self, features: tuple[Tensor, ...], rois: Tensor, cells: PyramidCells = EVERYWHERE
    ) -> Tensor:
        """Pool, with the result of `GatherRoiAlign.construct`.

        Args:
            features: (B, C, H_l, W_l) of each level.
            rois: (B, R, 4) float32 in network-input pixels.
            cells: of each level.
        """
        batch, number = rois.shape[:2]
        rois = ops.reshape(rois, (-1, 4))
        level = self.choose_level(rois)
        image = ops.expand_dims(ops.cast(_image_of_roi(batch, number), ms.float32), 1)
        pooled = 0.0
        for index, pool in enumerate(self.pools):
            read = _operator_rois(rois, self.offset, self.shifts[index], self.shortest[index])
            own = ops.reshape(ops.cast(ops.equal(level, index), ms.float32), (-1, 1, 1, 1))
            feature = self.zero_behind(ops.cast(features[index], ms.float32), cells[index])
            feature = repeat_border(feature, cells[index])
            values = pool(feature, ops.concat((image, read), 1))
            pooled = pooled + values * own
        if self.offset:
            pooled = pooled * ops.reshape(_has_place(rois[:, 0], rois[:, 2]), (-1, 1, 1, 1))
        return pooled


@ops.constexpr
def _level_constants(
    shapes: tuple[tuple[int, int], ...], batch: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return of each level, (L,) int32: height, width, cells and first table row.

    Raises:
        ValueError: more rows than int32 counts.
    """
    sizes = np.array(shapes, np.int64)
    areas = sizes.prod(1)
    if batch * areas.sum() >= 2**31:
        raise ValueError(
            f"{batch} images at once are too many for RoIAlign: at most {2**31 // areas.sum()}"
        )
    rows = np.concatenate([[0], np.cumsum(batch * areas)])[:-1]
    heights, widths = sizes[:, 0], sizes[:, 1]
    return tuple(Tensor(values.astype(np.int32)) for values in (heights, widths, areas, rows))


@ops.constexpr
def _image_of_roi(batch: int, number: int) -> Tensor:
    return Tensor(np.repeat(np.arange(batch, dtype=np.int32), number))


def _operator_rois(rois: Tensor, offset: float, shift: float, shortest: float | None) -> Tensor:
    """Return `rois` (R, 4) as the ROIAlign operator must be told them.

    Its gradient knows the legacy convention only, whatever `roi_end_mode` is: a RoI ends one pixel
    later, and may be shorter than a cell, or end before it starts. So modern RoIs are put into
    those terms, with the `shortest` sides that they may have (px, or None). Those that it would
    take for padding, and leave whatever was in memory, are moved a little.
    """
    start, end = rois[:, :2], rois[:, 2:]
    if shortest is not None:
        end = ops.maximum(end, start + shortest)
    read = ops.concat((start - shift, end - shift - (1.0 - offset)), 1)
    has_place = ops.expand_dims(_has_place(read[:, 0], read[:, 2]), 1)
    return read + (1.0 - has_place) * (2.0 * NO_PLACE)


def _has_place(x1: Tensor, x2: Tensor) -> Tensor:
    """Return (R,) float32: 0 for RoIs (x1, x2: (R,), px) of no width at the left border, else 1.

    In the legacy convention these pool to zeros: the padding (0, 0, 0, 0), and what is left of
    boxes beyond the border. Numbers of the model zoo's network contain that.
    """
    return ops.cast(ops.maximum(ops.abs(x1), ops.abs(x2)) >= NO_PLACE, ms.float32)
