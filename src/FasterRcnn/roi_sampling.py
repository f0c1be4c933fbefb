# SPDX-License-Identifier: Apache-2.0
"""RoIAlign's sums by a gather: averages of bilinear samples, read from one table of all cells."""

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

# RoIs of a fixed number of samples that are pooled together: bounds the memory of the gathered
# corners (200 KB a channel of 256 for 7x7 bins of 2x2 samples).
_CHUNK = 512
# Cells that are gathered together for adaptive samples: 130 MB for 256 channels.
_CELLS = 2**17
# Adaptive samples are more than half a cell apart, so that at most these many of a bin lie within a
# cell of any point; see `GatherRegions`.
_NEAR = 4
# A RoI may be this much larger than its level allows, for rounding.
_MARGIN = 1.001
_TINY = 1.0e-6


class GatherSamples(nn.Cell):
    """A fixed number of samples: by one gather and one batched matrix product.

    A bin is a weighted sum of 4 * sample_num ** 2 cells; the weights need no gradient.

    Args:
        out_size: bins a side.
        sample_num: samples a bin and side.
    """

    def __init__(self, out_size: int, sample_num: int) -> None:
        super().__init__()
        self.out_size = out_size
        self.samples = out_size * sample_num
        self.corners = 2 * sample_num
        steps = (np.arange(self.samples, dtype=np.float32) + 0.5) / self.samples
        self.steps = Tensor(steps[None])

    def construct(self, features: tuple[Tensor, ...], boxes: Tensor, places: Tensor) -> Tensor:
        """Average.

        Args:
            features: (B, C, H_l, W_l) of each level.
            boxes: (R, 4) float32: y, x, height and width in cells, counted from the centre of the
                first cell of an image's map.
            places: (R, 4) int32: that cell, counted level by level, image by image; cells a line of
                the map; and how many lines and cells of a line are read. Beyond them are zeros.

        Returns:
            (R, C, out_size, out_size) float32.
        """
        table = cell_table(features)
        rows, weights = self._corners_of(boxes, places)
        pooled: tuple[Tensor, ...] = ()
        for start in range(0, rows.shape[0], _CHUNK):
            chunk = rows[start : start + _CHUNK]
            cells = ops.gather(table, ops.reshape(chunk, (-1,)), 0)
            cells = ops.reshape(cells, (-1, self.corners**2, table.shape[1]))
            shares = ops.reshape(weights[start : start + _CHUNK], (-1, 1, self.corners**2))
            sums = ops.reshape(ops.bmm(shares, cells), (-1, self.out_size**2, table.shape[1]))
            pooled += (sums,)
        return _as_maps(ops.transpose(_joined(pooled), (0, 2, 1)), self.out_size)

    def _corners_of(self, boxes: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return table rows (int32) and weights (float32), both (R, bins, corners ** 2)."""
        row, row_weight = self._axis(boxes[:, 0], boxes[:, 2], places[:, 2])
        column, column_weight = self._axis(boxes[:, 1], boxes[:, 3], places[:, 3])
        # Integers: as floats, they would be wrong where a runtime computes in 8 or 11 bits.
        row = places[:, 0:1] + ops.cast(row, ms.int32) * places[:, 1:2]
        index = ops.expand_dims(row, 2) + ops.expand_dims(ops.cast(column, ms.int32), 1)
        weight = ops.expand_dims(row_weight, 2) * ops.expand_dims(column_weight, 1)
        return self._by_bin(index), ops.stop_gradient(self._by_bin(weight))

    def _axis(self, start: Tensor, length: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cells (R, bins * corners) that one axis of the bins reads, and weights."""
        position = ops.expand_dims(start, 1) + ops.expand_dims(length, 1) * self.steps
        size = ops.expand_dims(ops.cast(size, ms.float32), 1)
        share = ops.cast(_is_inside(position, position - size), ms.float32)
        share = share * (self.out_size / self.samples)
        position = _clamped(position, size)
        first = ops.floor(position)
        second = ops.minimum(first + 1.0, size - 1.0)
        fraction = position - first
        cells = ops.stack((first, second), -1)
        weights = ops.stack((share - fraction * share, fraction * share), -1)
        flat = (position.shape[0], 2 * self.samples)
        return ops.reshape(cells, flat), ops.reshape(weights, flat)

    def _by_bin(self, values: Tensor) -> Tensor:
        """(R, bins * corners, bins * corners) -> (R, bins ** 2, corners ** 2)."""
        number = values.shape[0]
        bins, corners = self.out_size, self.corners
        values = ops.reshape(values, (number, bins, corners, bins, corners))
        values = ops.transpose(values, (0, 1, 3, 2, 4))
        return ops.reshape(values, (number, bins**2, corners**2))


class GatherRegions(nn.Cell):
    """Adaptive samples, ceil(RoI side / out_size) a bin and side, in static shapes.

    Every cell of a RoI is gathered once, and a matrix product makes bins of them. The cell's weight
    in a bin is the share of its line times its share in the line: the sum over the samples near
    it. Room is for the most cells that a RoI can have; it is small because only the coarsest
    level has RoIs of any area, and each of its cells is large.

    Args:
        out_size: bins a side.
        largest_areas: of each level: RoIs are smaller than that, in cells.
    """

    def __init__(self, out_size: int, largest_areas: Sequence[float]) -> None:
        super().__init__()
        self.out_size = out_size
        self.largest_areas = tuple(largest_areas)
        self.bins = Tensor(np.arange(out_size, dtype=np.float32).reshape(1, 1, -1, 1))
        self.near = Tensor(np.arange(_NEAR, dtype=np.float32).reshape(1, -1, 1, 1))

    def construct(self, features: tuple[Tensor, ...], boxes: Tensor, places: Tensor) -> Tensor:
        """Average, as `GatherSamples.construct` does.

        Args:
            features, boxes, places: as there.
        """
        table = cell_table(features)
        shapes = spatial_shapes(features)
        most = most_cells(shapes, self.largest_areas, self.out_size)
        lines, columns = max([shape[0] for shape in shapes]), max([shape[1] for shape in shapes])
        y = self._axis(boxes[:, 0:1], boxes[:, 2:3], places[:, 2:3], lines)
        x = self._axis(boxes[:, 1:2], boxes[:, 3:4], places[:, 3:4], columns)
        cells, row, column, used = _cells_of(places, y[:2], x[:2], most)
        row_shares, column_shares = y[2], x[2]
        together = max(1, _CELLS // most)
        pooled: tuple[Tensor, ...] = ()
        for start in range(0, boxes.shape[0], together):
            end = start + together
            chunk = cells[start:end]
            if pooled:  # one after the other: else all have their memory at once
                chunk = ops.depend(chunk, pooled[-1])
            of_row = _picked(row_shares[start:end], row[start:end])
            of_row = of_row * ops.expand_dims(used[start:end], 1)
            of_column = _picked(column_shares[start:end], column[start:end])
            weights = ops.expand_dims(of_row, 2) * ops.expand_dims(of_column, 1)
            weights = ops.reshape(weights, (-1, self.out_size**2, most))
            values = ops.gather(table, ops.reshape(chunk, (-1,)), 0)
            values = ops.reshape(values, (-1, most, table.shape[1]))
            pooled += (ops.bmm(ops.stop_gradient(weights), values),)
        return _as_maps(ops.transpose(_joined(pooled), (0, 2, 1)), self.out_size)

    def _axis(
        self, start: Tensor, length: Tensor, size: Tensor, most: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what one axis of the RoIs reads.

        Args:
            start, length: (R, 1) float32 in cells.
            size: (R, 1) int32: cells that can be read.
            most: cells that any RoI reads.

        Returns:
            The first cell (R, 1) and how many (R, 1), int32; and each one's share in every bin, (R,
            most, out_size) float32.
        """
        samples = ops.maximum(_ceil(length / self.out_size), 0.0)
        total = ops.maximum(samples, 1.0) * self.out_size
        step = ops.maximum(length / total, _TINY)
        end = ops.cast(size, ms.float32)
        first = ops.floor(_clamped(start + 0.5 * step, end))
        last = ops.minimum(ops.floor(_clamped(start + length - 0.5 * step, end)) + 1.0, end - 1.0)
        count = ops.maximum(last - first + 1.0, 1.0)

        start, length, end = _as_4d(start), _as_4d(length), _as_4d(end)
        samples, total, step = _as_4d(samples), _as_4d(total), _as_4d(step)
        cell = _as_4d(first) + ops.reshape(ops.cast(counted(most), ms.float32), (1, 1, 1, -1))
        own = self.bins * samples
        nearest = ops.relu(_ceil((cell - 1.0 - start) / step - 0.5) - own) + self.near
        position = start + length * ((own + nearest + 0.5) / total)
        # No minima and comparisons of unlike shapes: they are slow on a CPU.
        nearest_cell = ops.relu(position) - ops.relu(ops.relu(position) - (end - 1.0))
        share = ops.relu(1.0 - ops.abs(nearest_cell - cell))
        is_read = ops.logical_and(_is_inside(position, position - end), nearest - samples < 0.0)
        share = share * ops.cast(is_read, ms.float32) / ops.maximum(samples, 1.0)
        shares = ops.transpose(ops.reduce_sum(share, 1), (0, 2, 1))
        return ops.cast(first, ms.int32), ops.cast(count, ms.int32), shares


def cell_table(features: tuple[Tensor, ...]) -> Tensor:
    """Return (sum of B*H_l*W_l, C) float32: all cells of all levels, level by level.

    Args:
        features: (B, C, H_l, W_l) of each level.
    """
    tables: tuple[Tensor, ...] = ()
    for feature in features:
        cells = ops.transpose(ops.cast(feature, ms.float32), (0, 2, 3, 1))
        tables += (ops.reshape(cells, (-1, feature.shape[1])),)
    return ops.concat(tables, 0)


def spatial_shapes(features: tuple[Tensor, ...]) -> tuple[tuple[int, int], ...]:
    """Return height and width of each level, cells.

    Args:
        features: (B, C, H_l, W_l) of each level.
    """
    shapes: tuple[tuple[int, int], ...] = ()
    for feature in features:
        shapes += (feature.shape[2:],)
    return shapes


@ops.constexpr
def most_cells(
    shapes: tuple[tuple[int, int], ...], largest_areas: tuple[float, ...], out_size: int
) -> int:
    """Return the most cells that the adaptive samples of one RoI read.

    Args:
        shapes: height and width of each level, cells.
        largest_areas: of a RoI on each level, cells.
        out_size: bins a side.
    """
    most = 0.0
    for (height, width), area in zip(shapes, largest_areas, strict=True):
        # A longer RoI is lower. Widths an eighth of a cell apart, each taken for the next one.
        widths = np.arange(1, 8 * width + 1) / 8.0
        columns = np.minimum(_read_cells(widths + 0.125, out_size), width)
        rows = np.minimum(_read_cells(_MARGIN * area / widths, out_size), height)
        most = max(most, (columns * rows).max())
    return int(most)


def _read_cells(length: np.ndarray, out_size: int) -> np.ndarray:
    """Return the most cells of a line that samples of RoIs of these lengths (cells) read."""
    between = length - length / (out_size * np.ceil(length / out_size))
    return np.ceil(between) + 2  # the cells at both ends of a sample


@ops.constexpr
def counted(number: int) -> Tensor:
    """Return 0, 1, 2, ... as (1, number) int32.

    Args:
        number: how many.
    """
    return Tensor(np.arange(number, dtype=np.int32)[None])


def _is_inside(position: Tensor, beyond: Tensor) -> Tensor:
    """Say of samples whether they count: up to a cell outside the map they read its border.

    Args:
        position: in cells.
        beyond: the same, counted from the map's size.
    """
    return ops.logical_and(position >= -1.0, beyond <= 0.0)


def _clamped(position: Tensor, size: Tensor) -> Tensor:
    return ops.maximum(ops.minimum(position, size - 1.0), 0.0)


def _ceil(values: Tensor) -> Tensor:
    return -ops.floor(-values)  # MindSpore's ONNX exporter knows no other


def _cells_of(
    places: Tensor, y: tuple[Tensor, Tensor], x: tuple[Tensor, Tensor], most: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return of every RoI's cells, (R, most): table row, line and cell of a line, used or room.

    Args:
        places: see `GatherSamples.construct`.
        y, x: first line (or cell of a line) that is read and how many, (R, 1) int32.
        most: room, in cells.
    """
    number = counted(most)
    row = ops.floor_div(number, x[1])
    column = number - row * x[1]
    # As floats: of integers, MindSpore's ONNX exporter writes a comparison that cannot be read.
    used = ops.cast(row, ms.float32) - ops.cast(y[1], ms.float32) < 0.0
    row = row * ops.cast(used, ms.int32)
    cells = places[:, 0:1] + (y[0] + row) * places[:, 1:2] + x[0] + column
    return cells, row, column, ops.cast(used, ms.float32)


def _picked(shares: Tensor, index: Tensor) -> Tensor:
    """Return (R, bins, P): of shares (R, n, bins) those of every RoI's own index (R, P) int32."""
    number, most, bins = shares.shape
    rows = index + ops.reshape(counted(number), (-1, 1)) * most
    picked = ops.gather(ops.reshape(shares, (-1, bins)), ops.reshape(rows, (-1,)), 0)
    return ops.transpose(ops.reshape(picked, (number, -1, bins)), (0, 2, 1))


def _as_4d(values: Tensor) -> Tensor:
    return ops.reshape(values, (-1, 1, 1, 1))


def _joined(parts: tuple[Tensor, ...]) -> Tensor:
    return parts[0] if len(parts) == 1 else ops.concat(parts, 0)


def _as_maps(pooled: Tensor, side: int) -> Tensor:
    return ops.reshape(pooled, (pooled.shape[0], -1, side, side))


def largest_areas(strides: Sequence[int], finest_scale: float) -> tuple[float, ...]:
    """Return of each level what a RoI's area stays below, cells; any on the last.

    Args:
        strides: of the levels.
        finest_scale: see `roi_align.build_roi_align`.
    """
    sides = [finest_scale * 2.0 ** (level + 1) / stride for level, stride in enumerate(strides)]
    return (*(side**2 for side in sides[:-1]), float(2**40))
