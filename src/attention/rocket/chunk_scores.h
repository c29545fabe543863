#pragma once

#include "kernels/cpu/attention_formats.h"

// Scores of query rows against chunks of 16 keys that lie anywhere: what both stages share. A
// score's arithmetic is its own lane's, whatever chunks and rows are beside it.

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

inline constexpr int kChunk = 16;  ///< keys that surely share a cache page
inline constexpr int kChunkVecs = kChunk / kLanes;
/// Register block: rows that share a loaded vector, and chunks side by side.
inline constexpr int kRows = kLanes >= 8 ? 4 : 2;
inline constexpr int kSideChunks = kLanes == 16 ? 4 : 1;
inline constexpr float kInf = __builtin_inff();

template <class F>
FOVEAL_SIMD const std::byte* k_chunk(const KvHead& kv, int key) {
  return kv.k + kv.pages[key / kv.page_size] * kv.page_bytes +
         static_cast<int64_t>(key % kv.page_size) * F::kCellBytes;
}

/// One row's coefficients, head_dim / kPair * kCoefs floats.
template <class F>
FOVEAL_SIMD void open_row(const float* q, int head_dim, float scale, float* out) {
  for (int ch = 0; ch < head_dim; ch += F::kPair) {
    const float even = q[ch] * scale;
    if constexpr (F::kPair == 2) {
      F::store_coef(out + ch / 2 * F::kCoefs, even, q[ch + 1] * scale);
    } else {
      out[ch] = even;
    }
  }
}

/// Chunks whose lines are asked for while others are used, or null.
struct ChunksAhead {
  const std::byte* const* near = nullptr;  ///< [kSideChunks]
  const std::byte* const* far = nullptr;   ///< [kSideChunks]; into the second level only
};

/// s[row][16 * chunk + i] = sum over d of k[chunk][d][i] q[row][d] for kSideChunks chunks.
template <class F, int kNumRows>
FOVEAL_SIMD void score_block(const float* q, int64_t q_stride, const std::byte* const* k,
                             const ChunksAhead& ahead, int64_t k_stride, int steps, float* s,
                             int64_t s_stride) {
  constexpr int kVecs = kSideChunks * kChunkVecs;
  F32 acc[kNumRows][kVecs];
#pragma GCC unroll 4
  for (int row = 0; row < kNumRows; ++row) {
#pragma GCC unroll 4
    for (int vec = 0; vec < kVecs; ++vec) acc[row][vec] = zero();
  }
  for (int step = 0; step < steps; ++step, q += F::kCoefs) {
    const int64_t at = step * k_stride;
    if (ahead.near != nullptr) {
#pragma GCC unroll 4
      for (int chunk = 0; chunk < kSideChunks; ++chunk) prefetch(ahead.near[chunk] + at);
    }
    if (ahead.far != nullptr) {
#pragma GCC unroll 4
      for (int chunk = 0; chunk < kSideChunks; ++chunk) prefetch_far(ahead.far[chunk] + at);
    }
    typename F::Raw raw[kVecs];
#pragma GCC unroll 4
    for (int vec = 0; vec < kVecs; ++vec) {
      raw[vec] = F::load(k[vec / kChunkVecs] + at + (vec % kChunkVecs) * kLanes * F::kCellBytes);
    }
#pragma GCC unroll 4
    for (int row = 0; row < kNumRows; ++row) {
      const typename F::Coef coef = F::coef(q + row * q_stride);
#pragma GCC unroll 4
      for (int vec = 0; vec < kVecs; ++vec) acc[row][vec] = F::mac(acc[row][vec], raw[vec], coef);
    }
  }
#pragma GCC unroll 4
  for (int row = 0; row < kNumRows; ++row) {
#pragma GCC unroll 4
    for (int vec = 0; vec < kVecs; ++vec) store(s + row * s_stride + vec * kLanes, acc[row][vec]);
  }
}

/// The same for up to kRows rows.
template <class F>
static void score_rows(const float* q, int64_t q_stride, const std::byte* const* k,
                       const ChunksAhead& ahead, int64_t k_stride, int steps, float* s,
                       int64_t s_stride, int num_rows) {
  switch (num_rows) {
    case 1:
      score_block<F, 1>(q, q_stride, k, ahead, k_stride, steps, s, s_stride);
      return;
    case 2:
      score_block<F, 2>(q, q_stride, k, ahead, k_stride, steps, s, s_stride);
      return;
    case 3:
      score_block<F, (kRows < 3 ? kRows : 3)>(q, q_stride, k, ahead, k_stride, steps, s, s_stride);
      return;
    default:
      score_block<F, kRows>(q, q_stride, k, ahead, k_stride, steps, s, s_stride);
  }
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
