// Computes: keys in int8 for the kernel that votes on tiles: k - c, rounded by a scale a tile, c
//           the mean of the sequence's first tile (none under a window, which may have given it
//           away). What is subtracted from all keys moves all scores of a query alike, so no vote.
// In/out:   k: pages or contiguous rows, strides given; k_out: per KV head groups of 8 keys; in
//           one, blocks of 32 channels, [8 keys][32 channels], whose 16-byte halves are swapped in
//           rows 4 to 7 (32-byte swizzle); scales [num_kv_heads, rows / keys of a tile].
// Units:    bytes; a scale is what 1 stands for.
// Launch:   16 lanes of keys by head_dim / 8 chunks of channels; grid (tiles, num_kv_heads); blocks
//           that no query sees end at once.
// Needs:    bf16 or f16; head_dim 64, 96, 128, 192 or 256; rows of k at multiples of 16 bytes.
// Numerics: float32, in a fixed order; zeros past a sequence's end. A tile's integers depend on its
//           own keys and the first tile's, so not on how a prompt was cut where the cuts are
//           multiples of a tile. A sequence that does not fill its first tile has no other.
// Source:   subtracting what keys share: SageAttention (arXiv 2410.02367), there of all keys.
// Measured: docs/kernels/cuda_prefill_skip.md

#include "kernels/cuda/device/int8.cuh"
#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/device/vec.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/prefill_scratch.cuh"
#include "kernels/cuda/prefill_vote_keys.h"
#include "kernels/cuda/sm90/prefill_args.h"

namespace foveal::kernels::cuda {
namespace {

using foveal::cuda::Int8Scale;

constexpr int kKeyLanes = 16;

constexpr int threads_of(int head_dim) { return kKeyLanes * head_dim / 8; }

/// One thread's part of a tile: eight channels of every sixteenth key.
template <class T, int kHeadDim>
struct TilePart {
  static constexpr int kChunks = kHeadDim / 8;
  static constexpr int kTileKeys = foveal::cuda::prefill_keys(kHeadDim);
  static constexpr int kTurns = kTileKeys / kKeyLanes;

  int chunk = static_cast<int>(threadIdx.x) % kChunks;
  int key_lane = static_cast<int>(threadIdx.x) / kChunks;
  uint4 raw[kTurns];

  __device__ int key(int turn) const { return turn * kKeyLanes + key_lane; }

  /// Of `keys` from `first` on; others are zeros.
  __device__ void load(const ExpandCacheParams& p, int32_t seq, int32_t first, int32_t keys,
                       int64_t head) {
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      raw[turn] = uint4{};
      if (key(turn) >= keys) continue;
      const uint8_t* row = k_row(p, cache_row(p, seq, first + key(turn)), head);
      raw[turn] = *reinterpret_cast<const uint4*>(row + chunk * 16);
    }
  }

  __device__ Vec8 values(int turn) const { return unpack8<T>(raw[turn]); }
};

/// The mean of the tile's `keys` keys, this thread's channels. `sums` [16][head_dim].
template <class T, int kHeadDim>
__device__ Vec8 tile_mean(const TilePart<T, kHeadDim>& part, int32_t keys, float* sums) {
  Vec8 sum{};
#pragma unroll
  for (int turn = 0; turn < part.kTurns; ++turn) {
    const Vec8 x = part.values(turn);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum.v[i] += x.v[i];
  }
  store8(sums, part.key_lane * kHeadDim + part.chunk * 8, sum);
  __syncthreads();
  sum = Vec8{};
  for (int lane = 0; lane < kKeyLanes; ++lane) {
    const Vec8 other = load8(sums, lane * kHeadDim + part.chunk * 8);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum.v[i] += other.v[i];
  }
#pragma unroll
  for (float& x : sum.v) x /= static_cast<float>(keys);
  return sum;
}

/// The largest over the block; `tops` has a place a warp.
__device__ float block_max(float top, float* tops) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) top = fmaxf(top, __shfl_xor_sync(~0U, top, step));
  if (threadIdx.x % 32 == 0) tops[threadIdx.x / 32] = top;
  __syncthreads();
  for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) top = fmaxf(top, tops[warp]);
  return top;
}

template <class T, int kHeadDim>
__global__ void __launch_bounds__(threads_of(kHeadDim)) vote_keys_kernel(VoteKeysParams p) {
  using Part = TilePart<T, kHeadDim>;
  __shared__ __align__(16) float sums[kKeyLanes * kHeadDim];
  __shared__ float tops[threads_of(kHeadDim) / 32];
  wait_for_previous();
  const ExpandCacheParams& cache = p.cache;
  const int64_t row = int64_t{blockIdx.x} * Part::kTileKeys;
  const int64_t head = blockIdx.y;
  const int32_t seq = sequence_of(cache, row);
  if (seq >= cache.num_seqs) return;
  const auto first = static_cast<int32_t>(row - cache.starts[seq]);
  const int32_t keys = min(cache.kv_len[seq] - first, Part::kTileKeys);
  if (keys <= 0 || first < first_key(cache, seq)) return;

  // Both tiles are on their way before either is looked at.
  Part part;
  Part begin;
  part.load(cache, seq, first, keys, head);
  const int32_t mean_keys = min(cache.kv_len[seq], Part::kTileKeys);
  if (cache.window == 0) begin.load(cache, seq, 0, mean_keys, head);
  Vec8 mean{};
  if (cache.window == 0) mean = tile_mean(begin, mean_keys, sums);
  float top = 0;
#pragma unroll
  for (int turn = 0; turn < Part::kTurns; ++turn) {
    if (part.key(turn) >= keys) continue;
    const Vec8 x = part.values(turn);
#pragma unroll
    for (int i = 0; i < 8; ++i) top = fmaxf(top, fabsf(x.v[i] - mean.v[i]));
  }
  const Int8Scale scale(block_max(top, tops));
  if (threadIdx.x == 0) p.scales[head * (cache.rows / Part::kTileKeys) + blockIdx.x] = scale.unit;
  uint8_t* out = static_cast<uint8_t*>(cache.k_out) + (head * cache.rows + row) * kHeadDim;
#pragma unroll
  for (int turn = 0; turn < Part::kTurns; ++turn) {
    const int key = part.key(turn);
    Vec8 x = part.values(turn);
#pragma unroll
    for (int i = 0; i < 8; ++i) x.v[i] = key < keys ? x.v[i] - mean.v[i] : 0.0F;
    const int half = part.chunk % 4 / 2 ^ key % 8 / 4;
    uint8_t* to = out + key / 8 * 8 * kHeadDim + part.chunk / 4 * 256 + key % 8 * 32 + half * 16 +
                  part.chunk % 2 * 8;
    *reinterpret_cast<uint2*>(to) = {scale.round(x.v[0], x.v[1], x.v[2], x.v[3]),
                                     scale.round(x.v[4], x.v[5], x.v[6], x.v[7])};
  }
}

template <class T>
auto find_kernel(int32_t head_dim) {
  switch (head_dim) {
    case 64:
      return vote_keys_kernel<T, 64>;
    case 96:
      return vote_keys_kernel<T, 96>;
    case 128:
      return vote_keys_kernel<T, 128>;
    case 192:
      return vote_keys_kernel<T, 192>;
    default:
      return vote_keys_kernel<T, 256>;
  }
}

}  // namespace

void vote_keys_launch(const VoteKeysParams& params, bool f16, void* stream) {
  const ExpandCacheParams& cache = params.cache;
  scratch_starts_launch(cache, stream);
  const Grid grid{
      .blocks = {static_cast<unsigned>(cache.rows / foveal::cuda::prefill_keys(cache.head_dim)),
                 static_cast<unsigned>(cache.num_kv_heads)},
      .threads = {static_cast<unsigned>(threads_of(cache.head_dim))}};
  launch("vote_keys",
         f16 ? find_kernel<__half>(cache.head_dim) : find_kernel<__nv_bfloat16>(cache.head_dim),
         grid, stream, params);
}

}  // namespace foveal::kernels::cuda
