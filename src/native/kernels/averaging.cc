// SPDX-License-Identifier: Apache-2.0
#include "averaging.h"

#include <algorithm>

#include "threads.h"

namespace kernels {

namespace {

constexpr int64_t kPiece = 1 << 16;  // numbers that a thread takes at once

}  // namespace

void Follow(const std::vector<Follower> &followers, float share) {
  std::vector<Follower> pieces;
  for (const Follower &one : followers)
    for (int64_t start = 0; start < one.length; start += kPiece)
      pieces.push_back(
          {one.average + start, one.value + start, std::min(kPiece, one.length - start)});
  Share(static_cast<int64_t>(pieces.size()), [&](int64_t place, int) {
    const Follower piece = pieces[place];
    float *__restrict average = piece.average;
    const float *__restrict value = piece.value;
    for (int64_t i = 0; i < piece.length; ++i) average[i] += share * (value[i] - average[i]);
  });
}

}  // namespace kernels
