#pragma once

#include <cstdint>

#include "kernels/cuda/device/wgmma.cuh"

// From products to scores. Products of 64 keys (rows) with kTokens * kHeads index queries (columns)
// lie as wgmma leaves them: a thread has, of keys t / 4 and t / 4 + 8 of its warp's 16, columns
// 8 * block + 2 * (t % 4) + {0, 1}.

namespace foveal::cuda {

/// Products are at most 448 * 448 * 128 < 2^25. Scaled into [0, 1] the ReLU is a saturating
/// product, which the multipliers of floats do; a maximum would go to the slower integer units.
/// The weights take the factor back; powers of two change no bits.
inline constexpr float kProductScale = 0x1p-25F;
inline constexpr float kProductUnscale = 0x1p25F;

/// The first product starts from zero. 128 channels, 32 a step.
template <int N>
__device__ inline void index_products(float (&d)[N / 2], uint64_t keys, uint64_t queries) {
  wgmma_fence();
#pragma unroll
  for (int step = 0; step < 4; ++step) {
    Wgmma<E4m3, N>::ss(d, advance(keys, 32 * step), advance(queries, 32 * step), step > 0);
  }
  wgmma_commit();
}

/// How many of a column set's tokens end in one lane.
template <int kTokens>
inline constexpr int kLaneTokens = kTokens > 1 ? kTokens / 2 : 1;

/// Weighted sums over heads. After it a lane has, in sums[i], that of key t / 4 + 8 * (t % 2) and
/// token index_token(i). The order of additions is the same for any kTokens.
template <int kTokens, int kHeads>
__device__ inline void index_sums(const float (&d)[kTokens * kHeads / 2],
                                  const float (&w)[kTokens * kHeads / 4],
                                  float (&sums)[kLaneTokens<kTokens>]) {
  constexpr int kBlocks = kHeads / 8;
  float mine[2 * kTokens] = {};
#pragma unroll
  for (int i = 0; i < kBlocks * 2; ++i) {
#pragma unroll
    for (int token = 0; token < kTokens; ++token) {
      const int block = token * kBlocks + i / 2;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float relu = __saturatef(d[4 * block + 2 * half + i % 2] * kProductScale);
        mine[2 * token + half] = fmaf(relu, w[2 * block + i % 2], mine[2 * token + half]);
      }
    }
  }
  // Over the four lanes of a quad: first with the lane two further, each keeping half the tokens,
  // then with its neighbour, each keeping one key of two.
  const bool upper = (threadIdx.x & 2) != 0;
  const bool odd = (threadIdx.x & 1) != 0;
  float kept[2 * kLaneTokens<kTokens>];
#pragma unroll
  for (int i = 0; i < 2 * kLaneTokens<kTokens>; ++i) {
    const float low = mine[i];
    const float high = mine[kTokens > 1 ? i + kTokens : i];
    kept[i] = (upper ? high : low) + __shfl_xor_sync(~0U, upper ? low : high, 2);
  }
#pragma unroll
  for (int i = 0; i < kLaneTokens<kTokens>; ++i) {
    const float low = kept[2 * i];
    const float high = kept[2 * i + 1];
    sums[i] = (odd ? high : low) + __shfl_xor_sync(~0U, odd ? low : high, 1);
  }
}

template <int kTokens>
__device__ inline int index_token(int i) {
  return kTokens > 1 && (threadIdx.x & 2) != 0 ? i + kTokens / 2 : i;
}

/// Of the 64 keys of a warpgroup's tile, the one whose sums this lane has.
__device__ inline int index_key() {
  return static_cast<int>(threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4 + threadIdx.x % 2 * 8);
}

/// The weights of a thread's columns, from shared memory.
template <int kColumns>
__device__ inline void index_weights(float (&w)[kColumns / 4], const float* weights) {
#pragma unroll
  for (int block = 0; block < kColumns / 8; ++block) {
    const auto pair = *reinterpret_cast<const float2*>(weights + 8 * block + threadIdx.x % 4 * 2);
    w[2 * block] = pair.x * kProductUnscale;
    w[2 * block + 1] = pair.y * kProductUnscale;
  }
}

}  // namespace foveal::cuda
