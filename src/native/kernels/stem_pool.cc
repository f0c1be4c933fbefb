// SPDX-License-Identifier: Apache-2.0
#include "stem_pool.h"

#include <algorithm>

#include "threads.h"

namespace kernels {
namespace {

constexpr int kSide = 3;  // of a window

// Not a number, where one of them is none: what went wrong shall be seen.
inline float Larger(float a, float b) { return a >= b || a != a ? a : b; }

// The first row, or column, of a window that is among the first `there`, and the one behind the
// last.
struct Span {
  int start, end;
  Span(int place, int before, int there)
      : start(std::max(2 * place - before, 0)), end(std::min(2 * place - before + kSide, there)) {}
};

// The maximum of each column of a window's rows and 0; behind the image, zeros.
void TallestOf(const float *plane, const Extent &extent, const Span &rows, float *tallest) {
  std::fill(tallest, tallest + extent.columns + kSide, 0.0f);
  for (int y = rows.start; y < rows.end; ++y) {
    const float *line = plane + static_cast<int64_t>(y) * extent.width;
    for (int x = 0; x < extent.columns; ++x) tallest[x] = Larger(tallest[x], line[x]);
  }
}

}  // namespace

void PoolStem(const Shape &shape, int64_t channels, int before, const float *image, float *result) {
  Share(shape.batch * channels, [&](int64_t plane, int thread) {
    const Extent extent = shape.extent(plane / channels), half = extent.Halved();
    const float *from = image + plane * extent.area();
    float *to = result + plane * half.area();
    float *line = Scratch(thread, extent.width + 2 * kSide);
    float *tallest = line + before;
    line[0] = 0.0f;
    for (int y = 0; y < half.rows; ++y) {
      TallestOf(from, extent, Span(y, before, extent.rows), tallest);
      float *__restrict out = to + static_cast<int64_t>(y) * half.width;
      for (int x = 0; x < half.columns; ++x)
        out[x] = Larger(Larger(line[2 * x], line[2 * x + 1]), line[2 * x + 2]);
    }
    ClearRest(to, 1, half);
  });
}

void PoolStemGradient(const Shape &shape, int64_t channels, int before, const float *image,
                      const float *gradient, float *image_gradient) {
  Share(shape.batch * channels, [&](int64_t plane, int) {
    const Extent extent = shape.extent(plane / channels), half = extent.Halved();
    const float *from = image + plane * extent.area();
    const float *of_result = gradient + plane * half.area();
    float *to = image_gradient + plane * extent.area();
    std::fill(to, to + extent.area(), 0.0f);
    for (int y = 0; y < half.rows; ++y) {
      const Span rows(y, before, extent.rows);
      for (int x = 0; x < half.columns; ++x) {
        const Span columns(x, before, extent.columns);
        float largest = 0.0f;
        int64_t place = -1;
        for (int row = rows.start; row < rows.end; ++row) {
          for (int column = columns.start; column < columns.end; ++column) {
            const int64_t here = static_cast<int64_t>(row) * extent.width + column;
            if (from[here] > largest) {
              largest = from[here];
              place = here;
            }
          }
        }
        if (place >= 0) to[place] += of_result[static_cast<int64_t>(y) * half.width + x];
      }
    }
  });
}

}  // namespace kernels
