// SPDX-License-Identifier: Apache-2.0
// ReLU and 3x3 max pooling with stride 2, plane by plane.
#pragma once

#include <cstdint>

namespace kernels {

struct Pooled {
  int64_t batch, channels, height, width;  // of the images; both sides are even
  int before;          // pixels of a window left of its place, and above it: 0 or 1
  const float *cells;  // rows and columns of each image that are there, (batch, 2); null: all
};

// Writes the (height / 2, width / 2) maximum of each window and 0; pixels outside, and those that
// are not there, count as 0, and so do results where the image is not.
void PoolStem(const Pooled &pooled, const float *image, float *result);

// The gradient of the images: that of a result goes to the first pixel of the window which is as
// large as it, if it is above 0.
void PoolStemGradient(const Pooled &pooled, const float *image, const float *gradient,
                      float *image_gradient);

}  // namespace kernels
