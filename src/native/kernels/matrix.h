// SPDX-License-Identifier: Apache-2.0
// The matrix product that all others are made of.
#pragma once

#include "bfloat16.h"
#include "vector.h"

namespace kernels {

// Where the factors of a product lie: a(r, d) = a[r * a_row + d * a_depth], d being summed over;
// b(d, 0..kColumns) = b[d * b_depth ...]; result(r, 0..kColumns) = c[r * c_row ...]. Distances and
// depth are counted in factors, see bfloat16.h.
template <typename Factor>
struct Product {
  const Factor *a;
  int64_t a_row, a_depth;
  const Factor *b;
  int64_t b_depth;
  float *c;
  int64_t c_row;
  int64_t depth;
  bool add;                      // to what c holds
  const float *first = nullptr;  // what else row r begins with is first[r]; null: zero
  const float *last = nullptr;   // what is added at the end, laid out as c is, unless null
  bool positive = false;         // whether negative results become zeros
};

// `count` rows of the result, kColumns wide. Factors are floats or pairs in bfloat16.
template <typename Factor>
void Multiply(Product<Factor> p, int64_t count);

}  // namespace kernels
