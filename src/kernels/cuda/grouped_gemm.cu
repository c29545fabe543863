// Computes: y[slot] = x[slot / x_divisor] W[e]^T for the slots of every expert e, sizes known to
//           the device only.
// In/out:   x [rows, k] bf16, row stride x_stride; weight [num_experts, n, k] bf16; offsets
//           [num_experts + 1]; slots [num_slots]; y [num_slots, n] bf16 or float32, stride
//           y_stride.
// Units:    elements. Unit of work: skinny: (8 slots of an expert, 32 weight rows); tiled: (128
//           slots of an expert, 128 weight rows), whole k.
// Launch:   skinny, for few slots an expert: a block of 256 threads a multiprocessor, ring of
//           weights as skinny_gemm.cu, units side by side; tiled: 256 threads, 128 x 128 x 64
//           tiles through a ring of 3 in shared memory, two blocks a multiprocessor, striding over
//           the units.
// Needs:    sm_90; n, k, strides multiples of 8; num_experts <= 1024.
// Numerics: bf16 products, float32 sums on the tensor cores, in order of k (skinny: as
//           skinny_gemm): fixed by k and the route, which depends on num_slots / num_experts.
// Source:   ours.
// Measured: H100, 2026-11-28, 128 experts, 8 a row, n 1536, k 2048: 64 rows 274 us (read bound
// 261),
//           512 rows 319, 4096 rows 710 us (290 TFLOPS).

#include <algorithm>

#include "kernels/cuda/device/convert.cuh"
#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/device/vec.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/moe_launch.h"
#include "kernels/cuda/skinny_core.cuh"

namespace foveal::kernels::cuda {
namespace {

using namespace skinny;
using Element = __nv_bfloat16;

/// The work list, worked out by every block for itself: chunk c of `kRows` slots belongs to the
/// expert e with begin[e] <= c < begin[e + 1].
struct Chunks {
  int begin[kMaxExperts + 1];
};

/// Reads the offsets; all threads, ends in a barrier.
template <int kRows>
__device__ void count_chunks(const GroupedGemmParams& p, Chunks& chunks) {
  const auto chunks_of = [&](int expert) {
    return (p.offsets[expert + 1] - p.offsets[expert] + kRows - 1) / kRows;
  };
  // One warp scans, 32 experts a step.
  if (threadIdx.x < 32) {
    const int lane = static_cast<int>(threadIdx.x);
    int base = 0;
    for (int first = 0; first < p.num_experts; first += 32) {
      int sum = first + lane < p.num_experts ? chunks_of(first + lane) : 0;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(0xffffffffU, sum, step);
        if (lane >= step) sum += other;
      }
      if (first + lane < p.num_experts) chunks.begin[first + lane + 1] = base + sum;
      base += __shfl_sync(0xffffffffU, sum, 31);
    }
    if (lane == 0) chunks.begin[0] = 0;
  }
  __syncthreads();
}

struct Piece {
  int expert;
  int first;  ///< into slots
  int count;
};

template <int kRows>
__device__ Piece piece_of(const GroupedGemmParams& p, const Chunks& chunks, int chunk) {
  int low = 0;
  int high = p.num_experts;
  while (high - low > 1) {
    const int mid = (low + high) / 2;
    (chunks.begin[mid] <= chunk ? low : high) = mid;
  }
  const int first = p.offsets[low] + (chunk - chunks.begin[low]) * kRows;
  return {low, first, min(kRows, p.offsets[low + 1] - first)};
}

__device__ void store_pair(const GroupedGemmParams& p, int64_t at, float a, float b) {
  if (p.y_dtype == DType::kF32) {
    *reinterpret_cast<float2*>(static_cast<float*>(p.y) + at) = {a, b};
  } else {
    *reinterpret_cast<uint32_t*>(static_cast<Element*>(p.y) + at) = pack2(a, b, Element());
  }
}

// --- few slots an expert ------------------------------------------------------------------------

constexpr int kSkinnyRows = 8;
constexpr int kSkinnyTiles = 2;  // a unit of 16 rows is over in a microsecond where k is 768
constexpr int kSkinnyStages = 4;
constexpr int kUnitRows = kSkinnyTiles * kTileRows;
constexpr int kTilePart = partial_floats<1>();
using SkinnyRing = WeightRing<Element, kSkinnyTiles, kSkinnyStages>;

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

__global__ void __launch_bounds__(kThreads, 1) grouped_skinny_kernel(GroupedGemmParams p) {
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ Chunks chunks;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int group = lane / 4;
  const int quad = lane % 4;
  const int num_blocks = static_cast<int>((p.k + kBlockK - 1) / kBlockK);
  const SkinnyRing ring(shared, warp, lane);
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
  TileRows<Element> next_rows[kSkinnyTiles] = {};
  const auto enter_unit = [&] {
    if (next_unit >= end_unit) return;
    bool changed = false;
    const int64_t first = filling.enter(p, chunks, next_unit, changed);
    const auto* weight = static_cast<const Element*>(p.weight) + filling.piece.expert * p.n * p.k;
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
        ring.fill(stage, tile, next_rows[tile], int64_t{next_block} * kBlockK, p.k, quad);
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

  auto* partials = reinterpret_cast<float*>(shared + SkinnyRing::kBytes);
  const Element* x_rows[1] = {nullptr};
  XQueue<Element, 1, 2> x;
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
    for (int block = warp; block < num_blocks; block += kWarps) {
      const XBlock<Element, 1> now = x.take(x_rows, warp, num_blocks, p.k, quad);
      foveal::cuda::cp_async_wait<kSkinnyStages - 1>();
      multiply(acc, ring, stage, now);
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

constexpr int kTile = 128;  // slots, and weight rows
constexpr int kTileK = 64;
constexpr int kTileStages = 3;  // two blocks share a multiprocessor: one computes while one waits
constexpr int kOperandBytes = kTile * kTileK * 2;
constexpr int kStageBytes = 2 * kOperandBytes;

/// 16-byte piece `piece` of row `row` in a tile of 128-byte rows: xor-swizzled, so that eight rows
/// of one column land in different banks.
__device__ __forceinline__ uint32_t tile_address(uint32_t tile, int row, int piece) {
  return tile + row * (kTileK * 2) + ((piece ^ (row & 7)) << 4);
}

/// What a thread copies: one 16-byte piece of every 32nd row of each operand.
struct TileCopy {
  const Element* x[4];  ///< null past the last slot
  const Element* w;     ///< row threadIdx.x / 8 of the tile
  int64_t w_rows;       ///< weight rows from there to the end

  __device__ void enter(const GroupedGemmParams& p, const Piece& piece, int64_t first_col) {
    const int own = static_cast<int>(threadIdx.x) / 8;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = own + 32 * i;
      x[i] = nullptr;
      if (row < piece.count) {
        const int64_t from = p.slots[piece.first + row] / p.x_divisor;
        x[i] = static_cast<const Element*>(p.x) + from * p.x_stride;
      }
    }
    w = static_cast<const Element*>(p.weight) + (piece.expert * p.n + first_col + own) * p.k;
    w_rows = p.n - first_col - own;
  }
  __device__ void copy(const GroupedGemmParams& p, uint32_t stage, int64_t k) const {
    const int own = static_cast<int>(threadIdx.x) / 8;
    const int piece = static_cast<int>(threadIdx.x) % 8;
    const int64_t at = k + piece * 8;
    const auto* any = static_cast<const Element*>(p.x);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const bool has_x = x[i] != nullptr && at < p.k;
      const bool has_w = 32 * i < w_rows && at < p.k;
      foveal::cuda::cp_async<16>(tile_address(stage, own + 32 * i, piece), has_x ? x[i] + at : any,
                                 has_x ? 16 : 0);
      foveal::cuda::cp_async<16>(tile_address(stage + kOperandBytes, own + 32 * i, piece),
                                 has_w ? w + 32 * i * p.k + at : any, has_w ? 16 : 0);
    }
  }
};

/// A warp's 64 x 32 of the 128 x 128 tile: rows are slots, columns weight rows.
__device__ __forceinline__ void multiply_tile(float (&acc)[4][4][4], uint32_t stage, int warp_row,
                                              int warp_col, int lane) {
#pragma unroll
  for (int step = 0; step < kTileK / 16; ++step) {
    uint32_t a[4][4];
    uint32_t b[2][4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      foveal::cuda::load_matrix_x4(
          a[i], tile_address(stage, warp_row + 16 * i + lane % 16, 2 * step + lane / 16));
    }
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int row = warp_col + 16 * j + lane % 8 + lane / 16 * 8;
      foveal::cuda::load_matrix_x4(
          b[j], tile_address(stage + kOperandBytes, row, 2 * step + lane / 8 % 2));
    }
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

__global__ void __launch_bounds__(kThreads, 2) grouped_tiled_kernel(GroupedGemmParams p) {
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ Chunks chunks;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_row = warp % 2 * 64;
  const int warp_col = warp / 2 * 32;
  const uint32_t ring = foveal::cuda::smem_address(shared);
  const int num_steps = static_cast<int>((p.k + kTileK - 1) / kTileK);
  const int col_tiles = static_cast<int>((p.n + kTile - 1) / kTile);
  let_next_start();
  wait_for_previous();
  count_chunks<kTile>(p, chunks);
  // Slot chunks run fastest: blocks that work at the same time share a weight tile in the L2 cache.
  const int num_chunks = chunks.begin[p.num_experts];
  for (int64_t unit = blockIdx.x; unit < int64_t{num_chunks} * col_tiles; unit += gridDim.x) {
    const Piece piece = piece_of<kTile>(p, chunks, static_cast<int>(unit % num_chunks));
    const int64_t first_col = unit / num_chunks * kTile;
    TileCopy copy;
    copy.enter(p, piece, first_col);
    __syncthreads();  // the ring is free again
    for (int step = 0; step < kTileStages - 1; ++step) {
      if (step < num_steps) copy.copy(p, ring + step * kStageBytes, int64_t{step} * kTileK);
      foveal::cuda::cp_async_commit();
    }
    float acc[4][4][4] = {};
    for (int step = 0; step < num_steps; ++step) {
      foveal::cuda::cp_async_wait<kTileStages - 2>();
      __syncthreads();
      const int ahead = step + kTileStages - 1;
      if (ahead < num_steps) {
        copy.copy(p, ring + ahead % kTileStages * kStageBytes, int64_t{ahead} * kTileK);
      }
      foveal::cuda::cp_async_commit();
      multiply_tile(acc, ring + step % kTileStages * kStageBytes, warp_row, warp_col, lane);
    }
    store_tile(p, piece, first_col, acc, warp_row, warp_col, lane);
  }
}

/// Up to here an expert's weight is read about once by the skinny kernel.
constexpr int64_t kSkinnySlotsPerExpert = 8;

}  // namespace

void grouped_gemm_launch(const GroupedGemmParams& params, void* stream) {
  const auto blocks = static_cast<unsigned>(num_multiprocessors());
  const bool few = params.num_slots <= kSkinnySlotsPerExpert * params.num_experts;
  if (params.route == GemmRoute::kDecode || (params.route == GemmRoute::kAuto && few)) {
    constexpr size_t kShared =
        SkinnyRing::kBytes + size_t{2} * kWarps * kSkinnyTiles * kTilePart * sizeof(float);
    const Grid grid{.blocks = {blocks}, .threads = {kThreads}, .shared_bytes = kShared};
    launch("grouped_gemm", grouped_skinny_kernel, grid, stream, params);
  } else {
    const Grid grid{.blocks = {2 * blocks},
                    .threads = {kThreads},
                    .shared_bytes = size_t{kTileStages} * kStageBytes};
    launch("grouped_gemm", grouped_tiled_kernel, grid, stream, params);
  }
}

}  // namespace foveal::kernels::cuda
