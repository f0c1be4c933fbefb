// SPDX-License-Identifier: Apache-2.0
// Soft non-maximum suppression (Bodla et al. 2017), image by image.
#pragma once

#include <cstdint>

namespace kernels {

struct Candidates {
  const float *boxes;    // (batch, count, 4), x1, y1, x2, y2
  const float *scores;   // (batch, count); 0: takes no part
  const int32_t *group;  // (batch, count); boxes of different groups never meet
  int64_t batch, count;
};

struct SoftRule {
  bool gaussian;    // exp(-IoU^2 / sigma); else 1 - IoU above `threshold`
  float threshold;  // of the linear rule
  float sigma;      // of the Gaussian one
  float least;      // boxes with a lower score go
  int64_t most;     // boxes of an image that are taken
};

// Writes to `taken`, (batch, count), the scores that boxes are taken with, 0 for the others.
void SoftNms(const Candidates &candidates, const SoftRule &rule, float *taken);

}  // namespace kernels
