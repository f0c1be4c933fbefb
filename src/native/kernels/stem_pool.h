// SPDX-License-Identifier: Apache-2.0
// ReLU and 3x3 max pooling with stride 2, plane by plane.
#pragma once

#include <cstdint>

#include "convolution.h"

namespace kernels {

// Writes the (height / 2, width / 2) maximum of each 3x3 window of `channels` planes an image, and
// 0; `before`, 0 or 1, pixels of a window lie left of its place and above it. Both sides are even.
// Pixels outside, and those that are not there, count as 0, and so do results where the image is
// not.
void PoolStem(const Shape &shape, int64_t channels, int before, const float *image, float *result);

// The gradient of the images: that of a result goes to the first pixel of the window which is as
// large as it, if it is above 0.
void PoolStemGradient(const Shape &shape, int64_t channels, int before, const float *image,
                      const float *gradient, float *image_gradient);

}  // namespace kernels
