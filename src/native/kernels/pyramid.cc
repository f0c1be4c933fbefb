// SPDX-License-Identifier: Apache-2.0
#include "pyramid.h"

#include "threads.h"

namespace kernels {

void AddUpsampled(int64_t planes, int64_t height, int64_t width, const float *fine,
                  const float *coarse, float *sum) {
  Share(planes, [&](int64_t plane, int) {
    for (int64_t y = 0; y < 2 * height; ++y) {
      const float *from = coarse + (plane * height + y / 2) * width;
      const float *own = fine + (plane * 2 * height + y) * 2 * width;
      float *to = sum + (plane * 2 * height + y) * 2 * width;
      for (int64_t x = 0; x < width; ++x) {
        to[2 * x] = own[2 * x] + from[x];
        to[2 * x + 1] = own[2 * x + 1] + from[x];
      }
    }
  });
}

void SumQuarters(int64_t planes, int64_t height, int64_t width, const float *gradient,
                 float *result) {
  Share(planes, [&](int64_t plane, int) {
    for (int64_t y = 0; y < height; ++y) {
      const float *top = gradient + (plane * 2 * height + 2 * y) * 2 * width;
      const float *bottom = top + 2 * width;
      float *to = result + (plane * height + y) * width;
      for (int64_t x = 0; x < width; ++x)
        to[x] = (top[2 * x] + top[2 * x + 1]) + (bottom[2 * x] + bottom[2 * x + 1]);
    }
  });
}

}  // namespace kernels
