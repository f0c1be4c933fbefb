// SPDX-License-Identifier: Apache-2.0
// Batch and group normalisation over the cells that are there.
#pragma once

#include "convolution.h"

namespace kernels {

// What is normalised together: with `groups` 0 each channel of the whole batch (Ioffe & Szegedy
// 2015), otherwise each of so many groups of channels of each image (Wu & He 2018).
struct Norm {
  Shape shape;  // batch, height, width and cells count
  int channels, groups;
  float eps;  // added to variances

  // Unlike `Shape::extent`, an image of no cells has none.
  Extent extent(int64_t image) const {
    Extent extent = shape.extent(image);
    if (shape.cells != nullptr && shape.cells[2 * image] * shape.cells[2 * image + 1] < 1.0f)
      extent.rows = extent.columns = 0;
    return extent;
  }
  int64_t sets() const { return groups == 0 ? channels : int64_t{shape.batch} * groups; }
  int64_t set(int64_t image, int64_t channel) const {
    return groups == 0 ? channel : image * groups + channel * groups / channels;
  }
};

// image (batch, channels, height, width); scale, shift (channels,); result as image, zero where
// nothing is; mean, variance (sets,), the variance divided by the number of cells.
void Normalise(const Norm &norm, const float *image, const float *scale, const float *shift,
               float *result, float *mean, float *variance);

// The gradients of image, scale and shift; `gradient` is that of the result, not read where nothing
// is.
void NormaliseGradient(const Norm &norm, const float *image, const float *scale, const float *mean,
                       const float *variance, const float *gradient, float *of_image,
                       float *of_scale, float *of_shift);

}  // namespace kernels
