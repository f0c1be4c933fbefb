// SPDX-License-Identifier: Apache-2.0
// What the RPN's head returns for a level, anchor by anchor instead of channel by channel.
#pragma once

#include "convolution.h"

namespace kernels {

// Of `shape` count batch, height, width and cells. logits (batch, anchors, height, width) become
// (batch, height * width * anchors), and deltas (batch, anchors * 4, height, width) become
// (batch, height * width * anchors, 4). Logits that are not there become `lowest`.
void PerAnchor(const Shape &shape, int anchors, const float *logits, const float *deltas,
               float lowest, float *all_logits, float *all_deltas);

// The way back for gradients; those of logits that are not there are zero.
void PerAnchorGradient(const Shape &shape, int anchors, const float *of_logits,
                       const float *of_deltas, float *logits, float *deltas);

}  // namespace kernels
