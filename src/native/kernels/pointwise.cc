// SPDX-License-Identifier: Apache-2.0
// What costs a pixel the same wherever it lies, and is left out where none is: 1x1 convolutions as
// matrix products, and copying.
#include <algorithm>
#include <cstring>
#include <vector>

#include "convolution.h"
#include "matrix.h"
#include "threads.h"

namespace kernels {
namespace {

constexpr int64_t kPatchFloats = 600 * 1024 / 4;  // stay in a cache of 1 MB

// Where the pixel (y, x) of a result is in a map: every `step`th of every `step`th line.
struct Places {
  int64_t width, step;

  int64_t at(int64_t y, int64_t x) const { return step * (y * width + x); }
};

// The pixels of a result that are there, counted line by line, in pieces of `together`.
struct Pieces {
  Extent image, result;
  int stride;
  int64_t pixels, together;

  Pieces(const Extent &of, int step, int64_t most)
      : image(of), result(step == 1 ? of : of.Halved()), stride(step), together(most) {
    if (step == 1 && of.columns == of.width)  // its lines follow each other like one
      image = result = {1, of.height * of.width, 1, of.rows * of.width};
    pixels = static_cast<int64_t>(result.rows) * result.columns;
  }
  int64_t blocks() const { return (pixels + together - 1) / together; }
  int64_t first(int64_t block) const { return block * together; }
  int64_t count(int64_t block) const { return std::min(together, pixels - first(block)); }
  Places in_image() const { return {image.width, stride}; }
  Places in_result() const { return {result.width, 1}; }

  // Calls visit(y, x, place in the piece, count) for every line of a piece.
  template <typename Visit>
  void EachLine(int64_t block, Visit visit) const {
    for (int64_t done = 0, number = count(block); done < number;) {
      const int64_t y = (first(block) + done) / result.columns;
      const int64_t x = (first(block) + done) % result.columns;
      const int64_t length = std::min(number - done, result.columns - x);
      visit(y, x, done, length);
      done += length;
    }
  }
};

Blocks<Pieces> PiecesOf(const Shape &shape, int stride, int64_t together) {
  return Blocks<Pieces>(shape.batch,
                        [&](int n) { return Pieces(shape.extent(n), stride, together); });
}

// Weights (out, in) as [block of kRows rows][depth][row], in factors along the depth. The rows are
// the output channels and the depth the input channels, or, `turned`, the other way round.
template <typename Factor>
void Pack(const float *weights, int in, int out, bool turned, Factor *to) {
  constexpr int deep = kDeep<Factor>;
  const int rows = turned ? in : out, depth = turned ? out : in;
  const int64_t factors = Factors<Factor>(depth);
  Share((rows + kRows - 1) / kRows, [&](int64_t block, int) {
    for (int64_t d = 0; d < factors; ++d)
      for (int64_t r = 0; r < kRows; ++r) {
        const int64_t row = std::min<int64_t>(block * kRows + r, rows - 1);
        float numbers[deep] = {};
        for (int64_t i = 0, own = d * deep; i < deep && own < depth; ++i, ++own)
          numbers[i] = weights[turned ? own * in + row : row * in + own];
        SetFactor(to + (block * factors + d) * kRows + r, numbers);
      }
  });
}

// Neighbouring pixels of a piece within a line and within a vector of kColumns pixels.
struct Segment {
  int64_t from, to;              // in the maps
  int64_t vector, first, count;  // in the piece, and in the vector
};

std::vector<Segment> SegmentsOf(const Pieces &pieces, int64_t number, Places from, Places to) {
  std::vector<Segment> segments;
  pieces.EachLine(number, [&](int64_t y, int64_t x, int64_t own, int64_t length) {
    for (int64_t done = 0; done < length;) {
      const int64_t first = (own + done) % kColumns;
      const int64_t count = std::min(length - done, kColumns - first);
      segments.push_back(
          {from.at(y, x + done), to.at(y, x + done), (own + done) / kColumns, first, count});
      done += count;
    }
  });
  return segments;
}

// to[i * to_step] = from[i * from_step]
void Copy(const float *from, int64_t from_step, float *to, int64_t to_step, int64_t count) {
  if (from_step == 1 && to_step == 1) {
    if (count == kColumns)  // of a length that the compiler knows
      std::memcpy(to, from, kColumns * sizeof(float));
    else
      std::memcpy(to, from, count * sizeof(float));
  } else {
    for (int64_t i = 0; i < count; ++i) to[i * to_step] = from[i * from_step];
  }
}

// to[i] = the factor of a pixel's numbers in the maps of `channels` channels, kDeep at most.
void Gather(const float *from, int64_t, int64_t, int64_t step, float *to, int64_t count) {
  Copy(from, step, to, 1, count);
}
void Gather(const float *from, int64_t area, int64_t channels, int64_t step, BfloatPair *to,
            int64_t count) {
  int64_t i = 0;
  if (step == 1 && channels > 1)
    for (; i + kLanes <= count; i += kLanes)
      StoreAcross(to + i, {Load(from + i), Load(from + area + i)});
  for (; i < count; ++i)
    SetFactor(to + i, {from[i * step], channels > 1 ? from[area + i * step] : 0});
}

void AddTo(float *sums, const float *shortcut, int64_t count, bool positive) {
  for (int64_t i = 0; i < count; ++i) {
    sums[i] += shortcut[i];
    if (positive && sums[i] < 0.0f) sums[i] = 0.0f;
  }
}

// From images to results, or, `turned`, from the results' gradients to the images'.
template <typename Factor>
void Project(const Shape &shape, int stride, const float *image, const float *weights,
             const Ending &ending, bool turned, float *result) {
  const int in = turned ? shape.out : shape.in, out = turned ? shape.in : shape.out;
  const int64_t depth = Factors<Factor>(in);
  const int row_blocks = (out + kRows - 1) / kRows;
  const Room<Factor> packed(row_blocks * kRows * depth);
  Pack(weights, shape.in, shape.out, turned, packed.get());
  const int64_t fit = kPatchFloats / depth / kColumns * kColumns;
  const Blocks<Pieces> blocks =
      PiecesOf(shape, stride, std::clamp<int64_t>(fit, kColumns, 16 * kColumns));
  const int64_t small = blocks.cuts()[0].result.area();
  const int64_t area = turned ? small : shape.area(), result_area = turned ? shape.area() : small;
  const bool has_gaps = turned && stride > 1;
  if (has_gaps)
    Share(int64_t{shape.batch} * out, [&](int64_t plane, int) {
      std::fill_n(result + plane * result_area, result_area, 0.0f);
    });
  Share(blocks.count(), [&](int64_t item, int thread) {
    const auto [pieces, n, number] = blocks.place(item);
    const Places from = turned ? pieces.in_result() : pieces.in_image();
    const Places to = turned ? pieces.in_image() : pieces.in_result();
    const std::vector<Segment> segments = SegmentsOf(pieces, number, from, to);
    const int64_t vectors = segments.back().vector + 1, size = depth * kColumns;
    float *sums = Scratch(thread, kRows * kColumns + vectors * size);
    Factor *patch = reinterpret_cast<Factor *>(sums + kRows * kColumns);  // [vector][depth][pixel]
    // What of the last vector is not there.
    std::fill_n(patch + (vectors - 1) * size, size, Factor{});
    for (int64_t d = 0; d < depth; ++d) {
      const int64_t c = d * kDeep<Factor>;
      for (const Segment &own : segments)
        Gather(image + (n * in + c) * area + own.from, area, in - c, from.step,
               patch + own.vector * size + d * kColumns + own.first, own.count);
    }
    for (int64_t row = 0; row < out; row += kRows) {
      const int64_t rows = std::min<int64_t>(kRows, out - row);
      float *map = result + (n * out + row) * result_area;
      const float *bias = ending.bias ? ending.bias + row : nullptr;
      const float *shortcut =
          ending.shortcut ? ending.shortcut + (n * out + row) * result_area : nullptr;
      for (size_t i = 0; i < segments.size();) {
        const int64_t vector = segments[i].vector;
        // A whole vector is written where it belongs.
        const bool whole = segments[i].count == kColumns && !has_gaps;
        const int64_t place = segments[i].to;
        Multiply(
            Product<Factor>{packed.get() + row * depth, 1, kRows, patch + vector * size, kColumns,
                            whole ? map + place : sums, whole ? result_area : kColumns, depth,
                            false, bias, whole && shortcut ? shortcut + place : nullptr,
                            ending.positive && (whole || !shortcut)},
            rows);
        for (; i < segments.size() && segments[i].vector == vector; ++i)
          for (int64_t r = 0; r < rows && !whole; ++r) {
            const int64_t to_place = r * result_area + segments[i].to;
            float *own = sums + r * kColumns + segments[i].first;
            if (shortcut) AddTo(own, shortcut + to_place, segments[i].count, ending.positive);
            Copy(own, 1, map + to_place, to.step, segments[i].count);
          }
      }
    }
    if (number == 0 && !has_gaps)
      ClearRest(result + n * out * result_area, out, turned ? pieces.image : pieces.result);
  });
}

// kLanes channels of a piece as to[pixel * kColumns + lane].
void FetchLanes(const Pieces &pieces, int64_t number, const float *image, float *to) {
  const Places places = pieces.in_image();
  const int64_t area = pieces.image.area();
  pieces.EachLine(number, [&](int64_t y, int64_t x, int64_t own, int64_t length) {
    const float *from = image + places.at(y, x);
    if (places.step == 1)
      Transpose(from, area, to + own * kColumns, kColumns, kLanes, length);
    else
      for (int lane = 0; lane < kLanes; ++lane)
        Copy(from + lane * area, places.step, to + own * kColumns + lane, kColumns, length);
  });
}

// A channel of a piece, in factors along the pixels.
void FetchChannel(const Pieces &pieces, int64_t number, const Places &places, const float *map,
                  float *to) {
  pieces.EachLine(number, [&](int64_t y, int64_t x, int64_t own, int64_t length) {
    Copy(map + places.at(y, x), places.step, to + own, 1, length);
  });
}
void FetchChannel(const Pieces &pieces, int64_t number, const Places &places, const float *map,
                  BfloatPair *to) {
  char *bytes = reinterpret_cast<char *>(to);
  const auto put = [bytes](int64_t place, uint32_t bits) {
    const uint16_t half = bits >> 16;
    std::memcpy(bytes + place * sizeof(half), &half, sizeof(half));
  };
  pieces.EachLine(number, [&](int64_t y, int64_t x, int64_t own, int64_t length) {
    const float *from = map + places.at(y, x);
    int64_t i = 0;
    if (places.step == 1)
      for (; i + kLanes <= length; i += kLanes) StoreAlong(bytes + (own + i) * 2, Load(from + i));
    for (; i < length; ++i) put(own + i, Rounded(from[i * places.step]));
  });
  if (pieces.count(number) % 2) put(pieces.count(number), 0);  // the rest of the last pair
}

// kLanes channels of a piece as to[pixel * kColumns + channel], in factors along the pixels;
// `lines` is room for them, `pitch` apart.
void FetchLanes(const Pieces &pieces, int64_t number, const float *image, float *, int64_t,
                float *to) {
  FetchLanes(pieces, number, image, to);
}
void FetchLanes(const Pieces &pieces, int64_t number, const float *image, BfloatPair *lines,
                int64_t pitch, BfloatPair *to) {
  for (int lane = 0; lane < kLanes; ++lane)
    FetchChannel(pieces, number, pieces.in_image(), image + lane * pieces.image.area(),
                 lines + lane * pitch);
  // Nothing is computed: pairs move like floats.
  Transpose(reinterpret_cast<const float *>(lines), pitch, reinterpret_cast<float *>(to), kColumns,
            kLanes, Factors<BfloatPair>(pieces.count(number)));
}

template <typename Factor>
void Correlation(const Shape &shape, int stride, const float *image, const float *gradient,
                 float *result) {
  // Factors of a piece, and what a channel of a gradient's piece takes: no power of two, since
  // lines that are one apart share their places in a cache.
  constexpr int64_t kTogether = 1024, kPitch = kTogether + 4 * kLanes;
  constexpr int64_t kRowsAtOnce = 8 * kRows;
  const int in = shape.in, out = shape.out;
  const Blocks<Pieces> blocks = PiecesOf(shape, stride, kTogether * kDeep<Factor>);
  const int64_t area = shape.area(), result_area = blocks.cuts()[0].result.area();
  const int64_t groups = in / kLanes, columns = in / kColumns;
  const Room<Factor> images(kTogether * in);  // [block of kColumns channels][pixel][channel]
  const Room<Factor> gradients(kPitch * out);
  for (int64_t item = 0; item < blocks.count(); ++item) {
    const auto [pieces, n, number] = blocks.place(item);
    const float *own_image = image + n * in * area, *own = gradient + n * out * result_area;
    Share(groups + (out + kLanes - 1) / kLanes,
          [&, &pieces = pieces, number = number](int64_t group, int thread) {
            if (group < groups) {
              const int64_t c = group * kLanes;
              Factor *lines = reinterpret_cast<Factor *>(Scratch(thread, kLanes * kPitch));
              FetchLanes(pieces, number, own_image + c * area, lines, kPitch,
                         images.get() + c / kColumns * kTogether * kColumns + c % kColumns);
            } else {
              const int64_t first = (group - groups) * kLanes;
              for (int64_t k = first; k < std::min<int64_t>(first + kLanes, out); ++k)
                FetchChannel(pieces, number, pieces.in_result(), own + k * result_area,
                             gradients.get() + k * kPitch);
            }
          });
    const int64_t depth = Factors<Factor>(pieces.count(number));
    Share(columns * ((out + kRowsAtOnce - 1) / kRowsAtOnce), [&](int64_t part, int) {
      const int64_t column = part % columns, row = part / columns * kRowsAtOnce;
      Multiply(Product<Factor>{gradients.get() + row * kPitch, kPitch, 1,
                               images.get() + column * kTogether * kColumns, kColumns,
                               result + row * in + column * kColumns, in, depth, item > 0},
               std::min<int64_t>(kRowsAtOnce, out - row));
    });
  }
}

}  // namespace

void ZeroBehind(const Shape &shape, int64_t channels, const float *image, float *result) {
  Share(shape.batch * channels, [&](int64_t plane, int) {
    const Extent extent = shape.extent(plane / channels);
    const float *from = image + plane * extent.area();
    float *to = result + plane * extent.area();
    for (int64_t y = 0; y < extent.rows; ++y)
      std::memcpy(to + y * extent.width, from + y * extent.width, extent.columns * sizeof(float));
    ClearRest(to, 1, extent);
  });
}

template <typename Factor, int stride>
void Pointwise<Factor, stride>::Forward(const Shape &shape, const float *image,
                                        const float *weights, const Ending &ending, float *result) {
  Project<Factor>(shape, stride, image, weights, ending, false, result);
}

template <typename Factor, int stride>
void Pointwise<Factor, stride>::InputGradient(const Shape &shape, const float *gradient,
                                              const float *weights, float *result) {
  Project<Factor>(shape, stride, gradient, weights, {}, true, result);
}

template <typename Factor, int stride>
void Pointwise<Factor, stride>::WeightGradient(const Shape &shape, const float *image,
                                               const float *gradient, float *result) {
  Correlation<Factor>(shape, stride, image, gradient, result);
}

template struct Pointwise<float, 1>;
template struct Pointwise<float, 2>;
template struct Pointwise<BfloatPair, 1>;
template struct Pointwise<BfloatPair, 2>;

}  // namespace kernels
