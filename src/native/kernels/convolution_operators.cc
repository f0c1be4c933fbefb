// SPDX-License-Identifier: Apache-2.0
// The convolutions among the functions that MindSpore calls, see operator.h.
#include "convolution.h"
#include "operator.h"

namespace kernels {
namespace {

// Convolutions may take more inputs: the bias of their forward step, (out,), the shortcut that is
// added to its result, and the cells that are there, (batch, 2); without them there is none, and
// all are.
struct MoreInputs {
  const void *bias = nullptr, *cells = nullptr, *shortcut = nullptr;

  // Looks through the inputs from `first` on; the last tensor is the output.
  MoreInputs(int first, int count, void **params, const int *ndims) {
    for (int i = first; i < count - 1; ++i)
      (ndims[i] == 1 ? bias : ndims[i] == 2 ? cells : shortcut) = params[i];
  }
};

// The same where weights are of groups; how many there are.
Shape GroupedShapeOf(const int64_t *image, const int64_t *weights, const void *cells) {
  Shape shape = ShapeOf(image, weights, cells);
  shape.in = static_cast<int>(image[1]);
  return shape;
}

int GroupsOf(const int64_t *image, const int64_t *weights) {
  return static_cast<int>(image[1] / weights[1]);
}

// image, weights[, bias][, cells][, shortcut] -> result
template <typename Convolution>
int Forward(bool positive, int count, void **params, const int *ndims, int64_t **shapes) {
  return Guarded([&] {
    const MoreInputs more(2, count, params, ndims);
    Convolution::Forward(ShapeOf(shapes[0], shapes[1], more.cells), Input(params[0]),
                         Input(params[1]), {Input(more.bias), Input(more.shortcut), positive},
                         Output(params[count - 1]));
  });
}

// gradient of the result, weights[, cells] -> gradient of the image; with a stride after the image,
// of which only the shape is of interest
template <typename Convolution>
int InputGradient(int first, int count, void **params, const int *ndims, int64_t **shapes) {
  return Guarded([&] {
    const MoreInputs more(first + 2, count, params, ndims);
    Convolution::InputGradient(ShapeOf(shapes[0], shapes[first + 1], more.cells),
                               Input(params[first]), Input(params[first + 1]),
                               Output(params[count - 1]));
  });
}

// image, gradient of the result[, cells] -> gradient of the weights
template <typename Convolution>
int WeightGradient(int count, void **params, const int *ndims, int64_t **shapes) {
  return Guarded([&] {
    const MoreInputs more(2, count, params, ndims);
    Convolution::WeightGradient(ShapeOf(shapes[0], shapes[count - 1], more.cells), Input(params[0]),
                                Input(params[1]), Output(params[count - 1]));
  });
}

// image, weights of groups[, bias][, cells] -> result
int RunGrouped(int stride, int count, void **params, const int *ndims, int64_t **shapes) {
  return Guarded([&] {
    const MoreInputs more(2, count, params, ndims);
    GroupedForward(GroupedShapeOf(shapes[0], shapes[1], more.cells), GroupsOf(shapes[0], shapes[1]),
                   stride, Input(params[0]), Input(params[1]), Input(more.bias),
                   Output(params[count - 1]));
  });
}

// image (only its shape is of interest), gradient of the result, weights of groups[, cells] ->
// gradient of the image
int RunGroupedInputGradient(int stride, int count, void **params, const int *ndims,
                            int64_t **shapes) {
  return Guarded([&] {
    const MoreInputs more(3, count, params, ndims);
    GroupedInputGradient(GroupedShapeOf(shapes[0], shapes[2], more.cells),
                         GroupsOf(shapes[0], shapes[2]), stride, Input(params[1]), Input(params[2]),
                         Output(params[count - 1]));
  });
}

// image, gradient of the result[, cells] -> gradient of the weights of groups
int RunGroupedWeightGradient(int stride, int count, void **params, const int *ndims,
                             int64_t **shapes) {
  return Guarded([&] {
    const MoreInputs more(2, count, params, ndims);
    const int64_t *weights = shapes[count - 1];
    GroupedWeightGradient(GroupedShapeOf(shapes[0], weights, more.cells),
                          GroupsOf(shapes[0], weights), stride, Input(params[0]), Input(params[1]),
                          Output(params[count - 1]));
  });
}
}  // namespace
}  // namespace kernels

// Four functions, of floats or of pairs in bfloat16; in the results of `name_relu` negative ones
// become zeros. `first`: the gradient in the image begins with so many inputs of which only the
// shape counts.
#define CONVOLUTION(name, first, ...)                                                         \
  OPERATOR(name) {                                                                            \
    return kernels::Forward<kernels::__VA_ARGS__>(false, count, params, ndims, shapes);       \
  }                                                                                           \
  OPERATOR(name##_relu) {                                                                     \
    return kernels::Forward<kernels::__VA_ARGS__>(true, count, params, ndims, shapes);        \
  }                                                                                           \
  OPERATOR(name##_input_gradient) {                                                           \
    return kernels::InputGradient<kernels::__VA_ARGS__>(first, count, params, ndims, shapes); \
  }                                                                                           \
  OPERATOR(name##_weight_gradient) {                                                          \
    return kernels::WeightGradient<kernels::__VA_ARGS__>(count, params, ndims, shapes);       \
  }

CONVOLUTION(conv3x3, 0, Filter<float>)
CONVOLUTION(conv3x3_bf16, 0, Filter<kernels::BfloatPair>)
CONVOLUTION(strided3x3, 1, Strided<float>)
CONVOLUTION(strided3x3_bf16, 1, Strided<kernels::BfloatPair>)
CONVOLUTION(conv1x1, 0, Pointwise<float, 1>)
CONVOLUTION(conv1x1_bf16, 0, Pointwise<kernels::BfloatPair, 1>)
CONVOLUTION(strided1x1, 1, Pointwise<float, 2>)
CONVOLUTION(strided1x1_bf16, 1, Pointwise<kernels::BfloatPair, 2>)

OPERATOR(grouped3x3) { return kernels::RunGrouped(1, count, params, ndims, shapes); }
OPERATOR(strided_grouped3x3) { return kernels::RunGrouped(2, count, params, ndims, shapes); }
OPERATOR(grouped3x3_input_gradient) {
  return kernels::RunGroupedInputGradient(1, count, params, ndims, shapes);
}
OPERATOR(strided_grouped3x3_input_gradient) {
  return kernels::RunGroupedInputGradient(2, count, params, ndims, shapes);
}
OPERATOR(grouped3x3_weight_gradient) {
  return kernels::RunGroupedWeightGradient(1, count, params, ndims, shapes);
}
OPERATOR(strided_grouped3x3_weight_gradient) {
  return kernels::RunGroupedWeightGradient(2, count, params, ndims, shapes);
}
