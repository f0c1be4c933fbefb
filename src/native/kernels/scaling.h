// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace kernels {

// BatchNorm with stored statistics, as far as it scales: gamma / sqrt(variance + epsilon).
struct FrozenNorm {
  const float *gamma;
  const float *variance;
  float epsilon;
};

// result (rows, length) = values (rows, length) times the norm's scale of each row.
void ScaleRows(const FrozenNorm &norm, int64_t rows, int64_t length, const float *values,
               float *result);

// bias (rows) = beta - mean times the norm's scale.
void FoldedBias(const FrozenNorm &norm, int64_t rows, const float *beta, const float *mean,
                float *bias);

}  // namespace kernels
