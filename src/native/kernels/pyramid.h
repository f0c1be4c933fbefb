// SPDX-License-Identifier: Apache-2.0
// The top-down path of a feature pyramid.
#pragma once

#include <cstdint>

namespace kernels {

// sum (planes, 2 height, 2 width) = fine + coarse (planes, height, width), doubled by nearest
// neighbour.
void AddUpsampled(int64_t planes, int64_t height, int64_t width, const float *fine,
                  const float *coarse, float *sum);

// The gradient of coarse: every 2 x 2 cells of the gradient (planes, 2 height, 2 width) summed up.
void SumQuarters(int64_t planes, int64_t height, int64_t width, const float *gradient,
                 float *result);

}  // namespace kernels
