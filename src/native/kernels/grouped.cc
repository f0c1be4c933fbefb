// SPDX-License-Identifier: Apache-2.0
// 3x3 convolutions in groups of channels, padded by 1. Groups are narrow (4 to 64 channels), so
// that pixels lie next to each other in vectors, as they do in the tensors: a map's lines follow
// each other with one zero in between, and a tap is a distance in them.
#include <algorithm>
#include <cstring>
#include <vector>

#include "convolution.h"
#include "patch.h"
#include "threads.h"
#include "vector.h"

namespace kernels {
namespace {

constexpr int kSide = 3, kTaps = kSide * kSide;
constexpr int kChannels = kGroupedChannels;          // of a result, computed together
constexpr int kWide = kRows * kVectors / kChannels;  // vectors of pixels of each
constexpr int kTapsAtOnce = kWide >= 6 ? 6 : 3;      // of a gradient of the weights
constexpr int64_t kPatchFloats = 64 * 1024;          // stay in a cache of 1 MB

// Which number of a filter meets what pixel: `place` floats from the first that is looked at.
struct Tap {
  int filter;
  int64_t place;
};

// filter(result channel r, channel d) = start[r * row + d * depth ...], kTaps numbers.
struct Filters {
  const float *start;
  int64_t row, depth;
};

// Copies pixels x, x + step, ... (step: 1 or 2) of a line to to[0..count), zeros for what is not
// there.
void FetchLine(const float *map, const Extent &extent, int y, int x, int step, int count,
               float *to) {
  const bool outside = y < 0 || y >= extent.rows;
  const int inside = outside ? 0 : std::clamp((extent.columns - x + step - 1) / step, 0, count);
  const float *from = map + static_cast<int64_t>(y) * extent.width + x;
  if (step == 1) {
    if (inside > 0) std::memcpy(to, from, inside * sizeof(float));
  } else {
    int i = 0;
    for (; i + kLanes < inside; i += kLanes) StoreEverySecond(from + 2 * i, to + i);
    for (; i < inside; ++i) to[i] = from[2 * i];
  }
  std::fill(to + inside, to + count, 0.0f);
}

// Some rows of a channel as the taps read them. With stride 1 it is a plane of lines, from the one
// above the first row to the one below the last. With stride 2 there is a plane of each parity of
// row and column, even ones first.
struct Patch {
  int stride, rows, columns, pitch, lines;

  Patch(int step, int result_rows, int result_columns)
      : stride(step), rows(result_rows), columns(result_columns), pitch(result_columns + 1) {
    lines = rows + (stride == 1 ? 2 : 1);
  }
  int64_t plane() const { return 1 + static_cast<int64_t>(lines) * pitch; }
  int64_t channel() const { return stride * stride * plane(); }
  int64_t size(int channels) const { return channels * channel() + kLanes; }
  int64_t pixels() const { return static_cast<int64_t>(rows - 1) * pitch + columns; }
  int64_t vectors() const { return (pixels() + kLanes - 1) / kLanes; }

  // `first`: the result's row that the patch begins with.
  void Fetch(const float *maps, const Extent &extent, int first, int channels, float *to) const {
    for (int c = 0; c < channels; ++c, maps += extent.area())
      for (int down = 0; down < stride; ++down)
        for (int right = 0; right < stride; ++right, to += plane()) {
          to[0] = 0.0f;
          for (int line = 0; line < lines; ++line) {
            const int y = stride == 1 ? first + line - 1 : 2 * (first + line) - down;
            FetchLine(maps, extent, y, right, stride, pitch, to + 1 + int64_t{line} * pitch);
          }
        }
    std::fill(to, to + kLanes, 0.0f);  // read, with no use for it
  }

  // `turned`: what the pixels have given to the results' gradients, the other way round.
  std::vector<Tap> Taps(bool turned) const {
    std::vector<Tap> taps;
    for (int i = 0; i < kSide; ++i)
      for (int j = 0; j < kSide; ++j) {
        const int64_t parity = 2 * (i != 1) + (j != 1);
        const int64_t place = stride == 1 ? int64_t{i} * pitch + j
                                          : parity * plane() + int64_t{i / 2} * pitch + (j > 0);
        const int filter = i * kSide + j;
        taps.push_back({turned ? kTaps - 1 - filter : filter, place});
      }
    return taps;
  }

  // Those of an image's pixels with odd or even rows and columns, from a patch (of stride 1) of the
  // gradients of the results of stride 2: an even pixel was seen by the middle tap alone, an odd
  // one by the last of the window at its half and by the first of the next one.
  std::vector<Tap> HalvedTaps(int odd_row, int odd_column) const {
    std::vector<Tap> taps;
    for (int down = 0; down <= odd_row; ++down)
      for (int right = 0; right <= odd_column; ++right) {
        const int i = odd_row ? 2 - 2 * down : 1, j = odd_column ? 2 - 2 * right : 1;
        taps.push_back({i * kSide + j, int64_t{1 + down} * pitch + 1 + right});
      }
    return taps;
  }
};

// The rows of an image's result, cut into bands whose patch of `channels` stays in a cache.
struct Bands {
  Extent image, result;
  int rows, down;

  Bands(const Extent &of, int stride, int read_stride, int channels)
      : image(of), result(stride == 1 ? of : of.Halved()) {
    const int64_t row = int64_t{channels} * read_stride * read_stride * (result.columns + 1);
    const int64_t fit = std::clamp<int64_t>(kPatchFloats / row, 1, result.rows);
    down = static_cast<int>((result.rows + fit - 1) / fit);
    rows = (result.rows + down - 1) / down;
    down = (result.rows + rows - 1) / rows;
  }
  int64_t blocks() const { return down; }
  int first(int64_t band) const { return static_cast<int>(band) * rows; }
  int count(int64_t band) const { return std::min(rows, result.rows - first(band)); }
};

// sums[r][pixel], `pitch` apart, of kChannels results and wide * kLanes pixels.
template <int wide>
[[gnu::noinline]] void SumBlock(const float *patch, int64_t channel, int channels,
                                const std::vector<Tap> &taps, const Filters &filters,
                                const float *bias, float *to, int64_t to_row) {
  Vector sums[kChannels][wide];
#pragma GCC unroll 4
  for (int r = 0; r < kChannels; ++r)
#pragma GCC unroll 6
    for (int v = 0; v < wide; ++v) sums[r][v] = bias ? Vector{} + bias[r] : Vector{};
  const float *filter = filters.start;
  for (int c = 0; c < channels; ++c, patch += channel, filter += filters.depth)
    for (const Tap &tap : taps) {
      Vector line[wide];
#pragma GCC unroll 6
      for (int v = 0; v < wide; ++v) line[v] = Load(patch + tap.place + v * kLanes);
#pragma GCC unroll 4
      for (int r = 0; r < kChannels; ++r) {
        const float weight = filter[r * filters.row + tap.filter];
#pragma GCC unroll 6
        for (int v = 0; v < wide; ++v) sums[r][v] += weight * line[v];
      }
    }
#pragma GCC unroll 4
  for (int r = 0; r < kChannels; ++r)
#pragma GCC unroll 6
    for (int v = 0; v < wide; ++v) Store(to + r * to_row + v * kLanes, sums[r][v]);
}

template <int wide = kWide, typename... Rest>
void SumRest(int64_t vectors, const float *patch, Rest &&...rest) {
  if (vectors == wide) return SumBlock<wide>(patch, rest...);
  if constexpr (wide > 1) SumRest<wide - 1>(vectors, patch, rest...);
}

// All pixels of a patch; a row of sums takes patch.vectors() * kLanes floats.
void Sum(const Patch &patch, const float *from, int channels, const std::vector<Tap> &taps,
         const Filters &filters, const float *bias, float *sums) {
  const int64_t vectors = patch.vectors();
  int64_t blocks = (vectors + kWide - 1) / kWide;
  for (int64_t done = 0; blocks > 0; --blocks) {
    const int64_t wide = (vectors - done + blocks - 1) / blocks;  // about the same for all blocks
    SumRest(wide, from + done * kLanes, patch.channel(), channels, taps, filters, bias,
            sums + done * kLanes, vectors * kLanes);
    done += wide;
  }
}

// Writes a channel's sums to every `step`th pixel of every `step`th line.
void PutRows(const float *sums, int pitch, int rows, int columns, int step, float *to,
             int64_t width) {
  for (int row = 0; row < rows; ++row, sums += pitch, to += step * width) {
    if (step == 1)
      std::memcpy(to, sums, columns * sizeof(float));
    else
      for (int x = 0; x < columns; ++x) to[x * step] = sums[x];
  }
}

// Calls work(bands, image, group, band, thread) for every band of every group of every image.
template <typename Work>
void ShareBands(const Shape &shape, int groups, int stride, int read_stride, int channels,
                Work work) {
  const Blocks<Bands> blocks(
      shape.batch, [&](int n) { return Bands(shape.extent(n), stride, read_stride, channels); });
  Share(blocks.count() * groups, [&](int64_t item, int thread) {
    const auto [bands, n, band] = blocks.place(item / groups);
    work(bands, n, item % groups, band, thread);
  });
}

// The results of `stride`, or, `turned`, the gradient of the images of stride 1.
void Correlate(const Shape &shape, int groups, int stride, const float *image, const float *weights,
               const float *bias, bool turned, float *result) {
  const int in = (turned ? shape.out : shape.in) / groups;
  const int out = (turned ? shape.in : shape.out) / groups;
  const int64_t filters = int64_t{in} * out * kTaps, row = turned ? kTaps : int64_t{in} * kTaps;
  const int64_t depth = turned ? int64_t{out} * kTaps : kTaps;
  ShareBands(shape, groups, stride, stride, in,
             [&](const Bands &bands, int64_t n, int64_t group, int64_t band, int thread) {
               const int first = bands.first(band);
               const Patch patch(stride, bands.count(band), bands.result.columns);
               float *lines =
                   Scratch(thread, patch.size(in) + kChannels * patch.vectors() * kLanes);
               float *sums = lines + patch.size(in);
               const int64_t area = bands.result.area(), width = bands.result.width;
               const std::vector<Tap> taps = patch.Taps(turned);
               patch.Fetch(image + (n * groups + group) * in * shape.area(), bands.image, first, in,
                           lines);
               for (int k = 0; k < out; k += kChannels) {
                 const Filters own = {weights + group * filters + k * row, row, depth};
                 const int64_t channel = (n * groups + group) * out + k;
                 Sum(patch, lines, in, taps, own, bias ? bias + group * out + k : nullptr, sums);
                 for (int r = 0; r < kChannels; ++r)
                   PutRows(sums + r * patch.vectors() * kLanes, patch.pitch, patch.rows,
                           patch.columns, 1, result + (channel + r) * area + first * width, width);
                 if (band == 0) ClearRest(result + channel * area, kChannels, bands.result);
               }
             });
}

// The gradient of the images of stride 2: four maps, of the pixels with even and odd places.
void SpreadGradient(const Shape &shape, int groups, const float *gradient, const float *weights,
                    float *result) {
  const int in = shape.in / groups, out = shape.out / groups;
  const int64_t filters = int64_t{in} * out * kTaps;
  ShareBands(shape, groups, 2, 1, out,
             [&](const Bands &bands, int64_t n, int64_t group, int64_t band, int thread) {
               const int first = bands.first(band);
               const Patch patch(1, bands.count(band), bands.result.columns);
               float *lines =
                   Scratch(thread, patch.size(out) + kChannels * patch.vectors() * kLanes);
               float *sums = lines + patch.size(out);
               const int64_t area = bands.image.area(), width = bands.image.width;
               patch.Fetch(gradient + (n * groups + group) * out * bands.result.area(),
                           bands.result, first, out, lines);
               for (int c = 0; c < in; c += kChannels) {
                 const Filters own = {weights + group * filters + c * kTaps, kTaps, in * kTaps};
                 float *map = result + ((n * groups + group) * in + c) * area;
                 for (int odd = 0; odd < 4; ++odd) {
                   const int y = odd / 2, x = odd % 2;
                   Sum(patch, lines, out, patch.HalvedTaps(y, x), own, nullptr, sums);
                   const int rows = std::min(patch.rows, (bands.image.rows - y + 1) / 2 - first);
                   const int columns = std::min(patch.columns, (bands.image.columns - x + 1) / 2);
                   for (int r = 0; r < kChannels; ++r)
                     PutRows(sums + r * patch.vectors() * kLanes, patch.pitch, rows, columns, 2,
                             map + r * area + (2 * first + y) * width + x, width);
                 }
                 if (band == 0) ClearRest(map, kChannels, bands.image);
               }
             });
}

// A band of an image and of its results' gradient, which has zeros between its lines.
struct Pair {
  Patch patch;
  std::vector<Tap> taps;
  const float *image, *gradient;
};

// The sum over the pixels of all pairs of kChannels gradients times kTapsAtOnce taps, added to
// to[r * to_row + tap]; `tap` counts through the taps of one channel after the other.
[[gnu::noinline]] void SumPairs(const std::vector<Pair> &pairs, int k, int tap, float *to,
                                int64_t to_row) {
  constexpr int kSums = kChannels * kTapsAtOnce, kRest = kSums % kLanes;
  static_assert(kRest == 0 || kRest == kLanes / 2);
  Vector sums[kSums] = {};
  for (const Pair &pair : pairs) {
    const int64_t row = pair.patch.vectors() * kLanes;
    const float *gradient = pair.gradient + k * row, *places[kTapsAtOnce];
    for (int t = 0; t < kTapsAtOnce; ++t)
      places[t] = pair.image + (tap + t) / kTaps * pair.patch.channel() +
                  pair.taps[(tap + t) % kTaps].place;
    for (int64_t pixel = 0; pixel < row; pixel += kLanes) {
      Vector line[kTapsAtOnce];
#pragma GCC unroll 6
      for (int t = 0; t < kTapsAtOnce; ++t) line[t] = Load(places[t] + pixel);
#pragma GCC unroll 4
      for (int r = 0; r < kChannels; ++r) {
        const Vector factor = Load(gradient + r * row + pixel);
#pragma GCC unroll 6
        for (int t = 0; t < kTapsAtOnce; ++t) sums[r * kTapsAtOnce + t] += factor * line[t];
      }
    }
  }
  float totals[kSums];
  int first = 0;
  for (; first + kLanes <= kSums; first += kLanes)
    Store(totals + first, LaneSums<kLanes / 2>(sums + first));
  if constexpr (kRest > 0) {
    const Vector halves = LaneSums<kLanes / 4>(sums + first);
    for (int i = 0; i < kRest; ++i) totals[first + i] = halves[i] + halves[i + kRest];
  }
  for (int i = 0; i < kSums; ++i) to[i / kTapsAtOnce * to_row + i % kTapsAtOnce] += totals[i];
}

// The gradients' lines of a band, as far apart as the patch's, zeros between and behind them.
void FetchGradient(const Patch &patch, const float *maps, const Extent &extent, int first,
                   int channels, float *to) {
  const int64_t size = patch.vectors() * kLanes;
  for (int k = 0; k < channels; ++k, maps += extent.area(), to += size) {
    std::fill(to, to + size, 0.0f);
    for (int row = 0; row < patch.rows; ++row)
      FetchLine(maps, extent, first + row, 0, 1, patch.columns, to + int64_t{row} * patch.pitch);
  }
}

}  // namespace

void GroupedForward(const Shape &shape, int groups, int stride, const float *image,
                    const float *weights, const float *bias, float *result) {
  Correlate(shape, groups, stride, image, weights, bias, false, result);
}

void GroupedInputGradient(const Shape &shape, int groups, int stride, const float *gradient,
                          const float *weights, float *result) {
  if (stride == 1)
    Correlate(shape, groups, 1, gradient, weights, nullptr, true, result);
  else
    SpreadGradient(shape, groups, gradient, weights, result);
}

void GroupedWeightGradient(const Shape &shape, int groups, int stride, const float *image,
                           const float *gradient, float *result) {
  const int in = shape.in / groups, out = shape.out / groups;
  const int64_t filters = int64_t{in} * out * kTaps;
  const Blocks<Bands> blocks(
      shape.batch, [&](int n) { return Bands(shape.extent(n), stride, stride, in + out); });
  Share(groups, [&](int64_t group, int thread) {
    float *own = result + group * filters;
    std::fill(own, own + filters, 0.0f);
    for (int64_t done = 0; done < blocks.count();) {
      // Bands that stay in a cache together, at least one.
      std::vector<Pair> pairs;
      int64_t size = 0, count = 0;
      for (; done + count < blocks.count(); ++count) {
        const auto [bands, n, band] = blocks.place(done + count);
        const Patch patch(stride, bands.count(band), bands.result.columns);
        const int64_t more = patch.size(in) + out * patch.vectors() * kLanes;
        if (count > 0 && size + more > 2 * kPatchFloats) break;
        pairs.push_back({patch, patch.Taps(false), nullptr, nullptr});
        size += more;
      }
      float *room = Scratch(thread, size);
      for (int64_t i = 0; i < count; ++i) {
        const auto [bands, n, band] = blocks.place(done + i);
        Pair &pair = pairs[i];
        pair.patch.Fetch(image + (n * groups + group) * in * shape.area(), bands.image,
                         bands.first(band), in, room);
        pair.image = room;
        room += pair.patch.size(in);
        FetchGradient(pair.patch, gradient + (n * groups + group) * out * bands.result.area(),
                      bands.result, bands.first(band), out, room);
        pair.gradient = room;
        room += out * pair.patch.vectors() * kLanes;
      }
      for (int k = 0; k < out; k += kChannels)
        for (int tap = 0; tap < in * kTaps; tap += kTapsAtOnce)
          SumPairs(pairs, k, tap, own + int64_t{k} * in * kTaps + tap, int64_t{in} * kTaps);
      done += count;
    }
  });
}

}  // namespace kernels
