// SPDX-License-Identifier: Apache-2.0
// 3x3 convolutions of float32 NCHW tensors, padded by 1, and 1x1 convolutions, and their gradients.
// Weights are (out, in, 3, 3) or (out, in, 1, 1); channel counts are multiples of kColumns, but for
// a 1x1 kernel's outputs. Those of grouped convolutions: below.
#pragma once

#include <algorithm>

#include "bfloat16.h"
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

// What is done to results before they are written: `bias`, (out,), and `shortcut`, laid out as they
// are (1x1 only), are added unless null; with `positive`, negative ones then become zeros.
struct Ending {
  const float *bias, *shortcut;
  bool positive;
};

// Each kind below has the same three functions: the results of images, and their gradients in the
// images and in the weights. Inside, products are of floats or of pairs in bfloat16 (`Factor`, see
// bfloat16.h).
#define CONVOLUTION_FUNCTIONS                                                                \
  static void Forward(const Shape &shape, const float *image, const float *weights,          \
                      const Ending &ending, float *result);                                  \
  static void InputGradient(const Shape &shape, const float *gradient, const float *weights, \
                            float *result);                                                  \
  static void WeightGradient(const Shape &shape, const float *image, const float *gradient,  \
                             float *result)

// 3x3 with stride 1: the result has the images' height and width.
template <typename Factor>
struct Filter {
  CONVOLUTION_FUNCTIONS;
};

// 3x3 with stride 2: the result has half the height and width, rounded up.
template <typename Factor>
struct Strided {
  CONVOLUTION_FUNCTIONS;
};

// 1x1, of any number of results, with a stride of 1, or of 2 as above.
template <typename Factor, int stride>
struct Pointwise {
  CONVOLUTION_FUNCTIONS;
};

#undef CONVOLUTION_FUNCTIONS

// 3x3 in groups, with a stride of 1 or 2. `bias` is (out,), or null. Weights are (out, in / groups,
// 3, 3); a group's channels on either side are a multiple of kGroupedChannels.
constexpr int kGroupedChannels = 4;
void GroupedForward(const Shape &shape, int groups, int stride, const float *image,
                    const float *weights, const float *bias, float *result);
void GroupedInputGradient(const Shape &shape, int groups, int stride, const float *gradient,
                          const float *weights, float *result);
void GroupedWeightGradient(const Shape &shape, int groups, int stride, const float *image,
                           const float *gradient, float *result);

}  // namespace kernels
