// SPDX-License-Identifier: Apache-2.0
// Vectors of floats as wide as the processor's registers, and blocks of them.
#pragma once

#include <cstdint>
#include <cstring>

namespace kernels {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
constexpr int kRows = 12;  // of a block of accumulators: 24 of 32 registers
#elif defined(__AVX__)
constexpr int kLanes = 8;
constexpr int kRows = 6;  // 12 of 16 registers
#else
constexpr int kLanes = 4;
constexpr int kRows = 10;  // 20 of 32 registers (NEON)
#endif
constexpr int kVectors = 2;                  // that a row of a block has
constexpr int kColumns = kVectors * kLanes;  // floats of it

typedef float Vector __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t Places __attribute__((vector_size(kLanes * sizeof(int32_t))));

inline Vector Load(const float *from) {
  Vector value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

inline void Store(float *to, Vector value) { std::memcpy(to, &value, sizeof(value)); }

// Negative numbers become zeros.
inline Vector Positive(Vector value) { return value < Vector{} ? Vector{} : value; }

// Swaps the off-diagonal quarters of every 2 * half x 2 * half block of the rows.
template <int half>
inline void SwapQuarters(Vector *rows) {
  Places first, second;
  for (int lane = 0; lane < kLanes; ++lane) {
    const bool upper = (lane / half) % 2;
    first[lane] = upper ? lane - half + kLanes : lane;
    second[lane] = upper ? lane + kLanes : lane + half;
  }
#pragma GCC unroll 16
  for (int row = 0; row < kLanes; ++row) {
    if ((row / half) % 2 == 0) {
      const Vector top = rows[row], bottom = rows[row + half];
      rows[row] = __builtin_shuffle(top, bottom, first);
      rows[row + half] = __builtin_shuffle(top, bottom, second);
    }
  }
}

// Transposes a square block of kLanes rows.
inline void Transpose(Vector *rows) {
  SwapQuarters<1>(rows);
  SwapQuarters<2>(rows);
  if constexpr (kLanes > 4) SwapQuarters<4>(rows);
  if constexpr (kLanes > 8) SwapQuarters<8>(rows);
}

// What the lanes of 2 * half rows add up to, row r's in lane r: with as many rows as lanes. With
// half as many, row r's is that of lanes r and r + 2 * half together. The rows are overwritten.
template <int half>
inline Vector LaneSums(Vector *rows) {
  Places first, second;
  for (int lane = 0; lane < kLanes; ++lane) {
    const bool upper = (lane / half) % 2;
    first[lane] = upper ? lane - half + kLanes : lane;
    second[lane] = upper ? lane + kLanes : lane + half;
  }
#pragma GCC unroll 8
  for (int row = 0; row < half; ++row) {
    const Vector top = rows[row], bottom = rows[row + half];
    rows[row] = __builtin_shuffle(top, bottom, first) + __builtin_shuffle(top, bottom, second);
  }
  if constexpr (half > 1)
    return LaneSums<half / 2>(rows);
  else
    return rows[0];
}

// Copies every second of numbers, kLanes of them; reads one more number than that takes.
inline void StoreEverySecond(const float *from, float *to) {
  Places even;
  for (int lane = 0; lane < kLanes; ++lane) even[lane] = 2 * lane;
  Store(to, __builtin_shuffle(Load(from), Load(from + kLanes), even));
}

// to[c][r] = from[r][c] for `rows` x `columns` floats with the given distances between rows.
inline void Transpose(const float *from, int64_t from_row, float *to, int64_t to_row, int64_t rows,
                      int64_t columns) {
  int64_t r = 0;
  for (; r + kLanes <= rows; r += kLanes) {
    int64_t c = 0;
    for (; c + kLanes <= columns; c += kLanes) {
      Vector block[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) block[i] = Load(from + (r + i) * from_row + c);
      Transpose(block);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) Store(to + (c + i) * to_row + r, block[i]);
    }
    for (; c < columns; ++c)
      for (int i = 0; i < kLanes; ++i) to[c * to_row + r + i] = from[(r + i) * from_row + c];
  }
  for (; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) to[c * to_row + r] = from[r * from_row + c];
}

}  // namespace kernels
