// SPDX-License-Identifier: Apache-2.0
#include "scaling.h"

#include "threads.h"

namespace kernels {

void ScaleRows(int64_t rows, int64_t length, const float *values, const float *scale,
               float *result) {
  Share(rows, [&](int64_t row, int) {
    for (int64_t i = row * length; i < (row + 1) * length; ++i) result[i] = values[i] * scale[row];
  });
}

}  // namespace kernels
