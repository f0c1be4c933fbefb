// SPDX-License-Identifier: Apache-2.0
// Greedy non-maximum suppression, image by image and part by part.
#pragma once

#include <cstdint>

namespace kernels {

struct RankedBoxes {
  const float *boxes;     // (batch, count, 4), x1, y1, x2, y2; of a part the best first
  const bool *valid;      // (batch, count); others neither stay nor suppress
  const int32_t *group;   // (batch, count), boxes of different groups never meet; null: all do
  const int32_t *counts;  // (parts), how many boxes each has; boxes of different ones never meet
  int64_t parts, batch, count;
};

// Writes to `kept`, (batch, count), which boxes stay: those that no better one which stays overlaps
// by more than `threshold` (intersection over union).
void HardNms(const RankedBoxes &ranked, float threshold, bool *kept);

}  // namespace kernels
