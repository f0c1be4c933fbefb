// SPDX-License-Identifier: Apache-2.0
// Lines of an NCHW image with kLanes channels next to each other, zeros outside the image; and the
// blocks that the images of a batch are cut into.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "vector.h"

namespace kernels {

// The size of a map in memory, and how many of its rows and columns are there: `rows` x `columns`
// from the upper left corner on.
struct Extent {
  int height, width, rows, columns;

  int64_t area() const { return static_cast<int64_t>(height) * width; }
  Extent Halved() const {
    return {(height + 1) / 2, (width + 1) / 2, (rows + 1) / 2, (columns + 1) / 2};
  }
};

// Copies kLanes channels of `count` pixels from (y, x) on to to[pixel * to_pixel + lane].
inline void Fetch(const float *image, const Extent &extent, int y, int x, int count, float *to,
                  int64_t to_pixel) {
  const bool outside = y < 0 || y >= extent.rows;
  const int before = outside ? count : std::clamp(-x, 0, count);
  const int inside = outside ? 0 : std::clamp(extent.columns - (x + before), 0, count - before);
  for (int i = 0; i < before; ++i) Store(to + i * to_pixel, Vector{});
  if (inside > 0)
    Transpose(image + static_cast<int64_t>(y) * extent.width + x + before, extent.area(),
              to + before * to_pixel, to_pixel, kLanes, inside);
  for (int i = before + inside; i < count; ++i) Store(to + i * to_pixel, Vector{});
}

// Writes zeros to what is not there of `planes` maps that lie behind each other.
inline void ClearRest(float *maps, int64_t planes, const Extent &extent) {
  if (extent.rows == extent.height && extent.columns == extent.width) return;
  for (int64_t plane = 0; plane < planes; ++plane, maps += extent.area()) {
    for (int64_t y = 0; y < extent.rows; ++y)
      std::fill(maps + y * extent.width + extent.columns, maps + (y + 1) * extent.width, 0.0f);
    std::fill(maps + static_cast<int64_t>(extent.rows) * extent.width, maps + extent.area(), 0.0f);
  }
}

// The blocks of all images of a batch, image by image; `Cut` says how one image is cut.
template <typename Cut>
class Blocks {
 public:
  struct Place {
    const Cut &cut;
    int64_t image, block;
  };

  // make(image) -> Cut
  template <typename Make>
  Blocks(int batch, Make make) : first_(1, 0) {
    for (int n = 0; n < batch; ++n) {
      cuts_.push_back(make(n));
      first_.push_back(first_.back() + cuts_.back().blocks());
    }
  }
  int64_t count() const { return first_.back(); }
  const std::vector<Cut> &cuts() const { return cuts_; }
  Place place(int64_t number) const {
    const int64_t n = std::upper_bound(first_.begin(), first_.end(), number) - first_.begin() - 1;
    return {cuts_[n], n, number - first_[n]};
  }

 private:
  std::vector<Cut> cuts_;
  std::vector<int64_t> first_;  // block of each image, and the end
};

}  // namespace kernels
