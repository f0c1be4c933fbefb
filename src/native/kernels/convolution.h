// SPDX-License-Identifier: Apache-2.0
// 3x3 convolutions of float32 NCHW tensors, padded by 1, and their gradients. Weights are (out, in,
// 3, 3); both channel counts are multiples of kColumns.
#pragma once

namespace kernels {

// A batch of images with `in` channels that becomes one with `out` channels; height and width of
// the images.
struct Shape {
  int batch, in, out, height, width;
};

// Stride 1: the result has the images' height and width.
void FilterForward(const Shape &shape, const float *image, const float *weights, float *result);
void FilterInputGradient(const Shape &shape, const float *gradient, const float *weights,
                         float *result);
void FilterWeightGradient(const Shape &shape, const float *image, const float *gradient,
                          float *result);

// Stride 2: the result has half the height and width, rounded up.
void StrideForward(const Shape &shape, const float *image, const float *weights, float *result);
void StrideInputGradient(const Shape &shape, const float *gradient, const float *weights,
                         float *result);
void StrideWeightGradient(const Shape &shape, const float *image, const float *gradient,
                          float *result);

}  // namespace kernels
