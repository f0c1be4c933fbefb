// SPDX-License-Identifier: Apache-2.0
#include "updating.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "threads.h"

namespace kernels {

namespace {

constexpr int64_t kPiece = 1 << 16;  // numbers that a thread takes at once

std::vector<Trained> Pieces(const std::vector<Trained> &tensors) {
  std::vector<Trained> pieces;
  for (const Trained &one : tensors)
    for (int64_t start = 0; start < one.length; start += kPiece)
      pieces.push_back({one.weight + start, one.gradient + start, one.first + start,
                        one.second == nullptr ? nullptr : one.second + start,
                        std::min(kPiece, one.length - start), one.rate, one.decay});
  return pieces;
}

void ForEachPiece(const std::vector<Trained> &tensors,
                  const std::function<void(const Trained &, int64_t place)> &work) {
  const std::vector<Trained> pieces = Pieces(tensors);
  Share(static_cast<int64_t>(pieces.size()),
        [&](int64_t place, int) { work(pieces[place], place); });
}

// velocity = momentum * velocity + gradient + decay * weight; weight -= rate * velocity
void Sgd(const Trained &one, float momentum, float factor) {
  float *__restrict weight = one.weight, *__restrict velocity = one.first;
  const float *__restrict gradient = one.gradient;
  for (int64_t i = 0; i < one.length; ++i) {
    velocity[i] = momentum * velocity[i] + (factor * gradient[i] + one.decay * weight[i]);
    weight[i] -= one.rate * velocity[i];
  }
}

// The means without bias are mean / (1 - beta^count). Their corrections go into the rate and into
// eps: rate * (m / c1) / (sqrt(v / c2) + eps) = (rate * sqrt(c2) / c1) * m / (sqrt(v) + eps *
// sqrt(c2)).
void Adam(const Trained &one, const Method &method, float factor, int count) {
  const double c1 = 1.0 - std::pow(static_cast<double>(method.beta1), count);
  const double root = std::sqrt(1.0 - std::pow(static_cast<double>(method.beta2), count));
  const float rate = static_cast<float>(one.rate * root / c1);
  const float eps = static_cast<float>(method.eps * root);
  const bool decoupled = method.rule == Rule::kAdamW;
  const float kept = decoupled ? 1.0f - one.rate * one.decay : 1.0f;
  const float added = decoupled ? 0.0f : one.decay;
  const float beta1 = method.beta1, beta2 = method.beta2;
  float *__restrict weight = one.weight, *__restrict mean = one.first;
  float *__restrict square = one.second;
  const float *__restrict gradient = one.gradient;
  for (int64_t i = 0; i < one.length; ++i) {
    const float g = factor * gradient[i] + added * weight[i];
    mean[i] = beta1 * mean[i] + (1.0f - beta1) * g;
    square[i] = beta2 * square[i] + (1.0f - beta2) * g * g;
    weight[i] = kept * weight[i] - rate * mean[i] / (std::sqrt(square[i]) + eps);
  }
}

}  // namespace

double GradientNorm(const std::vector<Trained> &tensors) {
  std::vector<double> sums(Pieces(tensors).size());
  ForEachPiece(tensors, [&](const Trained &one, int64_t place) {
    double sum = 0.0;
    for (int64_t i = 0; i < one.length; ++i)
      sum += static_cast<double>(one.gradient[i]) * one.gradient[i];
    sums[place] = sum;
  });
  double all = 0.0;  // in the order of the pieces, whichever thread had them
  for (double sum : sums) all += sum;
  return std::sqrt(all);
}

void Update(const std::vector<Trained> &tensors, const Method &method, float factor, int count) {
  ForEachPiece(tensors, [&](const Trained &one, int64_t) {
    if (method.rule == Rule::kSgd)
      Sgd(one, method.beta1, factor);
    else
      Adam(one, method, factor, count);
  });
}

void ClearGradients(const std::vector<Trained> &tensors) {
  ForEachPiece(tensors, [](const Trained &one, int64_t) {
    std::fill(one.gradient, one.gradient + one.length, 0.0f);
  });
}

}  // namespace kernels
