// SPDX-License-Identifier: Apache-2.0
// The functions that MindSpore calls, but for convolutions; see operator.h.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "averaging.h"
#include "convolution.h"
#include "dense.h"
#include "exchange.h"
#include "hard_nms.h"
#include "matching.h"
#include "normalisation.h"
#include "operator.h"
#include "per_anchor.h"
#include "pooling.h"
#include "pyramid.h"
#include "scaling.h"
#include "soft_nms.h"
#include "stem_pool.h"
#include "threads.h"
#include "updating.h"
#include "vector.h"

using kernels::Guarded;
using kernels::Input;
using kernels::Output;
using kernels::ShapeOf;

namespace {

const bool *Flags(const void *tensor) { return static_cast<const bool *>(tensor); }

template <typename Number>
std::vector<kernels::Map<Number>> MapsOf(void **params, int64_t **shapes, int first, int levels) {
  std::vector<kernels::Map<Number>> maps;
  for (int i = first; i < first + levels; ++i)
    maps.push_back({static_cast<Number *>(params[i]), shapes[i][2] * shapes[i][3]});
  return maps;
}

// `settings`: how many groups, and the epsilon.
kernels::Norm NormOf(const int64_t *image, const void *settings, const void *cells) {
  return {ShapeOf(image, image, cells), static_cast<int>(image[1]),
          static_cast<int>(Input(settings)[0]), Input(settings)[1]};
}

int64_t LengthOf(const int64_t *shape, int axes) {
  int64_t length = 1;
  for (int axis = 0; axis < axes; ++axis) length *= shape[axis];
  return length;
}

kernels::Regions RegionsOf(void *const *params, const int64_t *shape, int64_t side) {
  return {Input(params[0]), static_cast<const int32_t *>(params[1]), shape[0], side,
          *static_cast<const int32_t *>(params[2])};
}

}  // namespace

extern "C" void use_threads(int count) { kernels::UseThreads(count); }
extern "C" int channels() { return kernels::kColumns; }
extern "C" int has_bfloat16() {
#if defined(__AVX512BF16__)
  return 1;
#else
  return 0;
#endif
}
extern "C" int grouped_channels() { return kernels::kGroupedChannels; }

// x (examples, in), weights (in, out), bias -> result (examples, out)
OPERATOR(dense_bf16) {
  return Guarded([&] {
    kernels::DenseForward({shapes[0][0], shapes[1][0], shapes[1][1]}, Input(params[0]),
                          Input(params[1]), Input(params[2]), Output(params[3]));
  });
}

// gradient of the result, weights -> gradient of x
OPERATOR(dense_bf16_input_gradient) {
  return Guarded([&] {
    kernels::DenseInputGradient({shapes[0][0], shapes[1][0], shapes[1][1]}, Input(params[0]),
                                Input(params[1]), Output(params[2]));
  });
}

// x, gradient of the result -> gradient of the weights
OPERATOR(dense_bf16_weight_gradient) {
  return Guarded([&] {
    kernels::DenseWeightGradient({shapes[0][0], shapes[0][1], shapes[1][1]}, Input(params[0]),
                                 Input(params[1]), Output(params[2]));
  });
}

// map, cells -> the map with zeros behind them
OPERATOR(zero_behind) {
  return Guarded([&] {
    const kernels::Shape shape = ShapeOf(shapes[0], shapes[0], params[1]);
    kernels::ZeroBehind(shape, shapes[0][1], Input(params[0]), Output(params[2]));
  });
}

// logits, deltas, what hidden logits become[, cells] -> both, anchor by anchor
OPERATOR(per_anchor) {
  return Guarded([&] {
    const kernels::Shape shape = ShapeOf(shapes[0], shapes[0], count > 5 ? params[3] : nullptr);
    kernels::PerAnchor(shape, static_cast<int>(shapes[0][1]), Input(params[0]), Input(params[1]),
                       *Input(params[2]), Output(params[count - 2]), Output(params[count - 1]));
  });
}

// logits (only their shape is of interest), gradients of both results[, cells] -> those of logits
// and deltas
OPERATOR(per_anchor_gradient) {
  return Guarded([&] {
    const kernels::Shape shape = ShapeOf(shapes[0], shapes[0], count > 5 ? params[3] : nullptr);
    kernels::PerAnchorGradient(shape, static_cast<int>(shapes[0][1]), Input(params[1]),
                               Input(params[2]), Output(params[count - 2]),
                               Output(params[count - 1]));
  });
}

// image, scale, shift, settings (groups, epsilon)[, cells] -> result, means, variances
OPERATOR(normalise) {
  return Guarded([&] {
    const kernels::Norm norm = NormOf(shapes[0], params[3], count > 7 ? params[4] : nullptr);
    kernels::Normalise(norm, Input(params[0]), Input(params[1]), Input(params[2]),
                       Output(params[count - 3]), Output(params[count - 2]),
                       Output(params[count - 1]));
  });
}

// image, scale, settings, means, variances, gradient of the result[, cells] -> gradients of image,
// scale and shift
OPERATOR(normalise_gradient) {
  return Guarded([&] {
    const kernels::Norm norm = NormOf(shapes[0], params[2], count > 9 ? params[6] : nullptr);
    kernels::NormaliseGradient(norm, Input(params[0]), Input(params[1]), Input(params[3]),
                               Input(params[4]), Input(params[5]), Output(params[count - 3]),
                               Output(params[count - 2]), Output(params[count - 1]));
  });
}

// weights, gamma, beta, mean, variance, epsilon -> weights and bias of the convolution that
// includes this norm
OPERATOR(fold_norm) {
  return Guarded([&] {
    const kernels::FrozenNorm norm = {Input(params[1]), Input(params[4]), *Input(params[5])};
    kernels::ScaleRows(norm, shapes[0][0], LengthOf(shapes[0] + 1, 3), Input(params[0]),
                       Output(params[6]));
    kernels::FoldedBias(norm, shapes[0][0], Input(params[2]), Input(params[3]), Output(params[7]));
  });
}

// gradient of the weights that fold_norm returns, gamma, variance, epsilon -> that of its weights
OPERATOR(fold_norm_gradient) {
  return Guarded([&] {
    kernels::ScaleRows({Input(params[1]), Input(params[2]), *Input(params[3])}, shapes[0][0],
                       LengthOf(shapes[0] + 1, 3), Input(params[0]), Output(params[4]));
  });
}

// maps (batch, channels, height, width)..., boxes, places, samples -> result
OPERATOR(pool) {
  return Guarded([&] {
    const int levels = count - 4;
    kernels::Pool(MapsOf<const float>(params, shapes, 0, levels), shapes[0][0], shapes[0][1],
                  RegionsOf(params + levels, shapes[levels], shapes[levels + 3][3]),
                  Output(params[levels + 3]));
  });
}

// maps (only their shapes are of interest), boxes, places, samples, gradient of the result ->
// gradients of the maps
OPERATOR(pool_gradient) {
  return Guarded([&] {
    const int levels = (count - 4) / 2;
    kernels::PoolGradient(MapsOf<float>(params, shapes, levels + 4, levels), shapes[0][0],
                          shapes[0][1],
                          RegionsOf(params + levels, shapes[levels], shapes[levels + 3][3]),
                          Input(params[levels + 3]));
  });
}

// image, before[, cells] -> result
OPERATOR(pool_stem) {
  return Guarded([&] {
    kernels::PoolStem(ShapeOf(shapes[0], shapes[0], count > 3 ? params[2] : nullptr), shapes[0][1],
                      *static_cast<const int32_t *>(params[1]), Input(params[0]),
                      Output(params[count - 1]));
  });
}

// image, before, gradient of the result[, cells] -> gradient of the image
OPERATOR(pool_stem_gradient) {
  return Guarded([&] {
    kernels::PoolStemGradient(ShapeOf(shapes[0], shapes[0], count > 4 ? params[3] : nullptr),
                              shapes[0][1], *static_cast<const int32_t *>(params[1]),
                              Input(params[0]), Input(params[2]), Output(params[count - 1]));
  });
}

// fine, coarse -> sum
OPERATOR(add_upsampled) {
  return Guarded([&] {
    kernels::AddUpsampled(shapes[1][0] * shapes[1][1], shapes[1][2], shapes[1][3], Input(params[0]),
                          Input(params[1]), Output(params[2]));
  });
}

// gradient of the sum -> gradient of coarse
OPERATOR(add_upsampled_gradient) {
  return Guarded([&] {
    kernels::SumQuarters(shapes[1][0] * shapes[1][1], shapes[1][2], shapes[1][3], Input(params[0]),
                         Output(params[1]));
  });
}

// anchors, boxes, valid, crowd, usable, least -> best, best_box, best_of, in_crowd
OPERATOR(match_anchors) {
  return Guarded([&] {
    const kernels::Boxes boxes = {Input(params[0]), shapes[0][0],     Input(params[1]),
                                  Flags(params[2]), Flags(params[3]), Flags(params[4]),
                                  shapes[1][0],     shapes[1][1]};
    kernels::Match(boxes, *Input(params[5]),
                   {Output(params[6]), static_cast<int32_t *>(params[7]),
                    static_cast<int32_t *>(params[8]), Output(params[9])});
  });
}

// boxes, valid, threshold, parts[, groups] -> kept
OPERATOR(hard_nms) {
  return Guarded([&] {
    const auto *parts = static_cast<const int32_t *>(params[3]);
    const auto *groups = count > 5 ? static_cast<const int32_t *>(params[4]) : nullptr;
    kernels::HardNms({Input(params[0]), Flags(params[1]), groups, parts, shapes[3][0], shapes[1][0],
                      shapes[1][1]},
                     *Input(params[2]), static_cast<bool *>(params[count - 1]));
  });
}

// boxes, scores, groups, rule (Gaussian or not, threshold, sigma, least), most -> scores when taken
OPERATOR(soft_nms) {
  return Guarded([&] {
    const float *rule = Input(params[3]);
    kernels::SoftNms(
        {Input(params[0]), Input(params[1]), static_cast<const int32_t *>(params[2]), shapes[1][0],
         shapes[1][1]},
        {rule[0] > 0.0f, rule[1], rule[2], rule[3], *static_cast<const int32_t *>(params[4])},
        Output(params[5]));
  });
}

// share, averages..., as many values -> share; the averages are changed in place
OPERATOR(follow) {
  return Guarded([&] {
    const int pairs = (count - 2) / 2;
    std::vector<kernels::Follower> followers;
    for (int i = 1; i <= pairs; ++i) {
      followers.push_back(
          {Output(params[i]), Input(params[i + pairs]), LengthOf(shapes[i], ndims[i])});
    }
    kernels::Follow(followers, *Input(params[0]));
    *Output(params[count - 1]) = *Input(params[0]);
  });
}

// loss scale, settings (rule, beta1, beta2, eps, largest norm or 0, batches that the gradients are
// sums of, whether they are such and are cleared), members (tensors, 2: what the rate is multiplied
// with, decay), rates of all steps, steps made, updates made, weights..., sums of gradients..., or
// the gradients' addresses (tensors,), first moments...[, second moments...] -> the gradients'
// norm. Steps, updates, weights and moments are changed in place; without a finite norm only the
// steps are.
OPERATOR(update_weights) {
  return Guarded([&] {
    constexpr int kBefore = 6;
    const float *settings = Input(params[1]), *members = Input(params[2]);
    const float *rates = Input(params[3]), most = settings[4];
    int32_t *steps = static_cast<int32_t *>(params[4]);
    int32_t *updates = static_cast<int32_t *>(params[5]);
    const int tensors = static_cast<int>(shapes[2][0]);
    const bool summed = settings[6] > 0.0f;
    void **weights = params + kBefore, **gradients = weights + tensors;
    void **moments = gradients + (summed ? tensors : 1);
    if (!summed) gradients = static_cast<void **>(*gradients);
    const kernels::Method method = {static_cast<kernels::Rule>(static_cast<int>(settings[0])),
                                    settings[1], settings[2], settings[3]};
    const float rate = rates[std::min<int64_t>(*steps, shapes[3][0] - 1)];
    std::vector<kernels::Trained> trained;
    for (int i = 0; i < tensors; ++i) {
      trained.push_back(
          {Output(weights[i]), Output(gradients[i]), Output(moments[i]),
           method.rule == kernels::Rule::kSgd ? nullptr : Output(moments[tensors + i]),
           LengthOf(shapes[kBefore + i], ndims[kBefore + i]), rate * members[2 * i],
           members[2 * i + 1]});
    }
    const float unscale = 1.0f / (*Input(params[0]) * settings[5]);
    const float norm = static_cast<float>(kernels::GradientNorm(trained)) * unscale;
    ++*steps;
    if (std::isfinite(norm)) {
      const float clip = most > 0.0f ? std::min(most / (norm + 1e-6f), 1.0f) : 1.0f;
      kernels::Update(trained, method, unscale * clip, ++*updates);
    }
    if (summed) kernels::ClearGradients(trained);
    *Output(params[count - 1]) = norm;
  });
}

extern "C" int64_t exchange_bytes(int ranks) { return kernels::ExchangeBytes(ranks); }
extern "C" int join_exchange(const char *path, int rank, int ranks, double seconds) {
  return Guarded([&] { kernels::JoinExchange(path, rank, ranks, seconds); });
}

// tensors... -> the mean of each over the processes that have joined
OPERATOR(mean_over_ranks) {
  return Guarded([&] {
    const int tensors = count / 2;
    std::vector<kernels::Averaged> averaged;
    for (int i = 0; i < tensors; ++i) {
      averaged.push_back(
          {Input(params[i]), Output(params[i + tensors]), LengthOf(shapes[i], ndims[i])});
    }
    kernels::MeanOverRanks(averaged);
  });
}
