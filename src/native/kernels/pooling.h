// SPDX-License-Identifier: Apache-2.0
// Weighted sums of cells of several feature maps, and their gradient: the work of RoIAlign.
#pragma once

#include <cstdint>
#include <vector>

namespace kernels {

// A (batch, channels, area) map.
template <typename Number>
struct Map {
  Number *start;
  int64_t area;
};

// Which cells are summed: result (regions, channels, bins) is in every channel the sum over
// `corners` of weights (regions, bins, corners) times the cells named by rows (regions, bins,
// corners). Rows count the cells of all maps: map by map, image by image, in the order of memory.
struct Corners {
  const int32_t *rows;
  const float *weights;
  int64_t regions, bins, corners;
};

void Pool(const std::vector<Map<const float>> &maps, int64_t batch, int64_t channels,
          const Corners &corners, float *result);
void PoolGradient(const std::vector<Map<float>> &maps, int64_t batch, int64_t channels,
                  const Corners &corners, const float *gradient);

}  // namespace kernels
