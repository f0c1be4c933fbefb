// SPDX-License-Identifier: Apache-2.0
// What the functions share that MindSpore calls: its ahead-of-time custom operators. Tensors come
// as addresses with their shapes, inputs before outputs; 0 means success.
#pragma once

#include <cstdint>
#include <cstdio>
#include <exception>

#include "convolution.h"

#define OPERATOR(name)                                                                        \
  extern "C" int name([[maybe_unused]] int count, void **params, [[maybe_unused]] int *ndims, \
                      int64_t **shapes, const char **, void *, void *)

namespace kernels {

inline const float *Input(const void *tensor) { return static_cast<const float *>(tensor); }
inline float *Output(void *tensor) { return static_cast<float *>(tensor); }

// `cells`: null, or (batch, 2), see convolution.h.
inline Shape ShapeOf(const int64_t *image, const int64_t *weights, const void *cells) {
  return {static_cast<int>(image[0]), static_cast<int>(weights[1]), static_cast<int>(weights[0]),
          static_cast<int>(image[2]), static_cast<int>(image[3]),   Input(cells)};
}

// Runs `body`, and turns exceptions, which must not reach MindSpore, into a return code.
template <typename Body>
int Guarded(Body body) {
  try {
    body();
    return 0;
  } catch (const std::exception &error) {
    std::fprintf(stderr, "CPU operator: %s\n", error.what());
    return 1;
  }
}

}  // namespace kernels
