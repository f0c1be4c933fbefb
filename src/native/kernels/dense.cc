// SPDX-License-Identifier: Apache-2.0
#include "dense.h"

#include <algorithm>

#include "matrix.h"
#include "threads.h"

namespace kernels {
namespace {

constexpr int64_t kDepth = 1024, kPairs = kDepth / 2;  // that are multiplied together
constexpr int64_t kPitch = kPairs + kLanes;            // of lines: no power of two
constexpr int64_t kRowsTogether = 1536;                // 3 MB of pairs

// element(line, d) = start[line * distance + d], or, `turned`, start[d * distance + line]; d is
// summed over.
struct Matrix {
  const float *start;
  int64_t distance;
  bool turned;

  // The pairs of `depth` numbers of a line, which lie next to each other.
  void Along(int64_t line, int64_t first, int64_t depth, BfloatPair *to) const {
    const float *from = start + line * distance + first;
    int64_t d = 0;
    for (; d + kLanes <= depth; d += kLanes) StoreAlong(to + d / 2, Load(from + d));
    for (; d < depth; d += 2) SetFactor(to + d / 2, {from[d], d + 1 < depth ? from[d + 1] : 0.0f});
  }

  // The pairs of kLanes lines as to[pair * kColumns + line].
  void Across(int64_t line, int64_t first, int64_t depth, BfloatPair *to) const {
    const float *from = start + first * distance + line;
    for (int64_t d = 0; d < depth; d += 2, from += 2 * distance, to += kColumns)
      StoreAcross(to, {Load(from), d + 1 < depth ? Load(from + distance) : Vector{}});
  }

  // The same for lines whose numbers lie next to each other; `lines` is room for kLanes of them.
  void AcrossTurned(int64_t line, int64_t first, int64_t depth, BfloatPair *lines,
                    BfloatPair *to) const {
    for (int64_t i = 0; i < kLanes; ++i) Along(line + i, first, depth, lines + i * kPitch);
    // Nothing is computed: pairs move like floats.
    Transpose(reinterpret_cast<const float *>(lines), kPitch, reinterpret_cast<float *>(to),
              kColumns, kLanes, Factors<BfloatPair>(depth));
  }
};

// result(r, c) = bias(c) + the sum over d of a(r, d) * b(c, d); `columns` is a multiple of
// kColumns, and `rows` one of kLanes where `a` is turned.
void Combine(int64_t rows, int64_t columns, int64_t depth, const Matrix &a, const Matrix &b,
             const float *bias, float *result) {
  const int64_t together = std::min(rows, kRowsTogether);
  // [row][pair], or, turned, [block of kColumns rows][pair][row]
  const Room<BfloatPair> packed((together + kColumns) * kPitch);
  for (int64_t row = 0; row < rows; row += together)
    for (int64_t first = 0; first < depth; first += kDepth) {
      const int64_t count = std::min(together, rows - row),
                    numbers = std::min(kDepth, depth - first);
      const int64_t pairs = Factors<BfloatPair>(numbers);
      const auto block = [&](int64_t r) { return packed.get() + r / kColumns * kColumns * kPitch; };
      Share((count + kLanes - 1) / kLanes, [&](int64_t group, int) {
        const int64_t r = group * kLanes;
        if (a.turned)
          a.Across(row + r, first, numbers, block(r) + r % kColumns);
        else
          for (int64_t i = r; i < std::min(r + kLanes, count); ++i)
            a.Along(row + i, first, numbers, packed.get() + i * kPitch);
      });
      Share(columns / kColumns, [&](int64_t number, int thread) {
        const int64_t column = number * kColumns;
        BfloatPair *line =
            reinterpret_cast<BfloatPair *>(Scratch(thread, kPairs * kColumns + kLanes * kPitch));
        for (int v = 0; v < kColumns; v += kLanes) {
          if (b.turned)
            b.Across(column + v, first, numbers, line + v);
          else
            b.AcrossTurned(column + v, first, numbers, line + kPairs * kColumns, line + v);
        }
        float *to = result + row * columns + column;
        for (int64_t r = 0; first == 0 && bias && r < count; ++r)
          std::copy_n(bias + column, kColumns, to + r * columns);
        const bool add = first > 0 || bias;
        if (!a.turned)
          return Multiply(
              Product<BfloatPair>{packed.get(), kPitch, 1, line, kColumns, to, columns, pairs, add},
              count);
        for (int64_t r = 0; r < count; r += kColumns)
          Multiply(Product<BfloatPair>{block(r), 1, kColumns, line, kColumns, to + r * columns,
                                       columns, pairs, add},
                   std::min<int64_t>(kColumns, count - r));
      });
    }
}

}  // namespace

void DenseForward(const Layer &layer, const float *x, const float *weights, const float *bias,
                  float *result) {
  Combine(layer.examples, layer.out, layer.in, {x, layer.in, false}, {weights, layer.out, true},
          bias, result);
}

void DenseInputGradient(const Layer &layer, const float *gradient, const float *weights,
                        float *result) {
  Combine(layer.examples, layer.in, layer.out, {gradient, layer.out, false},
          {weights, layer.out, false}, nullptr, result);
}

void DenseWeightGradient(const Layer &layer, const float *x, const float *gradient, float *result) {
  Combine(layer.in, layer.out, layer.examples, {x, layer.in, true}, {gradient, layer.out, true},
          nullptr, result);
}

}  // namespace kernels
