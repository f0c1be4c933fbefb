// SPDX-License-Identifier: Apache-2.0
// From the gradients of a step to its new weights: their norm, clipping, SGD with momentum, Adam.
#pragma once

#include <cstdint>
#include <vector>

namespace kernels {

// A tensor that is trained, with what the optimizer keeps of it.
struct Trained {
  float *weight, *gradient;
  float *first;   // SGD: the velocity; Adam: the mean of the gradients
  float *second;  // Adam: the mean of their squares; SGD: not used
  int64_t length;
  float rate, decay;
};

enum class Rule { kSgd, kAdam, kAdamW };

struct Method {
  Rule rule;
  float beta1, beta2, eps;  // SGD: beta1 is the momentum, the others are not used
};

// The L2 norm over the gradients of all tensors.
double GradientNorm(const std::vector<Trained> &tensors);

// Makes the update number `count` (from 1) with gradients that are multiplied with `factor` first.
void Update(const std::vector<Trained> &tensors, const Method &method, float factor, int count);

// Sets all gradients to 0.
void ClearGradients(const std::vector<Trained> &tensors);

}  // namespace kernels
