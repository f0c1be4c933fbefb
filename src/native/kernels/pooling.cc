// SPDX-License-Identifier: Apache-2.0
#include "pooling.h"

#include <algorithm>
#include <stdexcept>

#include "threads.h"
#include "vector.h"

namespace kernels {
namespace {

// Channels that a thread works on at a time: it gathers those of all cells side by side in a table,
// 10 MB for two images of 768x1280; no two threads add to the same numbers.
constexpr int kTogether = 16;
constexpr int kParts = kTogether / kLanes;

template <typename Number>
int64_t cells_of(const std::vector<Map<Number>> &maps, int64_t batch) {
  int64_t cells = 0;
  for (const auto &map : maps) cells += batch * map.area;
  return cells;
}

void check_rows(const Corners &corners, int64_t cells) {
  const int32_t *end = corners.rows + corners.regions * corners.bins * corners.corners;
  const auto [least, most] = std::minmax_element(corners.rows, end);
  if (least != end && (*least < 0 || *most >= cells))
    throw std::out_of_range("a region reads cells outside the feature maps");
}

// Calls visit(table rows, channels' start in memory, area) for every map and image.
template <typename Number, typename Visit>
void each_plane(const std::vector<Map<Number>> &maps, int64_t batch, int64_t channels,
                int64_t first_channel, float *table, Visit visit) {
  for (const auto &map : maps)
    for (int64_t n = 0; n < batch; ++n) {
      visit(table, map.start + (n * channels + first_channel) * map.area, map.area);
      table += map.area * kTogether;
    }
}

}  // namespace

void pool(const std::vector<Map<const float>> &maps, int64_t batch, int64_t channels,
          const Corners &corners, float *result) {
  const int64_t table_size = cells_of(maps, batch) * kTogether;
  check_rows(corners, cells_of(maps, batch));
  share((channels + kTogether - 1) / kTogether, [&](int64_t block, int thread) {
    float *table = scratch(thread, table_size + corners.bins * kTogether);
    float *sums = table + table_size;
    const int64_t channel = block * kTogether;
    const int64_t count = std::min<int64_t>(kTogether, channels - channel);
    each_plane(maps, batch, channels, channel, table,
               [&](float *rows, const float *plane, int64_t area) {
                 transpose(plane, area, rows, kTogether, count, area);
               });
    for (int64_t region = 0; region < corners.regions; ++region) {
      const int32_t *row = corners.rows + region * corners.bins * corners.corners;
      const float *weight = corners.weights + region * corners.bins * corners.corners;
      for (int64_t bin = 0; bin < corners.bins; ++bin) {
        Vector sum[kParts] = {};
        for (int64_t corner = 0; corner < corners.corners; ++corner, ++row, ++weight)
          for (int part = 0; part < kParts; ++part)
            sum[part] += *weight * load(table + *row * int64_t{kTogether} + part * kLanes);
        for (int part = 0; part < kParts; ++part)
          store(sums + bin * kTogether + part * kLanes, sum[part]);
      }
      transpose(sums, kTogether, result + (region * channels + channel) * corners.bins,
                corners.bins, corners.bins, count);
    }
  });
}

void pool_gradient(const std::vector<Map<float>> &maps, int64_t batch, int64_t channels,
                   const Corners &corners, const float *gradient) {
  const int64_t table_size = cells_of(maps, batch) * kTogether;
  check_rows(corners, cells_of(maps, batch));
  share((channels + kTogether - 1) / kTogether, [&](int64_t block, int thread) {
    float *table = scratch(thread, table_size + corners.bins * kTogether);
    float *sums = table + table_size;
    const int64_t channel = block * kTogether;
    const int64_t count = std::min<int64_t>(kTogether, channels - channel);
    std::memset(table, 0, table_size * sizeof(float));
    for (int64_t region = 0; region < corners.regions; ++region) {
      const int32_t *row = corners.rows + region * corners.bins * corners.corners;
      const float *weight = corners.weights + region * corners.bins * corners.corners;
      transpose(gradient + (region * channels + channel) * corners.bins, corners.bins, sums,
                kTogether, count, corners.bins);
      for (int64_t bin = 0; bin < corners.bins; ++bin) {
        Vector sum[kParts];
        for (int part = 0; part < kParts; ++part)
          sum[part] = load(sums + bin * kTogether + part * kLanes);
        for (int64_t corner = 0; corner < corners.corners; ++corner, ++row, ++weight)
          for (int part = 0; part < kParts; ++part) {
            float *cell = table + *row * int64_t{kTogether} + part * kLanes;
            store(cell, load(cell) + *weight * sum[part]);
          }
      }
    }
    each_plane(maps, batch, channels, channel, table,
               [&](const float *rows, float *plane, int64_t area) {
                 transpose(rows, kTogether, plane, area, area, count);
               });
  });
}

}  // namespace kernels
