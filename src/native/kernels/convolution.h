// SPDX-License-Identifier: Apache-2.0
// 3x3 convolutions of float32 NCHW tensors, padded by 1, and 1x1 convolutions, and their gradients.
// Weights are (out, in, 3, 3) or (out, in, 1, 1); channel counts are multiples of kColumns, but for
// a 1x1 kernel's outputs. Those of grouped convolutions: below.
#pragma once

#include <algorithm>

#include "patch.h"

namespace kernels {

// A batch of images with `in` channels that becomes one with `out` channels; height and width of
// the images, and how many rows and columns of each are there, (batch, 2), or null for all of them.
// Behind those, images and gradients are taken for zeros, without being read, and results are
// zeros.
struct Shape {
  int batch, in, out, height, width;
  const float *cells;

  int64_t area() const { return static_cast<int64_t>(height) * width; }
  Extent extent(int64_t image) const {
    Extent extent = {height, width, height, width};
    if (cells != nullptr) {
      extent.rows = std::clamp(static_cast<int>(cells[2 * image]), 1, height);
      extent.columns = std::clamp(static_cast<int>(cells[2 * image + 1]), 1, width);
    }
    return extent;
  }
};

// Copies the images, `channels` planes each, with zeros for what is not there.
void ZeroBehind(const Shape &shape, int64_t channels, const float *image, float *result);

// `bias` is (out,), added to what is there of a result, or null.

// Stride 1: the result has the images' height and width.
void FilterForward(const Shape &shape, const float *image, const float *weights, const float *bias,
                   float *result);
void FilterInputGradient(const Shape &shape, const float *gradient, const float *weights,
                         float *result);
void FilterWeightGradient(const Shape &shape, const float *image, const float *gradient,
                          float *result);

// Stride 2: the result has half the height and width, rounded up.
void StrideForward(const Shape &shape, const float *image, const float *weights, const float *bias,
                   float *result);
void StrideInputGradient(const Shape &shape, const float *gradient, const float *weights,
                         float *result);
void StrideWeightGradient(const Shape &shape, const float *image, const float *gradient,
                          float *result);

// 1x1, of any number of results, with a stride of 1, or of 2 as above.
void PointwiseForward(const Shape &shape, int stride, const float *image, const float *weights,
                      const float *bias, float *result);
void PointwiseInputGradient(const Shape &shape, int stride, const float *gradient,
                            const float *weights, float *result);
void PointwiseWeightGradient(const Shape &shape, int stride, const float *image,
                             const float *gradient, float *result);

// 3x3 in groups, with a stride of 1 or 2. Weights are (out, in / groups, 3, 3); a group's channels
// on either side are a multiple of kGroupedChannels.
constexpr int kGroupedChannels = 4;
void GroupedForward(const Shape &shape, int groups, int stride, const float *image,
                    const float *weights, const float *bias, float *result);
void GroupedInputGradient(const Shape &shape, int groups, int stride, const float *gradient,
                          const float *weights, float *result);
void GroupedWeightGradient(const Shape &shape, int groups, int stride, const float *image,
                           const float *gradient, float *result);

}  // namespace kernels
