// SPDX-License-Identifier: Apache-2.0
// Dense layers with factors in bfloat16: results of (examples, in) by (in, out), and gradients.
#pragma once

#include <cstdint>

namespace kernels {

// `in` and `out` are multiples of kColumns; what is not given in bfloat16 is rounded inside.
struct Layer {
  int64_t examples, in, out;
};

void DenseForward(const Layer &layer, const float *x, const float *weights, const float *bias,
                  float *result);
void DenseInputGradient(const Layer &layer, const float *gradient, const float *weights,
                        float *result);
void DenseWeightGradient(const Layer &layer, const float *x, const float *gradient, float *result);

}  // namespace kernels
