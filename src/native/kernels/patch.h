// SPDX-License-Identifier: Apache-2.0
// Lines of an NCHW image with kLanes channels next to each other, zeros outside the image.
#pragma once

#include <algorithm>

#include "vector.h"

namespace kernels {

// Copies kLanes channels of `count` pixels from (y, x) on to to[pixel * to_pixel + lane].
inline void Fetch(const float *image, int height, int width, int y, int x, int count, float *to,
                  int64_t to_pixel) {
  const bool outside = y < 0 || y >= height;
  const int before = outside ? count : std::clamp(-x, 0, count);
  const int inside = outside ? 0 : std::clamp(width - (x + before), 0, count - before);
  for (int i = 0; i < before; ++i) Store(to + i * to_pixel, Vector{});
  if (inside > 0)
    Transpose(image + static_cast<int64_t>(y) * width + x + before,
              static_cast<int64_t>(height) * width, to + before * to_pixel, to_pixel, kLanes,
              inside);
  for (int i = before + inside; i < count; ++i) Store(to + i * to_pixel, Vector{});
}

}  // namespace kernels
