// SPDX-License-Identifier: Apache-2.0
#include "per_anchor.h"

#include <algorithm>

#include "threads.h"

namespace kernels {
namespace {

constexpr int kNumbers = 4;  // of a box

// Calls visit(extent, y, first pixel of the line in a map, first cell of the line in the batch,
// image) for every line of every image.
template <typename Visit>
void EachLine(const Shape &shape, Visit visit) {
  Share(int64_t{shape.batch} * shape.height, [&](int64_t line, int) {
    const int64_t n = line / shape.height, y = line % shape.height;
    visit(shape.extent(n), y, y * shape.width, line * shape.width, n);
  });
}

}  // namespace

void PerAnchor(const Shape &shape, int anchors, const float *logits, const float *deltas,
               float lowest, float *all_logits, float *all_deltas) {
  const int64_t area = shape.area(), numbers = int64_t{anchors} * kNumbers;
  EachLine(shape, [&](const Extent &extent, int64_t y, int64_t pixel, int64_t cell, int64_t n) {
    float *to = all_logits + cell * anchors;
    Transpose(logits + n * anchors * area + pixel, area, to, anchors, anchors, shape.width);
    const int64_t there = y < extent.rows ? extent.columns : 0;
    std::fill(to + there * anchors, to + int64_t{shape.width} * anchors, lowest);
    Transpose(deltas + n * numbers * area + pixel, area, all_deltas + cell * numbers, numbers,
              numbers, shape.width);
  });
}

void PerAnchorGradient(const Shape &shape, int anchors, const float *of_logits,
                       const float *of_deltas, float *logits, float *deltas) {
  const int64_t area = shape.area(), numbers = int64_t{anchors} * kNumbers;
  EachLine(shape, [&](const Extent &extent, int64_t y, int64_t pixel, int64_t cell, int64_t n) {
    float *to = logits + n * anchors * area + pixel;
    Transpose(of_logits + cell * anchors, anchors, to, area, shape.width, anchors);
    const int64_t there = y < extent.rows ? extent.columns : 0;
    for (int64_t a = 0; a < anchors; ++a)
      std::fill(to + a * area + there, to + a * area + shape.width, 0.0f);
    Transpose(of_deltas + cell * numbers, numbers, deltas + n * numbers * area + pixel, area,
              shape.width, numbers);
  });
}

}  // namespace kernels
