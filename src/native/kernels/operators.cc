// SPDX-License-Identifier: Apache-2.0
// The functions that MindSpore calls: its ahead-of-time custom operators. Tensors come as addresses
// with their shapes, inputs before outputs; 0 means success.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <vector>

#include "convolution.h"
#include "matching.h"
#include "pooling.h"
#include "pyramid.h"
#include "scaling.h"
#include "threads.h"
#include "vector.h"

namespace {

kernels::Shape shape_of(const int64_t *image, const int64_t *weights) {
  return {static_cast<int>(image[0]), static_cast<int>(weights[1]), static_cast<int>(weights[0]),
          static_cast<int>(image[2]), static_cast<int>(image[3])};
}

const float *input(const void *tensor) { return static_cast<const float *>(tensor); }

const bool *flags(const void *tensor) { return static_cast<const bool *>(tensor); }

float *output(void *tensor) { return static_cast<float *>(tensor); }

// Runs `body`, and turns exceptions, which must not reach MindSpore, into a return code.
template <typename Body>
int guarded(Body body) {
  try {
    body();
    return 0;
  } catch (const std::exception &error) {
    std::fprintf(stderr, "CPU operator: %s\n", error.what());
    return 1;
  }
}

template <typename Number>
std::vector<kernels::Map<Number>> maps_of(void **params, int64_t **shapes, int first, int levels) {
  std::vector<kernels::Map<Number>> maps;
  for (int i = first; i < first + levels; ++i)
    maps.push_back({static_cast<Number *>(params[i]), shapes[i][2] * shapes[i][3]});
  return maps;
}

kernels::Regions regions_of(void *const *params, const int64_t *shape, int64_t side) {
  return {input(params[0]), static_cast<const int32_t *>(params[1]), shape[0], side,
          *static_cast<const int32_t *>(params[2])};
}

}  // namespace

#define OPERATOR(name)                                                                    \
  extern "C" int name([[maybe_unused]] int count, void **params, int *, int64_t **shapes, \
                      const char **, void *, void *)

extern "C" void use_threads(int count) { kernels::use_threads(count); }
extern "C" int channels() { return kernels::kColumns; }

// image, weights -> result
OPERATOR(conv3x3) {
  return guarded([&] {
    kernels::filter_forward(shape_of(shapes[0], shapes[1]), input(params[0]), input(params[1]),
                            output(params[2]));
  });
}

// gradient of the result, weights -> gradient of the image
OPERATOR(conv3x3_input_gradient) {
  return guarded([&] {
    kernels::filter_input_gradient(shape_of(shapes[0], shapes[1]), input(params[0]),
                                   input(params[1]), output(params[2]));
  });
}

// image, gradient of the result -> gradient of the weights
OPERATOR(conv3x3_weight_gradient) {
  return guarded([&] {
    kernels::filter_weight_gradient(shape_of(shapes[0], shapes[2]), input(params[0]),
                                    input(params[1]), output(params[2]));
  });
}

// image, weights -> result
OPERATOR(strided3x3) {
  return guarded([&] {
    kernels::stride_forward(shape_of(shapes[0], shapes[1]), input(params[0]), input(params[1]),
                            output(params[2]));
  });
}

// image (only its shape is of interest), gradient of the result, weights -> gradient of the image
OPERATOR(strided3x3_input_gradient) {
  return guarded([&] {
    kernels::stride_input_gradient(shape_of(shapes[0], shapes[2]), input(params[1]),
                                   input(params[2]), output(params[3]));
  });
}

// image, gradient of the result -> gradient of the weights
OPERATOR(strided3x3_weight_gradient) {
  return guarded([&] {
    kernels::stride_weight_gradient(shape_of(shapes[0], shapes[2]), input(params[0]),
                                    input(params[1]), output(params[2]));
  });
}

// weights, scale of each output channel -> product
OPERATOR(scale_filters) {
  return guarded([&] {
    kernels::scale_rows(shapes[0][0], shapes[0][1] * shapes[0][2] * shapes[0][3], input(params[0]),
                        input(params[1]), output(params[2]));
  });
}

// maps (batch, channels, height, width)..., boxes, places, samples -> result
OPERATOR(pool) {
  return guarded([&] {
    const int levels = count - 4;
    kernels::pool(maps_of<const float>(params, shapes, 0, levels), shapes[0][0], shapes[0][1],
                  regions_of(params + levels, shapes[levels], shapes[levels + 3][3]),
                  output(params[levels + 3]));
  });
}

// maps (only their shapes are of interest), boxes, places, samples, gradient of the result ->
// gradients of the maps
OPERATOR(pool_gradient) {
  return guarded([&] {
    const int levels = (count - 4) / 2;
    kernels::pool_gradient(maps_of<float>(params, shapes, levels + 4, levels), shapes[0][0],
                           shapes[0][1],
                           regions_of(params + levels, shapes[levels], shapes[levels + 3][3]),
                           input(params[levels + 3]));
  });
}

// fine, coarse -> sum
OPERATOR(add_upsampled) {
  return guarded([&] {
    kernels::add_upsampled(shapes[1][0] * shapes[1][1], shapes[1][2], shapes[1][3],
                           input(params[0]), input(params[1]), output(params[2]));
  });
}

// gradient of the sum -> gradient of coarse
OPERATOR(add_upsampled_gradient) {
  return guarded([&] {
    kernels::sum_quarters(shapes[1][0] * shapes[1][1], shapes[1][2], shapes[1][3], input(params[0]),
                          output(params[1]));
  });
}

// anchors, boxes, valid, crowd, usable, least -> best, best_box, best_of, in_crowd
OPERATOR(match_anchors) {
  return guarded([&] {
    const kernels::Boxes boxes = {input(params[0]), shapes[0][0],     input(params[1]),
                                  flags(params[2]), flags(params[3]), flags(params[4]),
                                  shapes[1][0],     shapes[1][1]};
    kernels::match(boxes, *input(params[5]),
                   {output(params[6]), static_cast<int32_t *>(params[7]),
                    static_cast<int32_t *>(params[8]), output(params[9])});
  });
}
