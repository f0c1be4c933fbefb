// SPDX-License-Identifier: Apache-2.0
#include "resizing.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace frcnn {
namespace {

// --------------------------------------------------------------------------- two neighbours

// The pixels that a new one lies between.
struct Between {
  int first, second;
  float weight;  // the second one's
};

// The positions are PyTorch's: a float32 scale, multiplied and subtracted from in one rounding.
std::vector<Between> Neighbours(int from, int to) {
  const double scale = static_cast<float>(from) / static_cast<float>(to);
  std::vector<Between> result;
  result.reserve(static_cast<std::size_t>(to));
  for (int i = 0; i < to; ++i) {
    const auto position = std::max(static_cast<float>(scale * (i + 0.5) - 0.5), 0.0F);
    const int first = std::min(static_cast<int>(position), from - 1);
    const float weight = std::min(position - static_cast<float>(first), 1.0F);
    result.push_back({first, std::min(first + 1, from - 1), weight});
  }
  return result;
}

float Blend(float first, float second, float weight) { return first + (second - first) * weight; }

// A row of the source, resized horizontally.
void ResizeRow(const unsigned char *row, const std::vector<Between> &columns, float *target) {
  for (const Between &column : columns) {
    const auto *left = row + std::ptrdiff_t{kChannels} * column.first;
    const auto *right = row + std::ptrdiff_t{kChannels} * column.second;
    for (int c = 0; c < kChannels; ++c) *target++ = Blend(left[c], right[c], column.weight);
  }
}

// Rows that were resized horizontally; a new row needs two of them, the next one often the same.
class WideRows {
 public:
  WideRows(const unsigned char *source, Size from, int width)
      : source_(source),
        stride_(std::size_t{kChannels} * from.width),
        columns_(Neighbours(from.width, width)) {
    for (auto &row : rows_) row.resize(std::size_t{kChannels} * width);
  }

  // The row `number`, in the place that is not `keep`'s.
  const std::vector<float> &Get(int number, int keep) {
    for (int place = 0; place < 2; ++place)
      if (numbers_[place] == number) return rows_[place];
    const int place = numbers_[0] == keep ? 1 : 0;
    ResizeRow(source_ + stride_ * static_cast<std::size_t>(number), columns_, rows_[place].data());
    numbers_[place] = number;
    return rows_[place];
  }

 private:
  const unsigned char *source_;
  std::size_t stride_;
  std::vector<Between> columns_;
  std::vector<float> rows_[2];
  int numbers_[2] = {-1, -1};
};

// --------------------------------------------------------------------------- triangles

constexpr int kFractionBits = 22;  // of a weight: a sum of them by 8-bit values fits 32 bits

// For each new pixel, the old ones that make it, and their weights.
struct Weights {
  struct Range {
    int first, count;
    std::size_t at;  // of its first weight
  };
  std::vector<Range> ranges;
  std::vector<std::int32_t> values;
};

Weights TriangleWeights(int from, int to) {
  const double scale = static_cast<double>(from) / to;
  const double reach = std::max(scale, 1.0);  // half the triangle's base, in old pixels
  Weights weights;
  std::vector<double> exact;
  for (int i = 0; i < to; ++i) {
    const double centre = (i + 0.5) * scale;
    const int first = std::max(static_cast<int>(centre - reach + 0.5), 0);
    const int end = std::min(static_cast<int>(centre + reach + 0.5), from);
    exact.clear();
    double sum = 0;
    for (int x = first; x < end; ++x) {
      const double distance = std::abs((x - centre + 0.5) * (1.0 / reach));
      exact.push_back(distance < 1.0 ? 1.0 - distance : 0.0);
      sum += exact.back();
    }
    weights.ranges.push_back({first, end - first, weights.values.size()});
    for (const double weight : exact)
      weights.values.push_back(
          static_cast<std::int32_t>(weight / sum * (1 << kFractionBits) + 0.5));
  }
  return weights;
}

// One new value: the sum of old ones, `step` values apart, rounded.
unsigned char Mean(const unsigned char *values, std::size_t step, const std::int32_t *weights,
                   int count) {
  std::int32_t sum = 1 << (kFractionBits - 1);
  for (int i = 0; i < count; ++i) sum += values[static_cast<std::size_t>(i) * step] * weights[i];
  return static_cast<unsigned char>(std::min(sum >> kFractionBits, 255));
}

}  // namespace

void ResizeInFloats(const unsigned char *source, Size from, Size to, float *target) {
  WideRows wide(source, from, to.width);
  const std::size_t stride = std::size_t{kChannels} * to.width;
  for (const Between &row : Neighbours(from.height, to.height)) {
    const auto &upper = wide.Get(row.first, row.second);
    const auto &lower = wide.Get(row.second, row.first);
    for (std::size_t i = 0; i < stride; ++i) target[i] = Blend(upper[i], lower[i], row.weight);
    target += stride;
  }
}

void ResizeByTriangles(const unsigned char *source, Size from, Size to, unsigned char *target) {
  std::vector<unsigned char> wide;  // resized horizontally
  const std::size_t stride = std::size_t{kChannels} * to.width;
  if (from.width != to.width) {
    const Weights columns = TriangleWeights(from.width, to.width);
    wide.resize(stride * from.height);
    auto *out = wide.data();
    for (int y = 0; y < from.height; ++y, source += std::size_t{kChannels} * from.width)
      for (const auto &range : columns.ranges)
        for (int c = 0; c < kChannels; ++c)
          *out++ = Mean(source + std::size_t{kChannels} * range.first + c, kChannels,
                        &columns.values[range.at], range.count);
    source = wide.data();
  }
  if (from.height == to.height) {
    std::copy(source, source + stride * to.height, target);
    return;
  }
  const Weights rows = TriangleWeights(from.height, to.height);
  for (const auto &range : rows.ranges)
    for (std::size_t x = 0; x < stride; ++x)
      *target++ =
          Mean(source + stride * range.first + x, stride, &rows.values[range.at], range.count);
}

}  // namespace frcnn
