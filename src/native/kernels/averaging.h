// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace kernels {

// A tensor that follows another one of the same length.
struct Follower {
  float *average;
  const float *value;
  int64_t length;
};

// average += share * (value - average), of every follower.
void Follow(const std::vector<Follower> &followers, float share);

}  // namespace kernels
