// SPDX-License-Identifier: Apache-2.0
#include "scaling.h"

#include <cmath>

#include "threads.h"

namespace kernels {

namespace {

float ScaleOf(const FrozenNorm &norm, int64_t row) {
  return norm.gamma[row] / std::sqrt(norm.variance[row] + norm.epsilon);
}

}  // namespace

void ScaleRows(const FrozenNorm &norm, int64_t rows, int64_t length, const float *values,
               float *result) {
  Share(rows, [&](int64_t row, int) {
    const float scale = ScaleOf(norm, row);
    for (int64_t i = row * length; i < (row + 1) * length; ++i) result[i] = values[i] * scale;
  });
}

void FoldedBias(const FrozenNorm &norm, int64_t rows, const float *beta, const float *mean,
                float *bias) {
  for (int64_t row = 0; row < rows; ++row) {
    // Rounded by itself, as MindSpore's operators do: no fused multiply-add.
    const volatile float shift = mean[row] * ScaleOf(norm, row);
    bias[row] = beta[row] - shift;
  }
}

}  // namespace kernels
