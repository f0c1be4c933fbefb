// SPDX-License-Identifier: Apache-2.0
// The inner loop of all matrix products: a block of kRows x kColumns stays in registers.
#include "matrix.h"

namespace kernels {
namespace {

// A function of its own: a compiler that inlines it into long loops runs out of registers for the
// sums (GCC 12: half the speed).
template <int rows, typename Factor>
[[gnu::noinline]] void MultiplyRows(const Product<Factor> &p) {
  Vector sums[rows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v)
      sums[r][v] = p.add     ? Load(p.c + r * p.c_row + v * kLanes)
                   : p.first ? Vector{} + p.first[r]
                             : Vector{};
  const Factor *a = p.a, *b = p.b;
  for (int64_t d = 0; d < p.depth; ++d, a += p.a_depth, b += p.b_depth) {
    decltype(LoadFactors(b)) line[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) line[v] = LoadFactors(b + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v)
        sums[r][v] = MultiplyAdd(sums[r][v], a[r * p.a_row], line[v]);
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const int64_t place = r * p.c_row + v * kLanes;
      if (p.last) sums[r][v] += Load(p.last + place);
      Store(p.c + place, p.positive ? Positive(sums[r][v]) : sums[r][v]);
    }
}

template <int rows = kRows - 1, typename Factor>
inline void MultiplyRest(const Product<Factor> &p, int64_t count) {
  if constexpr (rows > 0) {
    if (count == rows) return MultiplyRows<rows>(p);
    MultiplyRest<rows - 1>(p, count);
  }
}

}  // namespace

template <typename Factor>
void Multiply(Product<Factor> p, int64_t count) {
  for (; count >= kRows; count -= kRows) {
    MultiplyRows<kRows>(p);
    p.a += kRows * p.a_row;
    p.c += kRows * p.c_row;
    if (p.first) p.first += kRows;
    if (p.last) p.last += kRows * p.c_row;
  }
  MultiplyRest(p, count);
}

template void Multiply(Product<float>, int64_t);
template void Multiply(Product<BfloatPair>, int64_t);

}  // namespace kernels
