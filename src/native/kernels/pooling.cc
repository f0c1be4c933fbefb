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
int64_t CellsOf(const std::vector<Map<Number>> &maps, int64_t batch) {
  int64_t cells = 0;
  for (const auto &map : maps) cells += batch * map.area;
  return cells;
}

// What a thread needs for some channels: which they are, their table, and room for a region's bins.
// The room goes from one to the next: of many threads only as many have one as there are blocks.
struct Part {
  int64_t channel, count;
  Room room;
  float *table, *sums;

  Part(int64_t block, int64_t channels, int64_t table_size, int64_t bins)
      : channel(block * kTogether),
        count(std::min<int64_t>(kTogether, channels - channel)),
        room(table_size + bins * kTogether),
        table(room.get()),
        sums(table + table_size) {}
};

void CheckRows(const Corners &corners, int64_t cells) {
  const int32_t *end = corners.rows + corners.regions * corners.bins * corners.corners;
  const auto [least, most] = std::minmax_element(corners.rows, end);
  if (least != end && (*least < 0 || *most >= cells))
    throw std::out_of_range("a region reads cells outside the feature maps");
}

// Calls visit(table rows, channels' start in memory, area) for every map and image.
template <typename Number, typename Visit>
void EachPlane(const std::vector<Map<Number>> &maps, int64_t batch, int64_t channels,
               int64_t first_channel, float *table, Visit visit) {
  for (const auto &map : maps)
    for (int64_t n = 0; n < batch; ++n) {
      visit(table, map.start + (n * channels + first_channel) * map.area, map.area);
      table += map.area * kTogether;
    }
}

}  // namespace

void Pool(const std::vector<Map<const float>> &maps, int64_t batch, int64_t channels,
          const Corners &corners, float *result) {
  const int64_t table_size = CellsOf(maps, batch) * kTogether;
  CheckRows(corners, CellsOf(maps, batch));
  Share((channels + kTogether - 1) / kTogether, [&](int64_t block, int) {
    const Part part(block, channels, table_size, corners.bins);
    EachPlane(maps, batch, channels, part.channel, part.table,
              [&](float *rows, const float *plane, int64_t area) {
                Transpose(plane, area, rows, kTogether, part.count, area);
              });
    for (int64_t region = 0; region < corners.regions; ++region) {
      const int32_t *row = corners.rows + region * corners.bins * corners.corners;
      const float *weight = corners.weights + region * corners.bins * corners.corners;
      for (int64_t bin = 0; bin < corners.bins; ++bin) {
        Vector sum[kParts] = {};
        for (int64_t corner = 0; corner < corners.corners; ++corner, ++row, ++weight)
          for (int v = 0; v < kParts; ++v)
            sum[v] += *weight * Load(part.table + *row * int64_t{kTogether} + v * kLanes);
        for (int v = 0; v < kParts; ++v) Store(part.sums + bin * kTogether + v * kLanes, sum[v]);
      }
      Transpose(part.sums, kTogether, result + (region * channels + part.channel) * corners.bins,
                corners.bins, corners.bins, part.count);
    }
  });
}

void PoolGradient(const std::vector<Map<float>> &maps, int64_t batch, int64_t channels,
                  const Corners &corners, const float *gradient) {
  const int64_t table_size = CellsOf(maps, batch) * kTogether;
  CheckRows(corners, CellsOf(maps, batch));
  Share((channels + kTogether - 1) / kTogether, [&](int64_t block, int) {
    const Part part(block, channels, table_size, corners.bins);
    std::memset(part.table, 0, table_size * sizeof(float));
    for (int64_t region = 0; region < corners.regions; ++region) {
      const int32_t *row = corners.rows + region * corners.bins * corners.corners;
      const float *weight = corners.weights + region * corners.bins * corners.corners;
      Transpose(gradient + (region * channels + part.channel) * corners.bins, corners.bins,
                part.sums, kTogether, part.count, corners.bins);
      for (int64_t bin = 0; bin < corners.bins; ++bin) {
        Vector sum[kParts];
        for (int v = 0; v < kParts; ++v) sum[v] = Load(part.sums + bin * kTogether + v * kLanes);
        for (int64_t corner = 0; corner < corners.corners; ++corner, ++row, ++weight)
          for (int v = 0; v < kParts; ++v) {
            float *cell = part.table + *row * int64_t{kTogether} + v * kLanes;
            Store(cell, Load(cell) + *weight * sum[v]);
          }
      }
    }
    EachPlane(maps, batch, channels, part.channel, part.table,
              [&](const float *rows, float *plane, int64_t area) {
                Transpose(rows, kTogether, plane, area, area, part.count);
              });
  });
}

}  // namespace kernels
