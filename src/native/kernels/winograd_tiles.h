// SPDX-License-Identifier: Apache-2.0
// Images cut into tiles and blocks of tiles, which are transformed by Winograd's minimal filtering
// with channels next to each other; outside, tensors are NCHW. `Transform`: of
// winograd_transforms.h.
#pragma once

#include <algorithm>

#include "patch.h"
#include "winograd_transforms.h"

namespace kernels {

// Tiles that one thread transforms together: some of a row of tiles, or some rows.
struct Grid {
  Extent extent;                  // of the image in pixels
  int columns, rows;              // of it in tiles
  int block_columns, block_rows;  // tiles of a block
  int across, down;               // blocks of the image

  // `side`: pixels of a tile; `most`: tiles of a block.
  Grid(const Extent &of, int side, int most) : extent(of) {
    columns = (of.columns + side - 1) / side;
    rows = (of.rows + side - 1) / side;
    across = (columns + most - 1) / most;
    block_columns = (columns + across - 1) / across;
    block_rows = std::max(1, std::min(rows, most / block_columns));
    down = (rows + block_rows - 1) / block_rows;
    block_rows = (rows + down - 1) / down;  // so that all are of about the same size
  }
  int64_t blocks() const { return static_cast<int64_t>(across) * down; }
  int most_tiles() const { return block_columns * block_rows; }
};

template <typename Transform>
struct Block {
  static constexpr int kOut = Transform::kOut, kIn = Transform::kIn, kPoints = Transform::kPoints;
  const Grid &grid;
  int first_column, first_row, columns, rows, tiles;

  Block(const Grid &g, int64_t number) : grid(g) {
    first_column = static_cast<int>(number % g.across) * g.block_columns;
    first_row = static_cast<int>(number / g.across) * g.block_rows;
    columns = std::min(g.block_columns, g.columns - first_column);
    rows = std::min(g.block_rows, g.rows - first_row);
    tiles = columns * rows;
  }

  // Floats of the `patch` that the functions below need.
  int64_t patch() const { return int64_t{kIn} * (columns * kOut + 2) * kLanes; }

  // Transforms `channels` of an image and calls put(point, tile, channel, kLanes numbers of
  // channels) for each tile.
  template <typename Put>
  void TransformInput(const float *image, int channels, float *patch, Put put) const {
    Lift<kIn, 1>(Transform::Input, image, channels, patch, put);
  }

  // The same for the gradient of the outputs, whose tiles do not overlap.
  template <typename Put>
  void TransformOutputGradient(const float *image, int channels, float *patch, Put put) const {
    Lift<kOut, 0>(Transform::OutputGradient, image, channels, patch, put);
  }

  // Turns sums[tile][kColumns], one of each `point` floats, into kColumns channels of the image,
  // plus their `bias`, if any, and `positive` or not.
  void TransformOutput(const float *sums, int64_t point, const float *bias, bool positive,
                       float *patch, float *image) const {
    const int64_t area = grid.extent.area();
    const int line = columns * kOut * kLanes;
    for (int v = 0; v < kVectors; ++v) {
      const Vector added = bias ? Load(bias + v * kLanes) : Vector{};
      for (int row = 0; row < rows; ++row) {
        for (int column = 0; column < columns; ++column) {
          const float *from = sums + int64_t{row * columns + column} * kColumns + v * kLanes;
          float *to = patch + column * kOut * kLanes;
          BothWays(
              Transform::Output, [&](int y, int x) { return Load(from + (y * kIn + x) * point); },
              [&](int i, Vector numbers) {
                const Vector value = numbers + added;
                Store(to + i / kOut * line + i % kOut * kLanes, positive ? Positive(value) : value);
              });
        }
        const int y = (first_row + row) * kOut, x = first_column * kOut;
        const int count = std::min(columns * kOut, grid.extent.columns - x);
        for (int i = 0; i < std::min(kOut, grid.extent.rows - y); ++i)
          Transpose(patch + i * line, kLanes,
                    image + v * kLanes * area + static_cast<int64_t>(y + i) * grid.extent.width + x,
                    area, count, kLanes);
      }
    }
  }

 private:
  // Of tiles with `side` pixels, which begin `before` pixels up and to the left of their place.
  template <int side, int before, typename Put>
  void Lift(void transform(const Vector (&)[side], Vector (&)[kIn]), const float *image,
            int channels, float *patch, Put put) const {
    const int64_t area = grid.extent.area();
    const int count = columns * kOut + 2 * before, line = count * kLanes;
    for (int c = 0; c < channels; c += kLanes) {
      for (int row = 0; row < rows; ++row) {
        const int top = (first_row + row) * kOut - before, left = first_column * kOut - before;
        for (int i = 0; i < side; ++i)
          Fetch(image + c * area, grid.extent, top + i, left, count, patch + i * line, kLanes);
        for (int column = 0; column < columns; ++column) {
          const float *from = patch + column * kOut * kLanes;
          const int64_t tile = row * columns + column;
          BothWays(
              transform, [&](int y, int x) { return Load(from + y * line + x * kLanes); },
              [&](int64_t point, Vector numbers) { put(point, tile, c, numbers); });
        }
      }
    }
  }
};

}  // namespace kernels
