// SPDX-License-Identifier: Apache-2.0
// 3x3 convolutions of stride 1, padded by 1, with Winograd's minimal filtering (Lavin & Gray 2015):
// tiles of kOut x kOut outputs cost (kOut + 2)^2 multiplications a channel instead of 9 kOut^2.
// Inside, channels lie next to each other; outside, tensors are NCHW.
#include <algorithm>
#include <vector>

#include "convolution.h"
#include "matrix.h"
#include "threads.h"
#include "vector.h"

namespace kernels {
namespace {

// F(2x2, 3x3), section 4.1: points 0, 1, -1.
struct TwoByTwo {
  static constexpr int kOut = 2;
  template <typename T>
  static void input(const T *x, int64_t step, T *y) {
    const T x0 = x[0], x1 = x[step], x2 = x[2 * step], x3 = x[3 * step];
    y[0] = x0 - x2;
    y[1] = x1 + x2;
    y[2] = x2 - x1;
    y[3] = x1 - x3;
  }
  template <typename T>
  static void filter(const T *x, int64_t step, T *y) {
    const T x0 = x[0], x1 = x[step], x2 = x[2 * step];
    y[0] = x0;
    y[1] = (x0 + x1 + x2) * 0.5f;
    y[2] = (x0 - x1 + x2) * 0.5f;
    y[3] = x2;
  }
  template <typename T>
  static void output(const T *x, int64_t step, T *y) {
    const T x0 = x[0], x1 = x[step], x2 = x[2 * step], x3 = x[3 * step];
    y[0] = x0 + x1 + x2;
    y[1] = x1 - x2 - x3;
  }
  template <typename T>
  static void output_gradient(const T *x, int64_t step, T *y) {
    const T x0 = x[0], x1 = x[step];
    y[0] = x0;
    y[1] = x0 + x1;
    y[2] = x0 - x1;
    y[3] = -x1;
  }
  template <typename T>
  static void filter_gradient(const T *x, int64_t step, T *y) {
    const T x0 = x[0], x1 = x[step], x2 = x[2 * step], x3 = x[3 * step];
    y[0] = x0 + (x1 + x2) * 0.5f;
    y[1] = (x1 - x2) * 0.5f;
    y[2] = (x1 + x2) * 0.5f + x3;
  }
};

// F(4x4, 3x3): points 0, 1, -1, 2, -2.
struct FourByFour {
  static constexpr int kOut = 4;
  template <typename T>
  static void input(const T *x, int64_t step, T *y) {
    const T x0 = x[0], x1 = x[step], x2 = x[2 * step], x3 = x[3 * step], x4 = x[4 * step],
            x5 = x[5 * step];
    const T even = x4 - 4.0f * x2, odd = x3 - 4.0f * x1, even2 = x4 - x2, odd2 = 2.0f * (x3 - x1);
    y[0] = 4.0f * x0 - 5.0f * x2 + x4;
    y[1] = even + odd;
    y[2] = even - odd;
    y[3] = even2 + odd2;
    y[4] = even2 - odd2;
    y[5] = 4.0f * x1 - 5.0f * x3 + x5;
  }
  template <typename T>
  static void filter(const T *x, int64_t step, T *y) {
    const T x0 = x[0], x1 = x[step], x2 = x[2 * step];
    const T ends = (x0 + x2) * (1.0f / 6), middle = x1 * (1.0f / 6);
    const T far = x0 * (1.0f / 24) + x2 * (1.0f / 6), far_middle = x1 * (1.0f / 12);
    y[0] = x0 * 0.25f;
    y[1] = -ends - middle;
    y[2] = middle - ends;
    y[3] = far + far_middle;
    y[4] = far - far_middle;
    y[5] = x2;
  }
  template <typename T>
  static void output(const T *x, int64_t step, T *y) {
    const T x0 = x[0], x1 = x[step], x2 = x[2 * step], x3 = x[3 * step], x4 = x[4 * step],
            x5 = x[5 * step];
    const T sum1 = x1 + x2, sum2 = x3 + x4, gap1 = x1 - x2, gap2 = x3 - x4;
    y[0] = x0 + sum1 + sum2;
    y[1] = gap1 + 2.0f * gap2;
    y[2] = sum1 + 4.0f * sum2;
    y[3] = gap1 + 8.0f * gap2 + x5;
  }
  template <typename T>
  static void output_gradient(const T *x, int64_t step, T *y) {
    const T x0 = x[0], x1 = x[step], x2 = x[2 * step], x3 = x[3 * step];
    const T even = x0 + x2, odd = x1 + x3, even2 = x0 + 4.0f * x2, odd2 = 2.0f * x1 + 8.0f * x3;
    y[0] = x0;
    y[1] = even + odd;
    y[2] = even - odd;
    y[3] = even2 + odd2;
    y[4] = even2 - odd2;
    y[5] = x3;
  }
  template <typename T>
  static void filter_gradient(const T *x, int64_t step, T *y) {
    const T x0 = x[0], x1 = x[step], x2 = x[2 * step], x3 = x[3 * step], x4 = x[4 * step],
            x5 = x[5 * step];
    const T sum1 = x1 + x2, sum2 = x3 + x4, gap1 = x2 - x1, gap2 = x3 - x4;
    y[0] = x0 * 0.25f - sum1 * (1.0f / 6) + sum2 * (1.0f / 24);
    y[1] = gap1 * (1.0f / 6) + gap2 * (1.0f / 12);
    y[2] = (sum2 - sum1) * (1.0f / 6) + x5;
  }
};

// Applies one of the transforms above to the columns, then the rows of a tile.
template <int in, int out, typename T, typename Transform>
inline void both_ways(Transform transform, const T *x, int64_t row_step, int64_t column_step, T *y) {
  T half[in][out];
#pragma GCC unroll 6
  for (int row = 0; row < in; ++row) transform(x + row * row_step, column_step, half[row]);
#pragma GCC unroll 6
  for (int column = 0; column < out; ++column) {
    T line[out];
    transform(&half[0][column], out, line);
#pragma GCC unroll 6
    for (int row = 0; row < out; ++row) y[row * out + column] = line[row];
  }
}

#define TRANSFORM(name) [](const auto *x, int64_t step, auto *y) { Tile::name(x, step, y); }

// Tiles that one thread transforms and multiplies together: some of a row of tiles, or some rows.
template <class Tile>
struct Tiling {
  static constexpr int kOut = Tile::kOut, kIn = kOut + 2, kPoints = kIn * kIn;
  int height, width, columns, rows;  // of the image in pixels, and in tiles
  int block_columns, block_rows;     // tiles of a block
  int across, down;                  // blocks of the image

  Tiling(int h, int w, int most) : height(h), width(w) {
    columns = (w + kOut - 1) / kOut;
    rows = (h + kOut - 1) / kOut;
    across = (columns + most - 1) / most;
    block_columns = (columns + across - 1) / across;
    block_rows = std::max(1, std::min(rows, most / block_columns));
    down = (rows + block_rows - 1) / block_rows;
  }
  int64_t blocks() const { return static_cast<int64_t>(across) * down; }
  int most_tiles() const { return block_columns * block_rows; }
  int line() const { return block_columns * kOut + 2; }
};

template <class Tile>
struct Block {
  using Grid = Tiling<Tile>;
  const Grid &grid;
  int first_column, first_row, columns, rows, tiles;

  Block(const Grid &g, int64_t number) : grid(g) {
    first_column = static_cast<int>(number % g.across) * g.block_columns;
    first_row = static_cast<int>(number / g.across) * g.block_rows;
    columns = std::min(g.block_columns, g.columns - first_column);
    rows = std::min(g.block_rows, g.rows - first_row);
    tiles = columns * rows;
  }

  // Copies kLanes channels of `count` pixels from (y, x), zeros outside the image, to
  // patch[pixel][lane].
  void fetch(const float *image, int y, int x, int count, float *patch) const {
    const int64_t area = static_cast<int64_t>(grid.height) * grid.width;
    if (y < 0 || y >= grid.height) {
      std::memset(patch, 0, sizeof(float) * count * kLanes);
      return;
    }
    const int before = std::clamp(-x, 0, count);
    const int inside = std::clamp(grid.width - (x + before), 0, count - before);
    std::memset(patch, 0, sizeof(float) * before * kLanes);
    transpose(image + static_cast<int64_t>(y) * grid.width + x + before, area,
              patch + before * kLanes, kLanes, kLanes, inside);
    const int end = before + inside;
    std::memset(patch + end * kLanes, 0, sizeof(float) * (count - end) * kLanes);
  }

  // Transforms `channels` of an image to to[point][tile][channel], `stride` tiles a point; `patch`
  // is room for kIn lines.
  void transform_input(const float *image, int channels, float *patch, float *to,
                       int64_t stride) const {
    const int64_t area = static_cast<int64_t>(grid.height) * grid.width;
    const int count = columns * Grid::kOut + 2, line = count * kLanes;
    for (int c = 0; c < channels; c += kLanes) {
      for (int row = 0; row < rows; ++row) {
        const int y = (first_row + row) * Grid::kOut - 1, x = first_column * Grid::kOut - 1;
        for (int i = 0; i < Grid::kIn; ++i) fetch(image + c * area, y + i, x, count, patch + i * line);
        for (int column = 0; column < columns; ++column) {
          Vector tile[Grid::kPoints], result[Grid::kPoints];
#pragma GCC unroll 36
          for (int i = 0; i < Grid::kPoints; ++i)
            tile[i] = load(patch + i / Grid::kIn * line +
                           (column * Grid::kOut + i % Grid::kIn) * kLanes);
          both_ways<Grid::kIn, Grid::kIn>(TRANSFORM(input), tile, Grid::kIn, 1, result);
          const int64_t t = row * columns + column;
#pragma GCC unroll 36
          for (int p = 0; p < Grid::kPoints; ++p)
            store(to + (p * stride + t) * channels + c, result[p]);
        }
      }
    }
  }

  // The same for the gradient of the outputs, whose tiles do not overlap.
  void transform_output_gradient(const float *image, int channels, float *patch, float *to,
                                 int64_t stride) const {
    const int64_t area = static_cast<int64_t>(grid.height) * grid.width;
    const int count = columns * Grid::kOut, line = count * kLanes;
    for (int c = 0; c < channels; c += kLanes) {
      for (int row = 0; row < rows; ++row) {
        const int y = (first_row + row) * Grid::kOut, x = first_column * Grid::kOut;
        for (int i = 0; i < Grid::kOut; ++i)
          fetch(image + c * area, y + i, x, count, patch + i * line);
        for (int column = 0; column < columns; ++column) {
          Vector tile[Grid::kOut * Grid::kOut], half[Grid::kOut][Grid::kIn], up[Grid::kIn];
#pragma GCC unroll 16
          for (int i = 0; i < Grid::kOut * Grid::kOut; ++i)
            tile[i] = load(patch + i / Grid::kOut * line +
                           (column * Grid::kOut + i % Grid::kOut) * kLanes);
#pragma GCC unroll 4
          for (int i = 0; i < Grid::kOut; ++i)
            Tile::output_gradient(tile + i * Grid::kOut, 1, half[i]);
          const int64_t t = row * columns + column;
#pragma GCC unroll 6
          for (int j = 0; j < Grid::kIn; ++j) {
            Tile::output_gradient(&half[0][j], Grid::kIn, up);
#pragma GCC unroll 6
            for (int i = 0; i < Grid::kIn; ++i)
              store(to + ((i * Grid::kIn + j) * stride + t) * channels + c, up[i]);
          }
        }
      }
    }
  }

  // Turns sums[point][tile][kColumns] into kColumns channels of the image; `patch` is room for
  // kOut lines.
  void transform_output(const float *sums, float *patch, float *image) const {
    const int64_t area = static_cast<int64_t>(grid.height) * grid.width;
    const int line = columns * Grid::kOut * kLanes;
    for (int v = 0; v < kVectors; ++v) {
      for (int row = 0; row < rows; ++row) {
        for (int column = 0; column < columns; ++column) {
          const float *from = sums + static_cast<int64_t>(row * columns + column) * kColumns + v * kLanes;
          Vector half[Grid::kIn][Grid::kOut];
#pragma GCC unroll 6
          for (int i = 0; i < Grid::kIn; ++i) {
            Vector points[Grid::kIn];
#pragma GCC unroll 6
            for (int j = 0; j < Grid::kIn; ++j)
              points[j] = load(from + static_cast<int64_t>(i * Grid::kIn + j) * tiles * kColumns);
            Tile::output(points, 1, half[i]);
          }
#pragma GCC unroll 4
          for (int j = 0; j < Grid::kOut; ++j) {
            Vector out[Grid::kOut];
            Tile::output(&half[0][j], Grid::kOut, out);
#pragma GCC unroll 4
            for (int i = 0; i < Grid::kOut; ++i)
              store(patch + i * line + (column * Grid::kOut + j) * kLanes, out[i]);
          }
        }
        const int y = (first_row + row) * Grid::kOut, x = first_column * Grid::kOut;
        const int count = std::min(columns * Grid::kOut, grid.width - x);
        for (int i = 0; i < std::min(Grid::kOut, grid.height - y); ++i)
          transpose(patch + i * line, kLanes,
                    image + v * kLanes * area + static_cast<int64_t>(y + i) * grid.width + x, area,
                    count, kLanes);
      }
    }
  }
};

// The filters as [point][column block][in][kColumns], what the products read from front to back.
// Flipped and exchanged (`backward`) they carry the gradient of the outputs to the inputs.
template <class Tile>
void transform_filters(const float *filters, int in, int out, bool backward, float *to) {
  constexpr int kIn = Tile::kOut + 2;
  share(out / kColumns, [&](int64_t block, int) {
    for (int c = 0; c < in; ++c) {
      for (int lane = 0; lane < kColumns; lane += kLanes) {
        Vector taps[9], half[3][kIn], up[kIn];
        for (int l = 0; l < kLanes; ++l) {
          const int64_t k = block * kColumns + lane + l;
          const float *from = filters + (backward ? c * static_cast<int64_t>(out) + k : k * in + c) * 9;
          for (int i = 0; i < 9; ++i) taps[i][l] = from[backward ? 8 - i : i];
        }
        for (int i = 0; i < 3; ++i) Tile::filter(taps + 3 * i, 1, half[i]);
        for (int j = 0; j < kIn; ++j) {
          Tile::filter(&half[0][j], kIn, up);
          for (int i = 0; i < kIn; ++i) {
            const int64_t point = i * kIn + j;
            store(to + ((point * (out / kColumns) + block) * in + c) * kColumns + lane, up[i]);
          }
        }
      }
    }
  });
}

// Tiles a block may have so that their transforms stay in a cache of 1 MB.
int tiles_for(int points, int channels) {
  const int fit = 600 * 1024 / 4 / (points * channels);
  return std::clamp(fit / kRows * kRows, kRows, 8 * kRows);
}

template <class Tile>
void correlate(const Shape &shape, const float *image, const float *filters, bool backward,
               float *result) {
  using Grid = Tiling<Tile>;
  const int in = backward ? shape.out : shape.in, out = backward ? shape.in : shape.out;
  const Room prepared(static_cast<int64_t>(Grid::kPoints) * in * out);
  transform_filters<Tile>(filters, in, out, backward, prepared.get());

  const Grid grid(shape.height, shape.width, tiles_for(Grid::kPoints, in));
  const int64_t area = static_cast<int64_t>(shape.height) * shape.width;
  const int64_t tiles = grid.most_tiles();
  const int64_t patch_size = static_cast<int64_t>(Grid::kIn) * grid.line() * kLanes;
  const int64_t lifted_size = Grid::kPoints * tiles * in;
  const int64_t sums_size = Grid::kPoints * tiles * kColumns;
  share(shape.batch * grid.blocks(), [&](int64_t item, int thread) {
    const Block<Tile> block(grid, item % grid.blocks());
    const int64_t n = item / grid.blocks();
    float *patch = scratch(thread, patch_size + lifted_size + sums_size);
    float *lifted = patch + patch_size, *sums = lifted + lifted_size;
    block.transform_input(image + n * in * area, in, patch, lifted, block.tiles);
    for (int k = 0; k < out; k += kColumns) {
      for (int64_t p = 0; p < Grid::kPoints; ++p)
        multiply({lifted + p * block.tiles * in, in, 1,
                  prepared.get() + (p * (out / kColumns) + k / kColumns) * in * kColumns, kColumns,
                  sums + p * block.tiles * kColumns, kColumns, in, false},
                 block.tiles);
      block.transform_output(sums, patch, result + (n * out + k) * area);
    }
  });
}

// Bytes of transformed tiles that are multiplied together: they fit the cache that threads share.
constexpr int64_t kBatchBytes = 12 << 20;

template <class Tile>
void filter_gradients(const Shape &shape, const float *image, const float *gradient, float *result) {
  using Grid = Tiling<Tile>;
  const int in = shape.in, out = shape.out;
  const Grid grid(shape.height, shape.width, 4 * kRows);
  const int64_t area = static_cast<int64_t>(shape.height) * shape.width;
  const int64_t patch_size = static_cast<int64_t>(Grid::kIn) * grid.line() * kLanes;
  const int64_t tile_bytes = static_cast<int64_t>(Grid::kPoints) * (in + out) * sizeof(float);
  const int64_t at_once = std::max<int64_t>(1, kBatchBytes / (tile_bytes * grid.most_tiles()));
  const int64_t stride = at_once * grid.most_tiles(), items = shape.batch * grid.blocks();
  const Room lifted(Grid::kPoints * stride * in), lifted_gradient(Grid::kPoints * stride * out);
  const Room sums(static_cast<int64_t>(Grid::kPoints) * in * out);
  for (int64_t done = 0; done < items; done += at_once) {
    const int64_t count = std::min(at_once, items - done);
    std::vector<int64_t> first(count + 1, 0);
    for (int64_t i = 0; i < count; ++i)
      first[i + 1] = first[i] + Block<Tile>(grid, (done + i) % grid.blocks()).tiles;
    share(count, [&](int64_t i, int thread) {
      const Block<Tile> block(grid, (done + i) % grid.blocks());
      const int64_t n = (done + i) / grid.blocks();
      float *patch = scratch(thread, patch_size);
      block.transform_input(image + n * in * area, in, patch, lifted.get() + first[i] * in, stride);
      block.transform_output_gradient(gradient + n * out * area, out, patch,
                                      lifted_gradient.get() + first[i] * out, stride);
    });
    share(Grid::kPoints * (in / kColumns), [&](int64_t i, int) {
      const int64_t p = i / (in / kColumns), c = i % (in / kColumns) * kColumns;
      multiply({lifted_gradient.get() + p * stride * out, 1, out,
                lifted.get() + p * stride * in + c, in, sums.get() + p * in * out + c, in,
                first[count], done > 0},
               out);
    });
  }
  share(out, [&](int64_t k, int) {
    for (int c = 0; c < in; c += kLanes) {
      Vector points[Grid::kPoints];
      for (int64_t p = 0; p < Grid::kPoints; ++p) {
        points[p] = load(sums.get() + (p * out + k) * in + c);
      }
      Vector half[Grid::kIn][3], taps[9];
      for (int i = 0; i < Grid::kIn; ++i) Tile::filter_gradient(points + i * Grid::kIn, 1, half[i]);
      for (int j = 0; j < 3; ++j) {
        Vector line[3];
        Tile::filter_gradient(&half[0][j], 3, line);
        for (int i = 0; i < 3; ++i) taps[3 * i + j] = line[i];
      }
      for (int l = 0; l < kLanes; ++l)
        for (int i = 0; i < 9; ++i) result[(k * in + c + l) * 9 + i] = taps[i][l];
    }
  });
}

}  // namespace

void filter_forward(const Shape &shape, const float *image, const float *weights, float *result) {
  correlate<TwoByTwo>(shape, image, weights, false, result);
}

void filter_input_gradient(const Shape &shape, const float *gradient, const float *weights,
                           float *result) {
  correlate<TwoByTwo>(shape, gradient, weights, true, result);
}

void filter_weight_gradient(const Shape &shape, const float *image, const float *gradient,
                            float *result) {
  filter_gradients<TwoByTwo>(shape, image, gradient, result);
}

}  // namespace kernels
