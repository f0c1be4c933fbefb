// SPDX-License-Identifier: Apache-2.0
// The factors of matrix products: floats, or pairs of numbers in bfloat16, the upper half of a
// float. What a product sums up is a float in both cases. The two numbers of a pair follow each
// other along the axis that is summed over: processors with AVX512-BF16 multiply pairs and add both
// products in one instruction. The others do it in several, which is of use for tests only.
#pragma once

#include <cstdint>
#include <cstring>

#include "vector.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace kernels {

struct BfloatPair {
  uint32_t bits;  // the first number in the lower half
};

// How many numbers along the summed axis a factor has.
template <typename Factor>
constexpr int kDeep = 1;
template <>
constexpr int kDeep<BfloatPair> = 2;

// How many factors `count` numbers take.
template <typename Factor>
constexpr int64_t Factors(int64_t count) {
  return (count + kDeep<Factor> - 1) / kDeep<Factor>;
}

typedef uint32_t Words __attribute__((vector_size(kLanes * sizeof(uint32_t))));

// The nearest number in bfloat16, the even one of two, in the upper half; NaN stays NaN.
inline Words Rounded(Vector value) {
  Words bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const Words magnitude = bits & 0x7fffffffu;
  const Words nearest = bits + 0x7fffu + ((bits >> 16) & 1u);
  const Words nan = reinterpret_cast<Words>(magnitude > 0x7f800000u);
  return ((nearest & ~nan) | ((bits | 0x400000u) & nan)) & 0xffff0000u;
}

inline uint32_t Rounded(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (bits | 0x400000u) & 0xffff0000u;
  return (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
}

// BfloatPair i has the numbers i of both vectors.
inline Words Pairs(Vector first, Vector second) {
#if defined(__AVX512BF16__)
  uint16_t places[2 * kLanes];
  for (int lane = 0; lane < kLanes; ++lane)
    places[2 * lane] = lane, places[2 * lane + 1] = kLanes + lane;
  __m512i order;
  std::memcpy(&order, places, sizeof(order));
  const __m512bh halves = _mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
  return (Words)_mm512_permutexvar_epi16(order, (__m512i)halves);
#else
  return Rounded(first) >> 16 | Rounded(second);
#endif
}

inline Vector LoadFactors(const float *from) { return Load(from); }
inline Words LoadFactors(const BfloatPair *from) {
  Words value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

// sum + a * b in every lane.
inline Vector MultiplyAdd(Vector sum, float a, Vector b) { return sum + a * b; }
inline Vector MultiplyAdd(Vector sum, BfloatPair a, Words b) {
#if defined(__AVX512BF16__)
  return (Vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(a.bits), (__m512bh)b);
#else
  float first, second;
  const uint32_t lower = a.bits << 16, upper = a.bits & 0xffff0000u;
  std::memcpy(&first, &lower, sizeof(first));
  std::memcpy(&second, &upper, sizeof(second));
  const Words low = b << 16, high = b & 0xffff0000u;
  return sum + first * (Vector)low + second * (Vector)high;
#endif
}

// One factor of numbers that are summed over one after the other.
inline void SetFactor(float *to, const float (&numbers)[1]) { *to = numbers[0]; }
inline void SetFactor(BfloatPair *to, const float (&numbers)[2]) {
  to->bits = Rounded(numbers[0]) >> 16 | Rounded(numbers[1]);
}

// kLanes numbers of the summed axis, which lie next to each other. Those in bfloat16 may begin
// within a pair, at any even address.
inline void StoreAlong(float *to, Vector numbers) { Store(to, numbers); }
inline void StoreAlong(char *to, Vector numbers) {
#if defined(__AVX512BF16__)
  const __m256bh halves = _mm512_cvtneps_pbh((__m512)numbers);
  std::memcpy(to, &halves, sizeof(halves));
#else
  const Words bits = Rounded(numbers);
  uint16_t halves[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) halves[lane] = bits[lane] >> 16;
  std::memcpy(to, halves, sizeof(halves));
#endif
}
inline void StoreAlong(BfloatPair *to, Vector numbers) {
  StoreAlong(reinterpret_cast<char *>(to), numbers);
}

// kLanes factors next to each other, of kDeep vectors that are summed over one after the other.
inline void StoreAcross(float *to, const Vector (&numbers)[1]) { Store(to, numbers[0]); }
inline void StoreAcross(BfloatPair *to, const Vector (&numbers)[2]) {
  const Words pairs = Pairs(numbers[0], numbers[1]);
  std::memcpy(to, &pairs, sizeof(pairs));
}

// The same, one vector after the other: `turn` counts them.
inline void PutAcross(float *to, Vector numbers, int) { Store(to, numbers); }
inline void PutAcross(BfloatPair *to, Vector numbers, int turn) {
  const Words pairs =
      turn == 0 ? Pairs(numbers, Vector{}) : Pairs(Vector{}, numbers) | LoadFactors(to);
  std::memcpy(to, &pairs, sizeof(pairs));
}

}  // namespace kernels
