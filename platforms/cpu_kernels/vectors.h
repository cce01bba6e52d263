// Vectors of the width that the processor has, and sums of outer products of them.
#ifndef SPARSENET_VECTORS_H_
#define SPARSENET_VECTORS_H_

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace sparsenet {

#ifdef __AVX512F__
constexpr int kLanes = 16, kItems = 8;  // of 32 registers, 24 hold sums
#else
constexpr int kLanes = 8, kItems = 4;  // of 16 registers, 12 hold sums
#endif
constexpr int kVectors = 3;  // side by side, at most

typedef float Vector __attribute__((vector_size(4 * kLanes)));

// Load and Store: a whole vector, or its first `count` lanes; the others are 0, or stay.
// Spread:         one number, or a pair of them, again and again.
// AddPairs:       the sums of neighbouring lanes, in the lower half.
// AtLeast:        the larger one of each pair of lanes; NaN where the value is.
// WherePositive:  the lanes of a value where a condition is above 0, and 0 elsewhere.
#ifdef __AVX512F__
inline Vector Load(const float* from) { return _mm512_loadu_ps(from); }
inline void Store(float* to, Vector value) { _mm512_storeu_ps(to, value); }
inline __mmask16 First(int64_t count) {
  return static_cast<__mmask16>(count >= kLanes ? 0xffff : (1u << count) - 1);
}
inline Vector Load(const float* from, int64_t count) {
  return _mm512_maskz_loadu_ps(First(count), from);
}
inline void Store(float* to, Vector value, int64_t count) {
  _mm512_mask_storeu_ps(to, First(count), value);
}
inline Vector Spread(float number) { return _mm512_set1_ps(number); }
inline Vector SpreadPair(int64_t pair) { return _mm512_castsi512_ps(_mm512_set1_epi64(pair)); }
inline Vector AddPairs(Vector v) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 0, 2, 4, 6, 8, 10, 12, 14);
  const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 1, 3, 5, 7, 9, 11, 13, 15);
  return _mm512_permutexvar_ps(even, v) + _mm512_permutexvar_ps(odd, v);
}
inline Vector AtLeast(Vector least, Vector value) { return _mm512_max_ps(least, value); }
inline Vector WherePositive(Vector condition, Vector value) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(condition, Vector{}, _CMP_GT_OQ), value);
}
#else
inline Vector Load(const float* from) { return _mm256_loadu_ps(from); }
inline void Store(float* to, Vector value) { _mm256_storeu_ps(to, value); }
inline __m256i First(int64_t count) {
  const __m256i numbers = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(count)), numbers);
}
inline Vector Load(const float* from, int64_t count) {
  return count >= kLanes ? Load(from) : _mm256_maskload_ps(from, First(count));
}
inline void Store(float* to, Vector value, int64_t count) {
  if (count >= kLanes) return Store(to, value);
  _mm256_maskstore_ps(to, First(count), value);
}
inline Vector Spread(float number) { return _mm256_set1_ps(number); }
inline Vector SpreadPair(int64_t pair) { return _mm256_castsi256_ps(_mm256_set1_epi64x(pair)); }
inline Vector AddPairs(Vector v) {
  const __m256i even = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
  const __m256i odd = _mm256_setr_epi32(1, 3, 5, 7, 1, 3, 5, 7);
  return _mm256_permutevar8x32_ps(v, even) + _mm256_permutevar8x32_ps(v, odd);
}
inline Vector AtLeast(Vector least, Vector value) { return _mm256_max_ps(least, value); }
inline Vector WherePositive(Vector condition, Vector value) {
  return _mm256_and_ps(_mm256_cmp_ps(condition, Vector{}, _CMP_GT_OQ), value);
}
#endif

template <int kSpread>
inline Vector SpreadOf(const float* from) {
  if (kSpread == 1) return Spread(*from);
  int64_t pair;
  memcpy(&pair, from, sizeof(pair));
  return SpreadPair(pair);
}

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Return where part `index` of `parts` nearly equal ones of `size` begins.
inline int64_t Part(int64_t size, int64_t parts, int64_t index) { return size * index / parts; }

// Where factors lie: the left ones of an item are `item` apart from those of the next one; a step
// goes on by `left_step` and `right_step`; after `steps` of them another row begins.
struct Walk {
  int64_t rows, steps, item, left_step, left_row, right_step, right_row;
};

// sums[i][j] = sum over rows and steps of the left number i, spread, times the right vector j.
//
// All sums stay in registers (Goto & van de Geijn, Anatomy of High-Performance Matrix
// Multiplication, 2008).
template <int kSpread, int kCount, int kWidth>
void AddOuterProducts(const Walk& walk, const float* left, const float* right, float* sums) {
  Vector sum[kCount][kWidth] = {};
  for (int64_t row = 0; row < walk.rows; ++row) {
    const float *a = left + row * walk.left_row, *b = right + row * walk.right_row;
    for (int64_t step = 0; step < walk.steps; ++step, a += walk.left_step, b += walk.right_step) {
      Vector vectors[kWidth];
      for (int j = 0; j < kWidth; ++j) vectors[j] = Load(b + j * kLanes);
      for (int i = 0; i < kCount; ++i) {
        const Vector spread = SpreadOf<kSpread>(a + i * walk.item);
        for (int j = 0; j < kWidth; ++j) sum[i][j] += spread * vectors[j];
      }
    }
  }
  for (int i = 0; i < kCount; ++i)
    for (int j = 0; j < kWidth; ++j) Store(sums + (i * kWidth + j) * kLanes, sum[i][j]);
}

template <int kSpread, int kCount, int kWidth, class Use>
int64_t TakeItems(const Walk& walk, int64_t at, int64_t items, const float* left,
                  const float* right, Use use) {
  alignas(64) float sums[kCount * kWidth * kLanes];
  for (; at + kCount <= items; at += kCount) {
    AddOuterProducts<kSpread, kCount, kWidth>(walk, left + at * walk.item, right, sums);
    for (int i = 0; i < kCount; ++i) use(at + i, sums + i * kWidth * kLanes);
  }
  return at;
}

// Add up for all items, as many at a time as registers hold; `use` gets each item and its sums.
template <int kSpread, int kWidth, class Use>
void TakeAllItems(const Walk& walk, int64_t items, const float* left, const float* right, Use use) {
  constexpr int kMost = kWidth == 1 ? 8 : kItems;  // 8 sums hide the latency
  int64_t at = TakeItems<kSpread, kMost, kWidth>(walk, 0, items, left, right, use);
  at = TakeItems<kSpread, 4, kWidth>(walk, at, items, left, right, use);
  TakeItems<kSpread, 1, kWidth>(walk, at, items, left, right, use);
}

template <int kSpread, class Use>
void OuterProducts(int64_t vectors, const Walk& walk, int64_t items, const float* left,
                   const float* right, Use use) {
  if (vectors == 1) TakeAllItems<kSpread, 1>(walk, items, left, right, use);
  if (vectors == 2) TakeAllItems<kSpread, 2>(walk, items, left, right, use);
  if (vectors == 3) TakeAllItems<kSpread, 3>(walk, items, left, right, use);
}

}  // namespace sparsenet

#endif  // SPARSENET_VECTORS_H_
