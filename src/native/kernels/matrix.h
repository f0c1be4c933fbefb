// SPDX-License-Identifier: Apache-2.0
// The inner loop of all matrix products: a block of kRows x kColumns stays in registers.
#pragma once

#include "vector.h"

namespace kernels {

// Where the factors of a product lie: a(r, d) = a[r * a_row + d * a_depth], d being summed over;
// b(d, 0..kColumns) = b[d * b_depth ...]; result(r, 0..kColumns) = c[r * c_row ...].
struct Product {
  const float *a;
  int64_t a_row, a_depth;
  const float *b;
  int64_t b_depth;
  float *c;
  int64_t c_row;
  int64_t depth;
  bool add;                      // to what c holds
  const float *first = nullptr;  // what else row r begins with is first[r]; null: zero
};

// A function of its own: a compiler that inlines it into long loops runs out of registers for the
// sums (GCC 12: half the speed).
template <int rows>
[[gnu::noinline]] void MultiplyRows(const Product &p) {
  Vector sums[rows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v)
      sums[r][v] = p.add     ? Load(p.c + r * p.c_row + v * kLanes)
                   : p.first ? Vector{} + p.first[r]
                             : Vector{};
  const float *a = p.a, *b = p.b;
  for (int64_t d = 0; d < p.depth; ++d, a += p.a_depth, b += p.b_depth) {
    Vector line[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) line[v] = Load(b + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sums[r][v] += a[r * p.a_row] * line[v];
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) Store(p.c + r * p.c_row + v * kLanes, sums[r][v]);
}

template <int rows = kRows - 1>
inline void MultiplyRest(const Product &p, int64_t count) {
  if constexpr (rows > 0) {
    if (count == rows) return MultiplyRows<rows>(p);
    MultiplyRest<rows - 1>(p, count);
  }
}

// `count` rows of the result, kColumns wide.
inline void Multiply(Product p, int64_t count) {
  for (; count >= kRows; count -= kRows) {
    MultiplyRows<kRows>(p);
    p.a += kRows * p.a_row;
    p.c += kRows * p.c_row;
    if (p.first) p.first += kRows;
  }
  MultiplyRest(p, count);
}

}  // namespace kernels
