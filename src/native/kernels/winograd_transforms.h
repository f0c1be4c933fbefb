// SPDX-License-Identifier: Apache-2.0
// The transforms of Winograd's minimal filtering and their transposes, of a line of a tile.
#pragma once

#include "vector.h"

namespace kernels {

// F(2x2, 3x3) of Lavin & Gray (2015, section 4.1): a tile of 2 x 2 outputs costs 16 multiplications
// a channel instead of 36. Points 0, 1, -1 and infinity.
struct TwoByTwo {
  static constexpr int kOut = 2, kIn = kOut + 2, kPoints = kIn * kIn;  // of a tile

  static void Input(const Vector (&x)[kIn], Vector (&y)[kIn]) {
    y[0] = x[0] - x[2];
    y[1] = x[1] + x[2];
    y[2] = x[2] - x[1];
    y[3] = x[1] - x[3];
  }
  static void Filter(const Vector (&x)[3], Vector (&y)[kIn]) {
    y[0] = x[0];
    y[1] = (x[0] + x[1] + x[2]) * 0.5f;
    y[2] = (x[0] - x[1] + x[2]) * 0.5f;
    y[3] = x[2];
  }
  static void Output(const Vector (&x)[kIn], Vector (&y)[kOut]) {
    y[0] = x[0] + x[1] + x[2];
    y[1] = x[1] - x[2] - x[3];
  }
  static void OutputGradient(const Vector (&x)[kOut], Vector (&y)[kIn]) {
    y[0] = x[0];
    y[1] = x[0] + x[1];
    y[2] = x[0] - x[1];
    y[3] = -x[1];
  }
  static void FilterGradient(const Vector (&x)[kIn], Vector (&y)[3]) {
    y[0] = x[0] + (x[1] + x[2]) * 0.5f;
    y[1] = (x[1] - x[2]) * 0.5f;
    y[2] = (x[1] + x[2]) * 0.5f + x[3];
  }
};

// F(4x4, 3x3): 36 multiplications a channel instead of 144. Points 0, +-a, +-b and infinity; with
// 5/8 and 3/2, whose powers here are exact, sums are rounded less than half as much as with the
// usual 1 and 2.
struct FourByFour {
  static constexpr int kOut = 4, kIn = kOut + 2, kPoints = kIn * kIn;
  static constexpr float a = 0.625f, b = 1.5f, aa = a * a, bb = b * b;
  static constexpr float kAtZero = 1 / (aa * bb), kAtA = 1 / (2 * aa * (aa - bb)),
                         kAtB = 1 / (2 * bb * (bb - aa));  // scales of the filters' transforms

  static void Input(const Vector (&x)[kIn], Vector (&y)[kIn]) {
    const Vector even_a = x[4] - bb * x[2], odd_a = x[3] - bb * x[1];
    const Vector even_b = x[4] - aa * x[2], odd_b = x[3] - aa * x[1];
    y[0] = aa * bb * x[0] + (x[4] - (aa + bb) * x[2]);
    y[1] = even_a + a * odd_a;
    y[2] = even_a - a * odd_a;
    y[3] = even_b + b * odd_b;
    y[4] = even_b - b * odd_b;
    y[5] = aa * bb * x[1] + (x[5] - (aa + bb) * x[3]);
  }
  static void Filter(const Vector (&x)[3], Vector (&y)[kIn]) {
    const Vector even_a = x[0] + aa * x[2], even_b = x[0] + bb * x[2];
    y[0] = x[0] * kAtZero;
    y[1] = (even_a + a * x[1]) * kAtA;
    y[2] = (even_a - a * x[1]) * kAtA;
    y[3] = (even_b + b * x[1]) * kAtB;
    y[4] = (even_b - b * x[1]) * kAtB;
    y[5] = x[2];
  }
  static void Output(const Vector (&x)[kIn], Vector (&y)[kOut]) {
    const Vector even_a = x[1] + x[2], odd_a = x[1] - x[2];
    const Vector even_b = x[3] + x[4], odd_b = x[3] - x[4];
    y[0] = x[0] + even_a + even_b;
    y[1] = a * odd_a + b * odd_b;
    y[2] = aa * even_a + bb * even_b;
    y[3] = aa * a * odd_a + (bb * b * odd_b + x[5]);
  }
  static void OutputGradient(const Vector (&x)[kOut], Vector (&y)[kIn]) {
    const Vector even_a = x[0] + aa * x[2], odd_a = x[1] + aa * x[3];
    const Vector even_b = x[0] + bb * x[2], odd_b = x[1] + bb * x[3];
    y[0] = x[0];
    y[1] = even_a + a * odd_a;
    y[2] = even_a - a * odd_a;
    y[3] = even_b + b * odd_b;
    y[4] = even_b - b * odd_b;
    y[5] = x[3];
  }
  static void FilterGradient(const Vector (&x)[kIn], Vector (&y)[3]) {
    const Vector even_a = (x[1] + x[2]) * kAtA, odd_a = (x[1] - x[2]) * kAtA;
    const Vector even_b = (x[3] + x[4]) * kAtB, odd_b = (x[3] - x[4]) * kAtB;
    y[0] = x[0] * kAtZero + even_a + even_b;
    y[1] = a * odd_a + b * odd_b;
    y[2] = aa * even_a + (bb * even_b + x[5]);
  }
};

// Transforms a tile of in x in vectors along both axes, to out x out: at(row, column) -> vector,
// put(number, vector).
template <int in, int out, typename At, typename Put>
inline void BothWays(void transform(const Vector (&)[in], Vector (&)[out]), At at, Put put) {
  Vector half[in][out];
#pragma GCC unroll 6
  for (int row = 0; row < in; ++row) {
    Vector line[in];
#pragma GCC unroll 6
    for (int column = 0; column < in; ++column) line[column] = at(row, column);
    transform(line, half[row]);
  }
#pragma GCC unroll 6
  for (int column = 0; column < out; ++column) {
    Vector line[in], result[out];
#pragma GCC unroll 6
    for (int row = 0; row < in; ++row) line[row] = half[row][column];
    transform(line, result);
#pragma GCC unroll 6
    for (int row = 0; row < out; ++row) put(row * out + column, result[row]);
  }
}

}  // namespace kernels
