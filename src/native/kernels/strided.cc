// SPDX-License-Identifier: Apache-2.0
// 3x3 convolutions of stride 2, padded by 1, as matrix products of lines whose channels lie next to
// each other: a table of all windows, which would be nine quarters of the image, is never made.
#include <algorithm>
#include <vector>

#include "convolution.h"
#include "matrix.h"
#include "patch.h"
#include "threads.h"

namespace kernels {
namespace {

constexpr int kTaps = 3, kStride = 2;
constexpr int64_t kPatchFloats = 600 * 1024 / 4;  // stay in a cache of 1 MB

// An image's result's lines, cut into blocks of some lines or some of a line.
struct Lines {
  Extent image, result;
  int columns, rows, across, down;

  // `column_floats`: what a column of a line takes in a patch.
  Lines(const Extent &of, int64_t column_floats) : image(of), result(of.Halved()) {
    const int h = result.rows, w = result.columns;
    const int64_t most = std::max<int64_t>(kPatchFloats / column_floats, kRows);
    const int fit = static_cast<int>(std::min<int64_t>(most, w));
    across = (w + fit - 1) / fit;
    columns = (w + across - 1) / across;
    rows = static_cast<int>(std::clamp<int64_t>(kPatchFloats / (column_floats * columns), 1, h));
    down = (h + rows - 1) / rows;
  }
  int64_t blocks() const { return static_cast<int64_t>(across) * down; }
};

struct Part {
  int y, x, rows, columns;

  Part(const Lines &lines, int64_t number) {
    x = static_cast<int>(number % lines.across) * lines.columns;
    y = static_cast<int>(number / lines.across) * lines.rows;
    rows = std::min(lines.rows, lines.result.rows - y);
    columns = std::min(lines.columns, lines.result.columns - x);
  }
};

// patch[row][pixel][channel] of `rows` lines with `count` pixels from (y, x) on, in factors along
// the channels; `line` is room for a line of kLanes channels.
void FetchLines(const float *image, const Extent &extent, int channels, int y, int x, int rows,
                int count, float *, float *patch) {
  for (int c = 0; c < channels; c += kLanes)
    for (int row = 0; row < rows; ++row)
      Fetch(image + c * extent.area(), extent, y + row, x, count,
            patch + static_cast<int64_t>(row) * count * channels + c, channels);
}
void FetchLines(const float *image, const Extent &extent, int channels, int y, int x, int rows,
                int count, float *line, BfloatPair *patch) {
  for (int c = 0; c < channels; c += kLanes)
    for (int row = 0; row < rows; ++row) {
      Fetch(image + c * extent.area(), extent, y + row, x, count, line, kLanes);
      for (int64_t pixel = 0; pixel < count; ++pixel)
        StoreAlong(patch + ((int64_t{row} * count + pixel) * channels + c) / 2,
                   Load(line + pixel * kLanes));
    }
}

Blocks<Lines> LinesOf(const Shape &shape, int64_t column_floats) {
  return Blocks<Lines>(shape.batch, [&](int n) { return Lines(shape.extent(n), column_floats); });
}

// sums[pixel][kColumns] -> kColumns channels of a line of an image that begins at `to`.
void PutLine(const float *sums, int count, float *to, int64_t area) {
  for (int v = 0; v < kVectors; ++v)
    Transpose(sums + v * kLanes, kColumns, to + v * kLanes * area, area, count, kLanes);
}

// Weights (out, in, 3, 3) as [block of kColumns columns][tap][depth][column], in factors along the
// depth. The columns are the output channels and the depth the input channels, or, `turned`, the
// other way round.
template <typename Factor>
void Pack(const float *weights, int in, int out, bool turned, Factor *to) {
  constexpr int deep = kDeep<Factor>;
  const int columns = turned ? in : out, depth = (turned ? out : in) / deep;
  Share(columns / kColumns, [&](int64_t block, int) {
    for (int64_t d = 0; d < depth; ++d)
      for (int64_t column = 0; column < kColumns; ++column) {
        const int64_t own = block * kColumns + column;
        for (int tap = 0; tap < kTaps * kTaps; ++tap) {
          float numbers[deep];
          for (int64_t i = 0; i < deep; ++i) {
            const int64_t at = d * deep + i;
            numbers[i] = weights[(turned ? at * in + own : own * in + at) * kTaps * kTaps + tap];
          }
          SetFactor(to + ((block * kTaps * kTaps + tap) * depth + d) * kColumns + column, numbers);
        }
      }
  });
}

// Lines of images as [line][tap of a line][block of kColumns channels][pixel][channel], and those
// of gradients as [line][block][pixel][channel], in factors along the results' pixels.
template <typename Factor>
struct Columns {
  int64_t pixels;  // of a result's line, in factors

  int64_t at(int64_t line, int64_t channels, int64_t channel) const {
    return (line * channels + channel / kColumns * kColumns) * pixels + channel % kColumns;
  }

  // `rows` lines of `channels` from (y, x) on, every pixel or, with taps, every second one; `line`
  // is room for a line of kLanes channels.
  void Fetch(const float *map, const Extent &extent, int channels, int y, int x, int rows,
             int columns, int taps, float *line, Factor *to) const {
    const int step = taps == 1 ? 1 : kStride;
    for (int c = 0; c < channels; c += kLanes)
      for (int row = 0; row < rows; ++row) {
        kernels::Fetch(map + c * extent.area(), extent, y + row, x, step * (columns - 1) + taps,
                       line, kLanes);
        for (int tap = 0; tap < taps; ++tap) {
          Factor *own = to + at(row * taps + tap, channels, c);
          for (int pixel = 0; pixel < columns; ++pixel)
            PutAcross(own + pixel / kDeep<Factor> * kColumns,
                      Load(line + (step * pixel + tap) * kLanes), pixel % kDeep<Factor>);
        }
      }
  }
};

}  // namespace

template <typename Factor>
void Strided<Factor>::Forward(const Shape &shape, const float *image, const float *weights,
                              const Ending &ending, float *result) {
  const float *bias = ending.bias;
  const int out = shape.out;
  const int64_t in = shape.in / kDeep<Factor>;
  const Blocks<Lines> blocks = LinesOf(shape, kTaps * kStride * in);
  const Room<Factor> packed(int64_t{kTaps * kTaps} * in * out);
  Pack(weights, shape.in, out, false, packed.get());
  Share(blocks.count(), [&](int64_t item, int thread) {
    const auto [lines, n, number] = blocks.place(item);
    const Part part(lines, number);
    const int64_t area = lines.image.area(), result_area = lines.result.area();
    const int count = kStride * part.columns + 1, height = kStride * part.rows + 1;
    const int64_t line = count * in, line_floats = int64_t{count} * kLanes;
    const int64_t sums_floats = int64_t{lines.columns} * kColumns;
    float *sums = Scratch(thread, sums_floats + line_floats + line * height);
    Factor *patch = reinterpret_cast<Factor *>(sums + sums_floats + line_floats);
    FetchLines(image + n * shape.in * area, lines.image, shape.in, kStride * part.y - 1,
               kStride * part.x - 1, height, count, sums + sums_floats, patch);
    for (int k = 0; k < out; k += kColumns) {
      const Factor *filters = packed.get() + int64_t{k} * kTaps * kTaps * in;
      for (int row = 0; row < part.rows; ++row) {
        for (int pixel = 0; bias && pixel < part.columns; ++pixel)
          std::copy_n(bias + k, kColumns, sums + pixel * kColumns);
        // The three taps of a line and their channels lie next to each other.
        for (int i = 0; i < kTaps; ++i)
          Multiply(Product<Factor>{patch + (kStride * row + i) * line, kStride * in, 1,
                                   filters + int64_t{i} * kTaps * in * kColumns, kColumns, sums,
                                   kColumns, kTaps * in, bias || i > 0, nullptr, nullptr,
                                   ending.positive && i == kTaps - 1},
                   part.columns);
        PutLine(sums, part.columns,
                result + (n * out + k) * result_area +
                    static_cast<int64_t>(part.y + row) * lines.result.width + part.x,
                result_area);
      }
    }
    if (number == 0) ClearRest(result + n * out * result_area, out, lines.result);
  });
}

template <typename Factor>
void Strided<Factor>::InputGradient(const Shape &shape, const float *gradient, const float *weights,
                                    float *result) {
  const int in = shape.in;
  const int64_t out = shape.out / kDeep<Factor>;
  const Blocks<Lines> blocks = LinesOf(shape, 2 * out);
  const Room<Factor> packed(int64_t{kTaps * kTaps} * in * out);
  Pack(weights, in, shape.out, true, packed.get());
  Share(blocks.count(), [&](int64_t item, int thread) {
    const auto [lines, n, number] = blocks.place(item);
    const Part part(lines, number);
    const int64_t area = lines.image.area();
    const int count = part.columns + 1;
    const int64_t line = count * out, line_floats = int64_t{count} * kLanes;
    const int64_t sums_floats = int64_t{kStride} * lines.columns * kColumns;
    float *sums = Scratch(thread, sums_floats + line_floats + line * (part.rows + 1));
    Factor *patch = reinterpret_cast<Factor *>(sums + sums_floats + line_floats);
    FetchLines(gradient + n * shape.out * lines.result.area(), lines.result, shape.out, part.y,
               part.x, part.rows + 1, count, sums + sums_floats, patch);
    for (int c = 0; c < in; c += kColumns) {
      const Factor *filters = packed.get() + int64_t{c} * kTaps * kTaps * out;
      for (int row = 0; row < kStride * part.rows; ++row) {
        const int y = kStride * part.y + row, x = kStride * part.x;
        if (y >= lines.image.rows) break;
        // An even pixel was seen by the middle tap only, an odd one by the last tap of the window
        // at its half and by the first tap of the next window.
        for (int odd = 0; odd < kStride; ++odd) {
          bool add = false;
          for (int down = 0; down <= row % kStride; ++down)
            for (int right = 0; right <= odd; ++right, add = true) {
              const int i = row % kStride ? kTaps - 1 - 2 * down : 1;
              const int j = odd ? kTaps - 1 - 2 * right : 1;
              Multiply(Product<Factor>{patch + (row / kStride + down) * line + right * out, out, 1,
                                       filters + int64_t{i * kTaps + j} * out * kColumns, kColumns,
                                       sums + odd * kColumns, kStride * kColumns, out, add},
                       part.columns);
            }
        }
        PutLine(sums, std::min(kStride * part.columns, lines.image.columns - x),
                result + (n * in + c) * area + static_cast<int64_t>(y) * shape.width + x, area);
      }
    }
    if (number == 0) ClearRest(result + n * in * area, in, lines.image);
  });
}

template <typename Factor>
void Strided<Factor>::WeightGradient(const Shape &shape, const float *image, const float *gradient,
                                     float *result) {
  constexpr int64_t kTogether = (12 << 20) / 4;  // factors of patches: they fit the threads' cache
  const int in = shape.in, out = shape.out;
  const Blocks<Lines> blocks = LinesOf(shape, kTaps * kStride * int64_t{in});
  int64_t image_size = 0, gradient_size = 0;
  for (const Lines &lines : blocks.cuts()) {
    const int64_t pixels = Factors<Factor>(lines.columns);
    image_size = std::max(image_size, int64_t{kStride * lines.rows + 1} * kTaps * pixels * in);
    gradient_size = std::max(gradient_size, lines.rows * pixels * out);
  }
  const int64_t items = blocks.count();
  const int64_t together = std::clamp<int64_t>(kTogether / (image_size + gradient_size), 1, items);
  const Room<Factor> images(together * image_size), gradients(together * gradient_size);
  const Room<float> sums(int64_t{kTaps * kTaps} * in * out);
  for (int64_t done = 0; done < items; done += together) {
    const int64_t count = std::min(together, items - done);
    Share(count, [&](int64_t i, int thread) {
      const auto [lines, n, number] = blocks.place(done + i);
      const Part part(lines, number);
      const Columns<Factor> columns = {Factors<Factor>(part.columns)};
      float *line = Scratch(thread, (kStride * int64_t{part.columns} + 1) * kLanes);
      columns.Fetch(image + n * in * lines.image.area(), lines.image, in, kStride * part.y - 1,
                    kStride * part.x - 1, kStride * part.rows + 1, part.columns, kTaps, line,
                    images.get() + i * image_size);
      columns.Fetch(gradient + n * out * lines.result.area(), lines.result, out, part.y, part.x,
                    part.rows, part.columns, 1, line, gradients.get() + i * gradient_size);
    });
    Share(kTaps * kTaps * (in / kColumns), [&](int64_t item, int) {
      const int64_t tap = item / (in / kColumns), c = item % (in / kColumns) * kColumns;
      for (int64_t i = 0; i < count; ++i) {
        const auto [lines, n, number] = blocks.place(done + i);
        const Part part(lines, number);
        const Columns<Factor> columns = {Factors<Factor>(part.columns)};
        for (int row = 0; row < part.rows; ++row) {
          const int64_t line = (kStride * row + tap / kTaps) * kTaps + tap % kTaps;
          for (int k = 0; k < out; k += kColumns)
            Multiply(
                Product<Factor>{gradients.get() + i * gradient_size + columns.at(row, out, k), 1,
                                kColumns, images.get() + i * image_size + columns.at(line, in, c),
                                kColumns, sums.get() + (tap * out + k) * in + c, in, columns.pixels,
                                done + i + row > 0},
                kColumns);
        }
      }
    });
  }
  Share(out, [&](int64_t k, int) {
    for (int c = 0; c < in; ++c)
      for (int64_t tap = 0; tap < kTaps * kTaps; ++tap)
        result[(k * in + c) * kTaps * kTaps + tap] = sums.get()[(tap * out + k) * in + c];
  });
}

template struct Strided<float>;
template struct Strided<BfloatPair>;

}  // namespace kernels
