// SPDX-License-Identifier: Apache-2.0
#include "soft_nms.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "threads.h"

// The same roundings as in MindSpore's graph, one operator at a time.
#pragma GCC optimize("fp-contract=off")

namespace kernels {
namespace {

constexpr float kNoArea = 1e-12f;

struct Box {
  float x1, y1, x2, y2, area;
  explicit Box(const float *b)
      : x1(b[0]),
        y1(b[1]),
        x2(std::max(b[2], b[0])),
        y2(std::max(b[3], b[1])),
        area((x2 - x1) * (y2 - y1)) {}
};

float Overlap(const Box &a, const Box &b) {
  const float width = std::max(std::min(a.x2, b.x2) - std::max(a.x1, b.x1), 0.0f);
  const float height = std::max(std::min(a.y2, b.y2) - std::max(a.y1, b.y1), 0.0f);
  const float common = width * height;
  return common / std::max(a.area + b.area - common, kNoArea);
}

// What taking a box leaves of a neighbour's score.
float Factor(const SoftRule &rule, float overlap) {
  if (rule.gaussian) return std::exp(overlap * overlap * (-1.0f / rule.sigma));
  return overlap > rule.threshold ? 1.0f - overlap : 1.0f;
}

void SoftNmsOfImage(const Candidates &all, const SoftRule &rule, int64_t image, float *taken) {
  const int64_t start = image * all.count;
  std::vector<Box> boxes;
  std::vector<float> scores(all.scores + start, all.scores + start + all.count);
  std::vector<int64_t> left;  // the places of boxes that can still be taken, rising
  for (int64_t i = 0; i < all.count; ++i) {
    boxes.emplace_back(all.boxes + (start + i) * 4);
    if (scores[i] > 0.0f) left.push_back(i);
  }
  std::fill(taken + start, taken + start + all.count, 0.0f);
  for (int64_t round = 0; round < rule.most && !left.empty(); ++round) {
    const int64_t best = *std::max_element(
        left.begin(), left.end(), [&](int64_t a, int64_t b) { return scores[a] < scores[b]; });
    taken[start + best] = scores[best];
    const auto goes = [&](int64_t i) {
      if (i == best) return true;
      if (all.group[start + i] != all.group[start + best]) return false;
      scores[i] *= Factor(rule, Overlap(boxes[best], boxes[i]));
      return !(scores[i] >= rule.least);
    };
    left.erase(std::remove_if(left.begin(), left.end(), goes), left.end());
  }
}

}  // namespace

void SoftNms(const Candidates &candidates, const SoftRule &rule, float *taken) {
  Share(candidates.batch,
        [&](int64_t image, int) { SoftNmsOfImage(candidates, rule, image, taken); });
}

}  // namespace kernels
