// SPDX-License-Identifier: Apache-2.0
#include "matching.h"

#include <algorithm>
#include <vector>

#include "threads.h"

// The same roundings in every place an overlap is computed: they are compared for equality.
#pragma GCC optimize("fp-contract=off")

namespace kernels {
namespace {

constexpr int64_t kPiece = 4096;  // anchors that a thread looks at

struct Box {
  float x1, y1, x2, y2, area;
  explicit Box(const float *b)
      : x1(b[0]), y1(b[1]), x2(b[2]), y2(b[3]), area((x2 - x1 + 1.0f) * (y2 - y1 + 1.0f)) {}
};

float CommonArea(const Box &a, const Box &b) {
  const float width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1) + 1.0f;
  const float height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1) + 1.0f;
  return std::max(width, 0.0f) * std::max(height, 0.0f);
}

float Overlap(const Box &a, const Box &b) {
  const float common = CommonArea(a, b);
  return common / (a.area + b.area - common);
}

std::vector<Box> BoxesOf(const Boxes &all, const bool *shown, int64_t image,
                         std::vector<int32_t> *places) {
  std::vector<Box> boxes;
  for (int64_t i = image * all.places; i < (image + 1) * all.places; ++i)
    if (shown[i]) {
      boxes.emplace_back(all.boxes + i * 4);
      if (places != nullptr) places->push_back(static_cast<int32_t>(i - image * all.places));
    }
  return boxes;
}

void MatchImage(const Boxes &all, float least, int64_t image, const Matches &matches) {
  std::vector<int32_t> places;
  const std::vector<Box> boxes = BoxesOf(all, all.valid, image, &places);
  const std::vector<Box> regions = BoxesOf(all, all.crowd, image, nullptr);
  const int64_t start = image * all.count, pieces = (all.count + kPiece - 1) / kPiece;
  std::vector<float> top(boxes.size() * pieces, 0.0f);
  const auto each = [&](int64_t piece, const auto &body) {
    for (int64_t i = piece * kPiece; i < std::min(all.count, (piece + 1) * kPiece); ++i)
      body(start + i, Box(all.anchors + i * 4));
  };
  Share(pieces, [&](int64_t piece, int) {
    each(piece, [&](int64_t i, const Box &anchor) {
      float best = 0.0f, in_crowd = 0.0f;
      int32_t best_box = 0;
      for (size_t g = 0; g < boxes.size(); ++g) {
        const float value = Overlap(anchor, boxes[g]);
        if (value > best) best = value, best_box = places[g];
        if (all.usable[i]) top[g * pieces + piece] = std::max(top[g * pieces + piece], value);
      }
      for (const Box &region : regions)
        in_crowd = std::max(in_crowd, CommonArea(anchor, region) / anchor.area);
      matches.best[i] = best;
      matches.best_box[i] = best_box;
      matches.in_crowd[i] = in_crowd;
    });
  });
  std::vector<float> highest(boxes.size());
  for (size_t g = 0; g < boxes.size(); ++g)
    highest[g] = *std::max_element(&top[g * pieces], &top[g * pieces] + pieces);
  Share(pieces, [&](int64_t piece, int) {
    each(piece, [&](int64_t i, const Box &anchor) {
      int32_t best_of = 0;
      for (size_t g = 0; all.usable[i] && g < boxes.size(); ++g)
        if (highest[g] > 0.0f && highest[g] >= least && Overlap(anchor, boxes[g]) >= highest[g])
          best_of = places[g] + 1;
      matches.best_of[i] = best_of;
    });
  });
}

}  // namespace

void Match(const Boxes &boxes, float least, const Matches &matches) {
  for (int64_t image = 0; image < boxes.batch; ++image) MatchImage(boxes, least, image, matches);
}

}  // namespace kernels
