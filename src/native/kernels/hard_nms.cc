// SPDX-License-Identifier: Apache-2.0
#include "hard_nms.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "threads.h"

// The same roundings as in MindSpore's operator, one operation at a time.
#pragma GCC optimize("fp-contract=off")

namespace kernels {
namespace {

// The boxes that are in question, coordinate by coordinate, so that one is compared with many at
// once. `gone` has a float's width for the same reason.
struct Columns {
  std::vector<float> x1, y1, x2, y2, area;
  std::vector<int32_t> group, gone;
  std::vector<int64_t> place;  // among all boxes of the batch

  Columns(const RankedBoxes &ranked, int64_t start, int64_t count) {
    for (int64_t i = start; i < start + count; ++i) {
      if (!ranked.valid[i]) continue;
      const float *box = ranked.boxes + i * 4;
      x1.push_back(box[0]);
      y1.push_back(box[1]);
      x2.push_back(std::max(box[2], box[0]));  // one that ends before it starts is empty
      y2.push_back(std::max(box[3], box[1]));
      area.push_back((x2.back() - x1.back()) * (y2.back() - y1.back()));
      group.push_back(ranked.group == nullptr ? 0 : ranked.group[i]);
      place.push_back(i);
    }
    gone.assign(place.size(), 0);
  }

  // Lets the boxes behind `best` go that it suppresses.
  void Suppress(int64_t best, float threshold) {
    const float left = x1[best], top = y1[best], right = x2[best], bottom = y2[best];
    const float own = area[best];
    const int32_t of = group[best];
    const auto count = static_cast<int64_t>(place.size());
    for (int64_t i = best + 1; i < count; ++i) {
      const float width = std::max(std::min(x2[i], right) - std::max(x1[i], left), 0.0f);
      const float height = std::max(std::min(y2[i], bottom) - std::max(y1[i], top), 0.0f);
      const float common = width * height;
      gone[i] |= (common > threshold * (area[i] + own - common)) & (group[i] == of);
    }
  }
};

void HardNmsOfPart(const RankedBoxes &ranked, float threshold, int64_t start, int64_t count,
                   bool *kept) {
  std::fill(kept + start, kept + start + count, false);
  Columns columns(ranked, start, count);
  for (size_t i = 0; i < columns.place.size(); ++i) {
    if (columns.gone[i]) continue;
    kept[columns.place[i]] = true;
    columns.Suppress(static_cast<int64_t>(i), threshold);
  }
}

}  // namespace

void HardNms(const RankedBoxes &ranked, float threshold, bool *kept) {
  Share(ranked.batch * ranked.parts, [&](int64_t item, int) {
    const int64_t part = item % ranked.parts;
    const int64_t before = std::accumulate(ranked.counts, ranked.counts + part, int64_t{0});
    const int64_t start = item / ranked.parts * ranked.count + before;
    HardNmsOfPart(ranked, threshold, start, ranked.counts[part], kept);
  });
}

}  // namespace kernels
