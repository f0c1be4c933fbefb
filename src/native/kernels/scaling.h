// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace kernels {

// result (rows, length) = values (rows, length) times a number of each row.
void ScaleRows(int64_t rows, int64_t length, const float *values, const float *scale,
               float *result);

}  // namespace kernels
