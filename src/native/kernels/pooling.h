// SPDX-License-Identifier: Apache-2.0
// RoIAlign: averages of bilinear samples of regions of several feature maps, and their gradient.
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

// What is pooled into (regions, channels, side, side).
struct Regions {
  // (regions, 4): y, x, height and width in cells, counted from the centre of the first cell read.
  const float *boxes;
  // (regions, 4): the cell that y and x count from, cells a line of its map, and how many lines and
  // cells of a line can be read. Cells are counted map by map, image by image.
  const int32_t *places;
  int64_t count, side;
  int samples;  // a bin and side; 0: adaptive, ceil(side of the region / side)
};

void Pool(const std::vector<Map<const float>> &maps, int64_t batch, int64_t channels,
          const Regions &regions, float *result);
void PoolGradient(const std::vector<Map<float>> &maps, int64_t batch, int64_t channels,
                  const Regions &regions, const float *gradient);

}  // namespace kernels
