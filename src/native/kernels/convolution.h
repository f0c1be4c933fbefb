// SPDX-License-Identifier: Apache-2.0
// Convolutions of float32 NCHW tensors that keep height and width, and their gradients.
#pragma once

namespace kernels {

// A batch of images with `in` channels that becomes one with `out` channels.
struct Shape {
  int batch, in, out, height, width;
};

// 3x3, padded by 1: weights (out, in, 3, 3). Both channel counts are multiples of kColumns.
void filter_forward(const Shape &shape, const float *image, const float *weights,
                    float *result);
void filter_input_gradient(const Shape &shape, const float *gradient, const float *weights,
                           float *result);
void filter_weight_gradient(const Shape &shape, const float *image, const float *gradient,
                            float *result);

}  // namespace kernels
