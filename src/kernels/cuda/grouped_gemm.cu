// Computes: y[slot] = x[slot / x_divisor] W[e]^T for the slots of every expert e, sizes known to
//           the device only: grouped_skinny with few slots an expert, grouped_tiled with many.
// In/out:   x [rows, k] bf16, row stride x_stride; weight [num_experts, n, k] bf16, or (skinny)
//           e4m3 with scales a row or a block of 128 x 128; offsets [num_experts + 1]; slots
//           [num_slots]; y [num_slots, n] bf16 or float32, stride y_stride.
// Units:    elements. Unit of work: skinny: (8 slots of an expert, 32 weight rows); tiled: (128
//           slots of an expert, 128 weight rows), whole k.
// Launch:   skinny, for few slots an expert: a block of 256 threads a multiprocessor, ring of
//           weights as skinny_gemm.cu, units side by side; tiled: 256 threads, tiles of 128 x 128
//           x 64 through a ring of 3 in shared memory, two blocks a multiprocessor, striding over
//           the units.
// Needs:    sm_90; n, k, strides multiples of 8; rows of whole 16 bytes; num_experts <= 1024.
// Numerics: float32 sums on the tensor cores of bf16 products, in order of k (skinny: as
//           skinny_gemm): fixed by k and the route, which depends on num_slots / num_experts.
// Source:   ours.
// Measured: H100, 2026-11-28, 128 experts, 8 a row, n 1536, k 2048, us: grouped_skinny at 64 rows
//           274 (read bound 261); grouped_tiled at 512 rows 319, at 4096 710 (290 TFLOPS).

#include <algorithm>

#include "kernels/cuda/device/convert.cuh"
#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/device/vec.cuh"
#include "kernels/cuda/grouped_core.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/moe_launch.h"
#include "kernels/cuda/skinny_core.cuh"

namespace foveal::kernels::cuda {
namespace {

using namespace skinny;
using namespace grouped;
using Element = __nv_bfloat16;

// --- few slots an expert ------------------------------------------------------------------------

constexpr int kSkinnyRows = 8;
constexpr int kSkinnyTiles = 2;  // a unit of 16 rows is over in a microsecond where k is 768
constexpr int kSkinnyStages = 4;
constexpr int kUnitRows = kSkinnyTiles * kTileRows;
constexpr int kTilePart = partial_floats<1>();
template <class W>
using SkinnyRing = WeightRing<W, kSkinnyTiles, kSkinnyStages>;

/// A block's units lie side by side, so the expert changes rarely; who walks over them keeps what
/// it looked up.
struct UnitWalk {
  int units_per_chunk;
  int chunk = -1;
  Piece piece{};

  /// First weight row of the unit; true in `changed` when the piece is another one.
  __device__ int64_t enter(const GroupedGemmParams& p, const Chunks& chunks, int64_t unit,
                           bool& changed) {
    const auto own = static_cast<int>(unit / units_per_chunk);
    changed = own != chunk;
    if (changed) piece = piece_of<kSkinnyRows>(p, chunks, own);
    chunk = own;
    return (unit - int64_t{own} * units_per_chunk) * kUnitRows;
  }
};

__device__ void store_unit(const GroupedGemmParams& p, const Piece& piece, int64_t first_col,
                           const float* partials) {
  constexpr int kPairs = kUnitRows / 2;
  const auto item = static_cast<int>(threadIdx.x);
  const int row = item / kPairs;
  const int within = item % kPairs * 2;
  const int64_t col = first_col + within;
  if (row >= piece.count || col >= p.n) return;
  const float* part = partials + within / kTileRows * kTilePart;
  const int at = within % kTileRows;
  store_pair(p, p.slots[piece.first + row] * p.y_stride + col,
             sum_partials(part, kSkinnyTiles * kTilePart, row, at),
             sum_partials(part, kSkinnyTiles * kTilePart, row, at + 1));
}
static_assert(kSkinnyRows * kUnitRows / 2 <= kThreads);

/// Of one expert's tile that begins at `row`; none for weights that are not scaled.
__device__ TileScales tile_scales(const GroupedGemmParams& p, int expert, int64_t row, int group) {
  const int64_t low = min(row + group, p.n - 1);
  const int64_t high = min(row + group + 8, p.n - 1);
  if (p.scaling == GemmScaling::kRow) {
    const float* scale = p.weight_scale + expert * p.n;
    return {scale + low, scale + high, 0};
  }
  const int64_t stride = block_scale_stride(p.k);
  const float* scale = p.weight_scale + expert * ((p.n + 127) / 128) * stride;
  return {scale + low / 128 * stride, scale + high / 128 * stride, 1};
}

template <class W>
__global__ void __launch_bounds__(kThreads, 1) grouped_skinny_kernel(GroupedGemmParams p) {
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ Chunks chunks;
  constexpr bool kScaled = sizeof(W) == 1;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int group = lane / 4;
  const int quad = lane % 4;
  const int num_blocks = static_cast<int>((p.k + kBlockK<W> - 1) / kBlockK<W>);
  const SkinnyRing<W> ring(shared, warp, lane);
  let_next_start();
  wait_for_previous();
  count_chunks<kSkinnyRows>(p, chunks);
  UnitWalk filling{.units_per_chunk = static_cast<int>((p.n + kUnitRows - 1) / kUnitRows)};
  UnitWalk walking = filling;
  const int64_t num_units = int64_t{chunks.begin[p.num_experts]} * filling.units_per_chunk;
  const int64_t first_unit = num_units * blockIdx.x / gridDim.x;
  const int64_t end_unit = num_units * (blockIdx.x + 1) / gridDim.x;

  int64_t next_unit = warp < num_blocks ? first_unit : end_unit;
  int next_block = warp;
  TileRows<W> next_rows[kSkinnyTiles] = {};
  const auto enter_unit = [&] {
    if (next_unit >= end_unit) return;
    bool changed = false;
    const int64_t first = filling.enter(p, chunks, next_unit, changed);
    const auto* weight = static_cast<const W*>(p.weight) + filling.piece.expert * p.n * p.k;
#pragma unroll
    for (int tile = 0; tile < kSkinnyTiles; ++tile) {
      const int64_t row = first + tile * kTileRows + group;
      next_rows[tile] = {weight + min(row, p.n - 1) * p.k, weight + min(row + 8, p.n - 1) * p.k};
    }
  };
  const auto fill_next = [&](int stage) {
    if (next_unit < end_unit) {
#pragma unroll
      for (int tile = 0; tile < kSkinnyTiles; ++tile) {
        ring.fill(stage, tile, next_rows[tile], int64_t{next_block} * kBlockK<W>, p.k, quad);
      }
      next_block += kWarps;
      if (next_block >= num_blocks) {
        next_block = warp;
        ++next_unit;
        enter_unit();
      }
    }
    foveal::cuda::cp_async_commit();
  };
  enter_unit();
#pragma unroll 1
  for (int stage = 0; stage < kSkinnyStages; ++stage) fill_next(stage);

  auto* partials = reinterpret_cast<float*>(shared + SkinnyRing<W>::kBytes);
  const Element* x_rows[1] = {nullptr};
  XQueue<Element, W, 1, 2> x;
  int stage = 0;
  int buffer = 0;
  for (int64_t unit = first_unit; unit < end_unit; ++unit) {
    bool changed = false;
    const int64_t first_col = walking.enter(p, chunks, unit, changed);
    const Piece& piece = walking.piece;
    if (changed) {
      const int64_t row = group < piece.count ? p.slots[piece.first + group] / p.x_divisor : 0;
      x_rows[0] =
          group < piece.count ? static_cast<const Element*>(p.x) + row * p.x_stride : nullptr;
      x.start(x_rows, warp, num_blocks, p.k, quad);
    }
    float acc[kSkinnyTiles][1][4] = {};
    TileScales scales[kSkinnyTiles];
    if constexpr (kScaled) {
#pragma unroll
      for (int tile = 0; tile < kSkinnyTiles; ++tile) {
        scales[tile] = tile_scales(p, piece.expert, first_col + tile * kTileRows, group);
      }
    }
    for (int block = warp; block < num_blocks; block += kWarps) {
      const auto now = x.take(x_rows, warp, num_blocks, p.k, quad);
      if constexpr (kScaled) {
        float2 of_block[kSkinnyTiles];
#pragma unroll
        for (int tile = 0; tile < kSkinnyTiles; ++tile) of_block[tile] = scales[tile].at(block);
        foveal::cuda::cp_async_wait<kSkinnyStages - 1>();
        multiply(acc, ring, stage, now, of_block);
      } else {
        foveal::cuda::cp_async_wait<kSkinnyStages - 1>();
        multiply(acc, ring, stage, now);
      }
      fill_next(stage);
      stage = stage + 1 == kSkinnyStages ? 0 : stage + 1;
    }
    // Two buffers: who writes one has passed the barrier after which the other was read.
    float* unit_partials = partials + buffer * kWarps * kSkinnyTiles * kTilePart;
#pragma unroll
    for (int tile = 0; tile < kSkinnyTiles; ++tile) {
      put_partial<1>(unit_partials + (warp * kSkinnyTiles + tile) * kTilePart, acc[tile], group,
                     quad);
    }
    __syncthreads();
    store_unit(p, piece, first_col, unit_partials);
    buffer ^= 1;
  }
}

// --- many slots an expert -----------------------------------------------------------------------

constexpr int kTileStages = 3;
constexpr int kTileBlocks = 2;  // share a multiprocessor: one computes while one waits

/// Fragments of 32 bytes along k: 16 rows of x or, two at a time, 16 weight rows.
__device__ __forceinline__ void load_x(uint32_t (&a)[4], uint32_t stage, int row, int step,
                                       int lane) {
  foveal::cuda::load_matrix_x4(a, tile_address(stage, row + lane % 16, 2 * step + lane / 16));
}
__device__ __forceinline__ void load_weights(uint32_t (&b)[2][4], uint32_t stage, int warp_col,
                                             int step, int lane) {
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const int row = warp_col + 16 * j + lane % 8 + lane / 16 * 8;
    foveal::cuda::load_matrix_x4(b[j],
                                 tile_address(stage + kOperandBytes, row, 2 * step + lane / 8 % 2));
  }
}

/// A warp's 64 x 32 of the 128 x 128 tile: rows are slots, columns weight rows.
__device__ __forceinline__ void multiply_tile(float (&acc)[4][4][4], uint32_t stage, int warp_row,
                                              int warp_col, int lane) {
#pragma unroll
  for (int step = 0; step < grouped::kTileBytes / 32; ++step) {
    uint32_t a[4][4];
    uint32_t b[2][4];
#pragma unroll
    for (int i = 0; i < 4; ++i) load_x(a[i], stage, warp_row + 16 * i, step, lane);
    load_weights(b, stage, warp_col, step, lane);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const uint32_t columns[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
        foveal::cuda::mma_16x8x16<Element>(acc[i][j], a[i], columns);
      }
    }
  }
}

__device__ void store_tile(const GroupedGemmParams& p, const Piece& piece, int64_t first_col,
                           const float (&acc)[4][4][4], int warp_row, int warp_col, int lane) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = warp_row + 16 * i + 8 * half + lane / 4;
      if (row >= piece.count) continue;
      const int64_t at = p.slots[piece.first + row] * p.y_stride;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int64_t col = first_col + warp_col + 8 * j + lane % 4 * 2;
        if (col < p.n) store_pair(p, at + col, acc[i][j][2 * half], acc[i][j][2 * half + 1]);
      }
    }
  }
}

__global__ void __launch_bounds__(kThreads, kTileBlocks) grouped_tiled_kernel(GroupedGemmParams p) {
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ Chunks chunks;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_row = warp % 2 * 64;
  const int warp_col = warp / 2 * 32;
  const uint32_t ring = foveal::cuda::smem_address(shared);
  const int num_steps = static_cast<int>((p.k + kTileK<Element> - 1) / kTileK<Element>);
  const int col_tiles = static_cast<int>((p.n + kTile - 1) / kTile);
  let_next_start();
  wait_for_previous();
  count_chunks<kTile>(p, chunks);
  // Slot chunks run fastest: blocks that work at the same time share a weight tile in the L2 cache.
  const int num_chunks = chunks.begin[p.num_experts];
  for (int64_t unit = blockIdx.x; unit < int64_t{num_chunks} * col_tiles; unit += gridDim.x) {
    const Piece piece = piece_of<kTile>(p, chunks, static_cast<int>(unit % num_chunks));
    const int64_t first_col = unit / num_chunks * kTile;
    TileCopy<Element> copy;
    copy.enter(p, piece, first_col);
    __syncthreads();  // the ring is free again
    for (int step = 0; step < kTileStages - 1; ++step) {
      if (step < num_steps)
        copy.copy(p, ring + step * kStageBytes, int64_t{step} * kTileK<Element>);
      foveal::cuda::cp_async_commit();
    }
    float acc[4][4][4] = {};
    for (int step = 0; step < num_steps; ++step) {
      foveal::cuda::cp_async_wait<kTileStages - 2>();
      __syncthreads();
      const int ahead = step + kTileStages - 1;
      if (ahead < num_steps) {
        copy.copy(p, ring + ahead % kTileStages * kStageBytes, int64_t{ahead} * kTileK<Element>);
      }
      foveal::cuda::cp_async_commit();
      multiply_tile(acc, ring + step % kTileStages * kStageBytes, warp_row, warp_col, lane);
    }
    store_tile(p, piece, first_col, acc, warp_row, warp_col, lane);
  }
}

template <class W>
void launch_skinny(const GroupedGemmParams& params, void* stream) {
  constexpr size_t kShared =
      SkinnyRing<W>::kBytes + size_t{2} * kWarps * kSkinnyTiles * kTilePart * sizeof(float);
  const Grid grid{.blocks = {static_cast<unsigned>(num_multiprocessors())},
                  .threads = {kThreads},
                  .shared_bytes = kShared};
  launch("grouped_gemm", grouped_skinny_kernel<W>, grid, stream, params);
}

void launch_tiled(const GroupedGemmParams& params, void* stream) {
  const Grid grid{.blocks = {static_cast<unsigned>(kTileBlocks * num_multiprocessors())},
                  .threads = {kThreads},
                  .shared_bytes = size_t{kTileStages} * kStageBytes};
  launch("grouped_gemm", grouped_tiled_kernel, grid, stream, params);
}

}  // namespace

void grouped_gemm_launch(const GroupedGemmParams& params, void* stream) {
  const bool few = grouped_decodes(params.num_slots, params.num_experts);
  const bool skinny =
      params.route == GemmRoute::kDecode || (params.route == GemmRoute::kAuto && few);
  if (params.dtype == DType::kF8E4M3) {
    skinny ? launch_skinny<__nv_fp8_e4m3>(params, stream) : grouped_e4m3_launch(params, stream);
  } else {
    skinny ? launch_skinny<Element>(params, stream) : launch_tiled(params, stream);
  }
}

}  // namespace foveal::kernels::cuda
