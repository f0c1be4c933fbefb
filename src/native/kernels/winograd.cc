// SPDX-License-Identifier: Apache-2.0
// 3x3 convolutions of stride 1, padded by 1, with Winograd's minimal filtering F(2x2, 3x3) (Lavin &
// Gray 2015): a tile of 2 x 2 outputs costs 16 multiplications a channel instead of 36.
// (F(4x4, 3x3) would be 1.5 times as fast, with ten times the rounding error.) Inside, channels lie
// next to each other; outside, tensors are NCHW.
#include <algorithm>
#include <vector>

#include "convolution.h"
#include "matrix.h"
#include "patch.h"
#include "threads.h"
#include "vector.h"

namespace kernels {
namespace {

constexpr int kOut = 2, kIn = kOut + 2, kPoints = kIn * kIn;  // of a tile
// Between the numbers of two points, which are written and read together: a power of two apart,
// they would share their places in a cache.
constexpr int64_t kGap = 5 * kLanes;

// The transforms of F(2x2, 3x3) (section 4.1) and their transposes, along one axis: numbers are
// `step` apart in x and next to each other in y.
struct Transform {
  static void Input(const Vector *x, int64_t step, Vector *y) {
    const Vector x0 = x[0], x1 = x[step], x2 = x[2 * step], x3 = x[3 * step];
    y[0] = x0 - x2;
    y[1] = x1 + x2;
    y[2] = x2 - x1;
    y[3] = x1 - x3;
  }
  static void Filter(const Vector *x, int64_t step, Vector *y) {
    const Vector x0 = x[0], x1 = x[step], x2 = x[2 * step];
    y[0] = x0;
    y[1] = (x0 + x1 + x2) * 0.5f;
    y[2] = (x0 - x1 + x2) * 0.5f;
    y[3] = x2;
  }
  static void Output(const Vector *x, int64_t step, Vector *y) {
    const Vector x0 = x[0], x1 = x[step], x2 = x[2 * step], x3 = x[3 * step];
    y[0] = x0 + x1 + x2;
    y[1] = x1 - x2 - x3;
  }
  static void OutputGradient(const Vector *x, int64_t step, Vector *y) {
    const Vector x0 = x[0], x1 = x[step];
    y[0] = x0;
    y[1] = x0 + x1;
    y[2] = x0 - x1;
    y[3] = -x1;
  }
  static void FilterGradient(const Vector *x, int64_t step, Vector *y) {
    const Vector x0 = x[0], x1 = x[step], x2 = x[2 * step], x3 = x[3 * step];
    y[0] = x0 + (x1 + x2) * 0.5f;
    y[1] = (x1 - x2) * 0.5f;
    y[2] = (x1 + x2) * 0.5f + x3;
  }
};

// Transforms a tile of in x in vectors along both axes, to out x out.
template <int in, int out>
inline void BothWays(void transform(const Vector *, int64_t, Vector *), const Vector *x,
                     Vector *y) {
  Vector half[in][out];
#pragma GCC unroll 4
  for (int row = 0; row < in; ++row) transform(x + row * in, 1, half[row]);
#pragma GCC unroll 4
  for (int column = 0; column < out; ++column) {
    Vector line[out];
    transform(&half[0][column], out, line);
#pragma GCC unroll 4
    for (int row = 0; row < out; ++row) y[row * out + column] = line[row];
  }
}

// Tiles that one thread transforms and multiplies together: some of a row of tiles, or some rows.
struct Grid {
  Extent extent;                  // of the image in pixels
  int columns, rows;              // of it in tiles
  int block_columns, block_rows;  // tiles of a block
  int across, down;               // blocks of the image

  Grid(const Extent &of, int most) : extent(of) {
    columns = (of.columns + kOut - 1) / kOut;
    rows = (of.rows + kOut - 1) / kOut;
    across = (columns + most - 1) / most;
    block_columns = (columns + across - 1) / across;
    block_rows = std::max(1, std::min(rows, most / block_columns));
    down = (rows + block_rows - 1) / block_rows;
  }
  int64_t blocks() const { return static_cast<int64_t>(across) * down; }
  int most_tiles() const { return block_columns * block_rows; }
  int line() const { return block_columns * kOut + 2; }
};

struct Block {
  const Grid &grid;
  int first_column, first_row, columns, rows, tiles;

  Block(const Grid &g, int64_t number) : grid(g) {
    first_column = static_cast<int>(number % g.across) * g.block_columns;
    first_row = static_cast<int>(number / g.across) * g.block_rows;
    columns = std::min(g.block_columns, g.columns - first_column);
    rows = std::min(g.block_rows, g.rows - first_row);
    tiles = columns * rows;
  }

  // Transforms `channels` of an image and calls put(point, tile, channel, kLanes numbers of
  // channels) for each tile; `patch` is room for kIn lines.
  template <typename Put>
  void TransformInput(const float *image, int channels, float *patch, Put put) const {
    const int64_t area = grid.extent.area();
    const int count = columns * kOut + 2, line = count * kLanes;
    for (int c = 0; c < channels; c += kLanes) {
      for (int row = 0; row < rows; ++row) {
        const int y = (first_row + row) * kOut - 1, x = first_column * kOut - 1;
        for (int i = 0; i < kIn; ++i)
          Fetch(image + c * area, grid.extent, y + i, x, count, patch + i * line, kLanes);
        for (int column = 0; column < columns; ++column) {
          Vector tile[kPoints], result[kPoints];
#pragma GCC unroll 16
          for (int i = 0; i < kPoints; ++i)
            tile[i] = Load(patch + i / kIn * line + (column * kOut + i % kIn) * kLanes);
          BothWays<kIn, kIn>(Transform::Input, tile, result);
          const int64_t t = row * columns + column;
#pragma GCC unroll 16
          for (int p = 0; p < kPoints; ++p) put(p, t, c, result[p]);
        }
      }
    }
  }

  // The same for the gradient of the outputs, whose tiles do not overlap.
  template <typename Put>
  void TransformOutputGradient(const float *image, int channels, float *patch, Put put) const {
    const int64_t area = grid.extent.area();
    const int count = columns * kOut, line = count * kLanes;
    for (int c = 0; c < channels; c += kLanes) {
      for (int row = 0; row < rows; ++row) {
        const int y = (first_row + row) * kOut, x = first_column * kOut;
        for (int i = 0; i < kOut; ++i)
          Fetch(image + c * area, grid.extent, y + i, x, count, patch + i * line, kLanes);
        for (int column = 0; column < columns; ++column) {
          Vector tile[kOut * kOut], result[kPoints];
#pragma GCC unroll 4
          for (int i = 0; i < kOut * kOut; ++i)
            tile[i] = Load(patch + i / kOut * line + (column * kOut + i % kOut) * kLanes);
          BothWays<kOut, kIn>(Transform::OutputGradient, tile, result);
          const int64_t t = row * columns + column;
#pragma GCC unroll 16
          for (int p = 0; p < kPoints; ++p) put(p, t, c, result[p]);
        }
      }
    }
  }

  // Turns sums[tile][kColumns], one of each `point` floats, into kColumns channels of the image,
  // plus their `bias`, if any, and `positive` or not; `patch` is room for kOut lines.
  void TransformOutput(const float *sums, int64_t point, const float *bias, bool positive,
                       float *patch, float *image) const {
    const int64_t area = grid.extent.area();
    const int line = columns * kOut * kLanes;
    for (int v = 0; v < kVectors; ++v) {
      const Vector added = bias ? Load(bias + v * kLanes) : Vector{};
      for (int row = 0; row < rows; ++row) {
        for (int column = 0; column < columns; ++column) {
          const float *from = sums + int64_t{row * columns + column} * kColumns + v * kLanes;
          Vector tile[kPoints], result[kOut * kOut];
#pragma GCC unroll 16
          for (int p = 0; p < kPoints; ++p) tile[p] = Load(from + p * point);
          BothWays<kIn, kOut>(Transform::Output, tile, result);
#pragma GCC unroll 4
          for (int i = 0; i < kOut * kOut; ++i) {
            const Vector value = result[i] + added;
            Store(patch + i / kOut * line + (column * kOut + i % kOut) * kLanes,
                  positive ? Positive(value) : value);
          }
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
};

// The filters as [point][column block][in][kColumns], what the products read from front to back; in
// factors along `in`. Flipped and exchanged (`backward`) they carry the gradient of the outputs to
// the inputs.
template <typename Factor>
void TransformFilters(const float *filters, int in, int out, bool backward, Factor *to) {
  constexpr int deep = kDeep<Factor>;
  Share(out / kColumns, [&](int64_t block, int) {
    for (int c = 0; c < in; c += deep) {
      for (int lane = 0; lane < kColumns; lane += kLanes) {
        Vector points[kPoints][deep];
        for (int turn = 0; turn < deep; ++turn) {
          Vector taps[9], own[kPoints];
          for (int l = 0; l < kLanes; ++l) {
            const int64_t k = block * kColumns + lane + l, channel = c + turn;
            const float *from = filters + (backward ? channel * out + k : k * in + channel) * 9;
            for (int i = 0; i < 9; ++i) taps[i][l] = from[backward ? 8 - i : i];
          }
          BothWays<3, kIn>(Transform::Filter, taps, own);
          for (int p = 0; p < kPoints; ++p) points[p][turn] = own[p];
        }
        for (int64_t p = 0; p < kPoints; ++p)
          StoreAcross(
              to + ((p * (out / kColumns) + block) * (in / deep) + c / deep) * kColumns + lane,
              points[p]);
      }
    }
  });
}

// Tiles a block may have so that their transforms stay in a cache of 1 MB.
int TilesFor(int points, int64_t factors) {
  const int64_t fit = 600 * 1024 / 4 / (points * factors);
  return static_cast<int>(std::clamp<int64_t>(fit / kRows * kRows, kRows, 8 * kRows));
}

template <typename Factor>
void Correlate(const Shape &shape, const float *image, const float *filters, const Ending &ending,
               bool backward, float *result) {
  const int in = backward ? shape.out : shape.in, out = backward ? shape.in : shape.out;
  const int64_t depth = in / kDeep<Factor>;
  const Room<Factor> prepared(kPoints * depth * out);
  TransformFilters(filters, in, out, backward, prepared.get());

  const Blocks<Grid> blocks(shape.batch,
                            [&](int n) { return Grid(shape.extent(n), TilesFor(kPoints, depth)); });
  const int64_t area = shape.area();
  Share(blocks.count(), [&](int64_t item, int thread) {
    const auto [grid, n, number] = blocks.place(item);
    const Block block(grid, number);
    const int64_t patch_size = int64_t{kIn} * grid.line() * kLanes;
    const int64_t lifted_size = kPoints * (grid.most_tiles() * depth + kGap);
    const int64_t sums_size = kPoints * (int64_t{grid.most_tiles()} * kColumns + kGap);
    float *patch = Scratch(thread, patch_size + sums_size + lifted_size);
    float *sums = patch + patch_size;
    Factor *lifted = reinterpret_cast<Factor *>(sums + sums_size);  // [point][tile][channel]
    const int64_t point = block.tiles * depth + kGap;
    const int64_t sums_point = int64_t{block.tiles} * kColumns + kGap;
    block.TransformInput(image + n * in * area, in, patch,
                         [&](int64_t p, int64_t t, int64_t c, Vector numbers) {
                           StoreAlong(lifted + p * point + t * depth + c / kDeep<Factor>, numbers);
                         });
    for (int k = 0; k < out; k += kColumns) {
      for (int64_t p = 0; p < kPoints; ++p)
        Multiply(Product<Factor>{lifted + p * point, depth, 1,
                                 prepared.get() +
                                     (p * (out / kColumns) + k / kColumns) * depth * kColumns,
                                 kColumns, sums + p * sums_point, kColumns, depth, false},
                 block.tiles);
      block.TransformOutput(sums, sums_point, ending.bias ? ending.bias + k : nullptr,
                            ending.positive, patch, result + (n * out + k) * area);
    }
    if (number == 0) ClearRest(result + n * out * area, out, grid.extent);
  });
}

// Bytes of transformed tiles that are multiplied together: they fit the cache that threads share.
constexpr int64_t kBatchBytes = 12 << 20;

// Transformed tiles of several blocks as [point][block of kColumns channels][tile][channel], in
// factors along the tiles: what a product reads lies together.
template <typename Factor>
struct Lifted {
  Factor *start;
  int64_t tiles, channels;  // room for so many

  static int64_t Point(int64_t tiles, int64_t channels) { return tiles * channels + kGap; }

  Factor *at(int64_t point, int64_t channel) const {
    return start + point * Point(tiles, channels) + channel / kColumns * kColumns * tiles +
           channel % kColumns;
  }

  // What takes a block's tiles, from the factor `first` on.
  auto From(int64_t first) const {
    return [*this, first](int64_t point, int64_t tile, int64_t channel, Vector numbers) {
      const int64_t place = first + tile / kDeep<Factor>;
      PutAcross(at(point, channel) + place * kColumns, numbers, tile % kDeep<Factor>);
    };
  }
};

template <typename Factor>
void FilterGradients(const Shape &shape, const float *image, const float *gradient, float *result) {
  const int in = shape.in, out = shape.out;
  const Blocks<Grid> blocks(shape.batch, [&](int n) { return Grid(shape.extent(n), 4 * kRows); });
  const int64_t area = shape.area(), items = blocks.count();
  int64_t most = 1;  // factors of a block
  for (const Grid &grid : blocks.cuts()) most = std::max(most, Factors<Factor>(grid.most_tiles()));
  const int64_t tile_bytes = static_cast<int64_t>(kPoints) * (in + out) * sizeof(Factor);
  const int64_t at_once = std::max<int64_t>(1, kBatchBytes / (tile_bytes * most));
  const int64_t stride = at_once * most;
  const Room<Factor> images(kPoints * Lifted<Factor>::Point(stride, in));
  const Room<Factor> gradients(kPoints * Lifted<Factor>::Point(stride, out));
  const Lifted<Factor> lifted = {images.get(), stride, in};
  const Lifted<Factor> lifted_gradient = {gradients.get(), stride, out};
  const Room<float> sums(int64_t{kPoints} * in * out);
  for (int64_t done = 0; done < items; done += at_once) {
    const int64_t count = std::min(at_once, items - done);
    std::vector<int64_t> first(count + 1, 0);
    for (int64_t i = 0; i < count; ++i) {
      const auto [grid, n, number] = blocks.place(done + i);
      first[i + 1] = first[i] + Factors<Factor>(Block(grid, number).tiles);
    }
    Share(count, [&](int64_t i, int thread) {
      const auto [grid, n, number] = blocks.place(done + i);
      const Block block(grid, number);
      float *patch = Scratch(thread, int64_t{kIn} * grid.line() * kLanes);
      block.TransformInput(image + n * in * area, in, patch, lifted.From(first[i]));
      block.TransformOutputGradient(gradient + n * out * area, out, patch,
                                    lifted_gradient.From(first[i]));
    });
    Share(kPoints * (in / kColumns), [&](int64_t i, int) {
      const int64_t p = i / (in / kColumns), c = i % (in / kColumns) * kColumns;
      for (int k = 0; k < out; k += kColumns)
        Multiply(Product<Factor>{lifted_gradient.at(p, k), 1, kColumns, lifted.at(p, c), kColumns,
                                 sums.get() + (p * out + k) * in + c, in, first[count], done > 0},
                 kColumns);
    });
  }
  Share(out, [&](int64_t k, int) {
    for (int c = 0; c < in; c += kLanes) {
      Vector points[kPoints];
      for (int64_t p = 0; p < kPoints; ++p) {
        points[p] = Load(sums.get() + (p * out + k) * in + c);
      }
      Vector taps[9];
      BothWays<kIn, 3>(Transform::FilterGradient, points, taps);
      for (int l = 0; l < kLanes; ++l)
        for (int i = 0; i < 9; ++i) result[(k * in + c + l) * 9 + i] = taps[i][l];
    }
  });
}

}  // namespace

template <typename Factor>
void Filter<Factor>::Forward(const Shape &shape, const float *image, const float *weights,
                             const Ending &ending, float *result) {
  Correlate<Factor>(shape, image, weights, ending, false, result);
}

template <typename Factor>
void Filter<Factor>::InputGradient(const Shape &shape, const float *gradient, const float *weights,
                                   float *result) {
  Correlate<Factor>(shape, gradient, weights, {}, true, result);
}

template <typename Factor>
void Filter<Factor>::WeightGradient(const Shape &shape, const float *image, const float *gradient,
                                    float *result) {
  FilterGradients<Factor>(shape, image, gradient, result);
}

template struct Filter<float>;
template struct Filter<BfloatPair>;

}  // namespace kernels
