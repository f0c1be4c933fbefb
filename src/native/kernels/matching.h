// SPDX-License-Identifier: Apache-2.0
// Which box of an image overlaps which anchor, without a table of all pairs.
#pragma once

#include <cstdint>

namespace kernels {

// Boxes are x1, y1, x2, y2 with x2 - x1 + 1 the width, as MindSpore's IOU operator counts.
struct Boxes {
  const float *anchors;  // (count, 4), shared by the images
  int64_t count;
  const float *boxes;  // (batch, places, 4)
  const bool *valid;   // (batch, places): real boxes
  const bool *crowd;   // (batch, places): crowd regions; other places are padding
  const bool *usable;  // (batch, count): anchors that may be the best of a box
  int64_t batch, places;
};

// All results are (batch, count).
struct Matches {
  float *best;        // the highest IoU with a real box, at least 0
  int32_t *best_box;  // the first box that has it
  int32_t *best_of;   // 1 + the last box whose best usable anchor this one is, or 0
  float *in_crowd;    // the largest share of the anchor's area inside one crowd region
};

// A box has a best anchor only if that overlaps it by at least `least`, and at all.
void Match(const Boxes &boxes, float least, const Matches &matches);

}  // namespace kernels
