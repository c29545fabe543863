#include <cmath>

#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vec.cuh"
#include "kernels/cuda/latent_launch.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/sm90/latent_keys.cuh"

namespace foveal::kernels::cuda {
namespace {

using foveal::cuda::LatentArgs;
using foveal::cuda::LatentItem;
using foveal::cuda::LatentKeys;

constexpr int kHeads = 8;  // a CTA's, one a warp
constexpr int kKeys = 32;  // a tile's, one a lane
constexpr int kThreads = kHeads * 32;
constexpr int kPad = 8;  // channels after a key: lanes that read a chunk each meet in no bank

__device__ float warp_max(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(~0U, x, step));
  return x;
}

struct Tile {
  const float* q;             ///< of the warp's head
  const __nv_bfloat16* keys;  ///< [kKeys], stride `stride`
  const bool* present;        ///< [kKeys]
  int stride;
};

/// What a warp has of its head: the running softmax over the keys so far, base 2. A lane adds up
/// kPairs pairs of channels, which cover ranks up to 64 kPairs.
template <int kPairs>
struct Running {
  float top = -INFINITY;
  float sum = 0;
  float2 out[kPairs] = {};

  /// A lane scores its key, in four sums, so that they need not wait for each other.
  __device__ static float score(const Tile& tile, int lane, int width) {
    if (!tile.present[lane]) return -INFINITY;
    const __nv_bfloat16* key = tile.keys + lane * tile.stride;
    float sums[4] = {};
#pragma unroll 4
    for (int at = 0; at < width; at += 8) {
      const Vec8 k = load8(key, at);
      const Vec8 q = load8(tile.q, at);
#pragma unroll
      for (int i = 0; i < 8; ++i) sums[i % 4] = fmaf(q.v[i], k.v[i], sums[i % 4]);
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }

  __device__ void take(const Tile& tile, int lane, const LatentDims& dims) {
    const float own = score(tile, lane, dims.rank + dims.rope);
    const float next = fmaxf(top, warp_max(own));
    if (next == -INFINITY) return;  // the same in the whole warp
    const float keep = exp2f(top - next);
    const float p = exp2f(own - next);
    top = next;
    sum = sum * keep + group_sum(p);
#pragma unroll
    for (float2& pair : out) pair = {pair.x * keep, pair.y * keep};
#pragma unroll 4
    for (int key = 0; key < kKeys; ++key) {
      const float weight = __shfl_sync(~0U, p, key);
      const auto* value = reinterpret_cast<const uint32_t*>(tile.keys + key * tile.stride);
#pragma unroll
      for (int i = 0; i < kPairs; ++i) {
        const int pair = i * 32 + lane;
        if (pair * 2 >= dims.rank) continue;
        const float2 x = unpack2(value[pair], __nv_bfloat16());
        out[i].x = fmaf(weight, x.x, out[i].x);
        out[i].y = fmaf(weight, x.y, out[i].y);
      }
    }
  }
};

/// Eight threads a key, 16 bytes at a time; keys that are none become zeros.
__device__ void fetch(const LatentArgs& args, const LatentKeys& keys, int32_t first, int width,
                      __nv_bfloat16* to, bool* present) {
  static_assert(kThreads == kKeys * 8);
  const int key = static_cast<int>(threadIdx.x) / 8;
  const int part = static_cast<int>(threadIdx.x) % 8;
  const int64_t offset = keys.offset(keys.named(first + key), int64_t{width} * 2);
  if (part == 0) present[key] = offset >= 0;
  const auto* from = reinterpret_cast<const uint4*>(args.kv + (offset < 0 ? 0 : offset));
  auto* row = reinterpret_cast<uint4*>(to + key * (width + kPad));
  for (int at = part; at < width / 8; at += 8) row[at] = offset < 0 ? uint4{} : __ldg(from + at);
}

/// Computes:  out[r, h] = softmax(scale * q[r, h] . key) * key[0 .. rank) over the keys of row r.
/// In/out:    q [rows, heads, rank + rope], out [rows, heads, rank] in bf16; the cache's rows of
///            rank + rope bf16 channels, all or by lists of tokens; kernels_mla.h.
/// Units:     keys and rows; scores scaled, exponents base 2.
/// Launch:    a CTA of eight warps for each row and eight heads, a head a warp; shared memory for
///            the queries in float32 and 32 keys.
/// Needs:     sm_90; rank a multiple of 8 up to 896, rope of 16; rows at multiples of 16 bytes.
/// Numerics:  float32 but for the inputs and one rounding at the end. Deterministic; a row's result
///            depends on its keys and their order alone.
/// Source:    DeepSeek-V2 (arXiv 2405.04434) absorbed; ours.
/// Measured:  docs/kernels/cuda_mla.md
template <int kPairs>
__global__ void __launch_bounds__(kThreads)
    latent_any(const __grid_constant__ LatentArgs args, const LatentDims dims) {
  extern __shared__ __align__(16) uint8_t raw[];
  __shared__ bool present[kKeys];
  wait_for_previous();
  let_next_start();
  const int width = dims.rank + dims.rope;
  const auto row = static_cast<int32_t>(blockIdx.x);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int head = static_cast<int>(blockIdx.y) * kHeads + warp;
  auto* const queries = reinterpret_cast<float*>(raw);
  auto* const tile_keys = reinterpret_cast<__nv_bfloat16*>(queries + kHeads * width);
  float* const q = queries + warp * width;
  const auto* from = static_cast<const __nv_bfloat16*>(args.q) + row * args.q_row_stride;
  for (int at = lane; at < width; at += 32) {
    const bool real = head < args.num_heads;
    q[at] = real ? __bfloat162float(from[head * args.q_head_stride + at]) * args.scale_log2 : 0;
  }
  const int32_t count = foveal::cuda::latent_count(args, row);
  const LatentKeys keys(args, {.row = row, .count = count});
  Running<kPairs> running;
  for (int32_t first = 0; first < count; first += kKeys) {
    __syncthreads();
    fetch(args, keys, first, width, tile_keys, present);
    __syncthreads();
    running.take({q, tile_keys, present, width + kPad}, lane, dims);
  }
  if (head >= args.num_heads) return;
  const float factor = running.sum > 0 ? 1.0F / running.sum : 0.0F;
  auto* const to =
      reinterpret_cast<uint32_t*>(static_cast<__nv_bfloat16*>(args.out) +
                                  row * args.out_row_stride + head * args.out_head_stride);
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const int pair = i * 32 + lane;
    if (pair * 2 >= dims.rank) continue;
    to[pair] = pack2(running.out[i].x * factor, running.out[i].y * factor, __nv_bfloat16());
  }
}

}  // namespace

void launch_latent_any(const LatentArgs& args, const LatentDims& dims, void* stream) {
  const size_t width = static_cast<size_t>(dims.width());
  const Grid grid{.blocks = {static_cast<unsigned>(args.num_rows),
                             static_cast<unsigned>((args.num_heads + kHeads - 1) / kHeads)},
                  .threads = {kThreads},
                  .shared_bytes = kHeads * width * sizeof(float) + kKeys * (width + kPad) * 2};
  auto* kernel = latent_any<14>;  // ranks up to 896
  if (dims.rank <= 256) {
    kernel = latent_any<4>;
  } else if (dims.rank <= 512) {
    kernel = latent_any<8>;
  }
  launch("latent_any", kernel, grid, stream, args, dims);
}

}  // namespace foveal::kernels::cuda
