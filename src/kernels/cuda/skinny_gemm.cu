// Computes: y = alpha x W^T + bias, or y += ..., for few rows; gated: y = act(x Wg^T) * (x Wu^T).
// In/out:   x [m, k] bf16 or f16; weight [n, k] (gated [2n, k]: gate, then up) of x's type, or e4m3
//           with float32 scales a row or a block of 128 x 128 (x in bf16); y [m, n] bf16, f16 or
//           float32; bias [n] ([2n]) of x's type or null; row strides given.
// Units:    elements. Unit of work: kTiles tiles of 16 weight rows, whole k.
// Launch:   one block of 256 threads a multiprocessor, striding over the units; ring of kStages k
//           blocks of 128 bytes in shared memory (128 KiB and more on its way), partial sums behind
//           it.
// Needs:    sm_90; m <= 32; rows of whole 16 bytes; pointers aligned to 16 bytes.
// Numerics: products on the tensor cores with float32 sums; e4m3 is widened to bf16 exactly, and
//           a k block's sums are multiplied by its scales. A warp adds its k blocks (every eighth)
//           in order, then warps are added in order: fixed by k alone, not by m, n or the grid.
// Source:   ours. Weights do not depend on the kernel before: the ring is filled before the wait
//           for it, which hides the launch and the other kernel's tail.
// Measured: H100, 2026-11-28, 1 row: 6144 x 4096 16.8 us, 4096 x 4096 11.3,
//           28672 x 4096 77.7, 4096 x 14336 40.2, 128256 x 4096 341: 95 to 99.7 % of
//           the read rate; 8 rows 88 to 96 %. H200, bf16: 4096 x 14336 29.1 us, 28672 x
//           4096 57.0: 90 and 92 %.

#include <algorithm>

#include "base/math.h"
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/device/vec.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/skinny_core.cuh"
#include "kernels/cuda/skinny_gemm.h"

namespace foveal::kernels::cuda {
namespace {

using namespace skinny;

struct Problem {
  DenseGemmParams gemm;
  bool gated = false;
  Activation act = Activation::kSilu;
};

/// Rows of x a call may have, tiles a unit has, stages of the ring; and whether the next kernel is
/// let in when all weights have been asked for, or at once. In between it takes bandwidth from the
/// blocks that are still at work, and fills its ring. Which weighs more was measured.
template <int kColsOf, int kTilesOf, int kStagesOf, bool kLateOf = false>
struct Shape {
  static constexpr int kCols = kColsOf;
  static constexpr int kTiles = kTilesOf;
  static constexpr int kStages = kStagesOf;
  static constexpr bool kLate = kLateOf;
};

template <class T>
__device__ __forceinline__ float widen(T x) {
  return static_cast<float>(x);
}

template <class T>
__device__ float biased(const Problem& p, float sum, int64_t idx) {
  const auto* bias = static_cast<const T*>(p.gemm.bias);
  return p.gemm.alpha * sum + (bias != nullptr ? widen(bias[idx]) : 0.0F);
}

/// The weight rows that a lane has of a tile. Rows past the end are read as the last one and never
/// written.
struct RowPair {
  int64_t low;
  int64_t high;
};
template <bool kGated>
__device__ RowPair row_pair(const Problem& p, int64_t tile, int group) {
  const int64_t last = p.gemm.n - 1;
  if constexpr (kGated) {
    const int64_t row = min(tile * 8 + group, last);
    return {row, p.gemm.n + row};
  } else {
    const int64_t row = tile * kTileRows + group;
    return {min(row, last), min(row + 8, last)};
  }
}

template <class W, bool kGated>
__device__ TileRows<W> tile_rows(const Problem& p, int64_t tile, int group) {
  const auto* weight = static_cast<const W*>(p.gemm.weight);
  const RowPair rows = row_pair<kGated>(p, tile, group);
  return {weight + rows.low * p.gemm.weight_stride, weight + rows.high * p.gemm.weight_stride};
}

template <bool kGated>
__device__ TileScales tile_scales(const Problem& p, int64_t tile, int group) {
  const float* scale = p.gemm.weight_scale;
  const RowPair rows = row_pair<kGated>(p, tile, group);
  if (p.gemm.scaling == GemmScaling::kRow) return {scale + rows.low, scale + rows.high, 0};
  const int64_t stride = block_scale_stride(p.gemm.k);
  return {scale + rows.low / 128 * stride, scale + rows.high / 128 * stride, 1};
}

template <class T>
__device__ void store_value(const Problem& p, int64_t row, int64_t col, float value) {
  const int64_t at = row * p.gemm.y_stride + col;
  if (p.gemm.y_dtype == DType::kF32) {
    float* y = static_cast<float*>(p.gemm.y) + at;
    *y = p.gemm.accumulate ? *y + value : value;
  } else {
    static_cast<T*>(p.gemm.y)[at] = static_cast<T>(value);
  }
}

/// Adds the warps' partial sums of one unit up and writes its outputs.
template <class T, class S, bool kGated>
__device__ void finish_unit(const Problem& p, const float* partials, int64_t unit) {
  constexpr int kTilePart = partial_floats<S::kCols>();
  constexpr int kWarpStride = S::kTiles * kTilePart;
  constexpr int kOutRows = kGated ? 8 : kTileRows;
  for (int item = static_cast<int>(threadIdx.x); item < S::kTiles * kOutRows * S::kCols * 8;
       item += kThreads) {
    const int idx = item % kOutRows;
    const int tile = item / kOutRows % S::kTiles;
    const int row = item / (kOutRows * S::kTiles);
    const int64_t col = (unit * S::kTiles + tile) * kOutRows + idx;
    if (row >= p.gemm.m || col >= p.gemm.n) continue;
    const float* part = partials + tile * kTilePart;
    float value = biased<T>(p, sum_partials(part, kWarpStride, row, idx), col);
    if constexpr (kGated) {
      const float up = biased<T>(p, sum_partials(part, kWarpStride, row, idx + 8), p.gemm.n + col);
      value = activate(value, p.act) * up;
    }
    store_value<T>(p, row, col, value);
  }
}

template <class T, class W, class S, bool kGated>
__global__ void __launch_bounds__(kThreads, 1) skinny_gemm_kernel(Problem p, int64_t num_units) {
  extern __shared__ __align__(16) unsigned char shared[];
  using Ring = WeightRing<W, S::kTiles, S::kStages>;
  constexpr bool kScaled = sizeof(W) == 1;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int group = lane / 4;
  const int quad = lane % 4;
  const int64_t k_len = p.gemm.k;
  const int num_blocks = static_cast<int>((k_len + kBlockK<W> - 1) / kBlockK<W>);
  const Ring ring(shared, warp, lane);

  // The copies run ahead of the products, over unit ends.
  int64_t next_unit = warp < num_blocks ? blockIdx.x : num_units;
  int next_block = warp;
  TileRows<W> next_rows[S::kTiles];
  const auto enter_unit = [&] {
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
      next_rows[tile] = tile_rows<W, kGated>(p, next_unit * S::kTiles + tile, group);
    }
  };
  const auto fill_next = [&](int stage) {
    if (next_unit < num_units) {
#pragma unroll
      for (int tile = 0; tile < S::kTiles; ++tile) {
        ring.fill(stage, tile, next_rows[tile], int64_t{next_block} * kBlockK<W>, k_len, quad);
      }
      next_block += kWarps;
      if (next_block >= num_blocks) {
        next_block = warp;
        next_unit += gridDim.x;
        enter_unit();
        if (S::kLate && next_unit >= num_units) let_next_start();
      }
    }
    foveal::cuda::cp_async_commit();
  };
  if (!S::kLate) let_next_start();
  enter_unit();
#pragma unroll 1
  for (int stage = 0; stage < S::kStages; ++stage) fill_next(stage);
  wait_for_previous();

  const T* x_rows[S::kCols];
#pragma unroll
  for (int col = 0; col < S::kCols; ++col) {
    const int row = 8 * col + group;
    x_rows[col] =
        row < p.gemm.m ? static_cast<const T*>(p.gemm.x) + row * p.gemm.x_stride : nullptr;
  }
  // A k block of e4m3 lasts twice as long, and passing four on would be 48 moves each.
  constexpr int kAhead = S::kCols == 1 && !kScaled ? 4 : 1;
  XQueue<T, W, S::kCols, kAhead> x;
  x.start(x_rows, warp, num_blocks, k_len, quad);

  constexpr int kTilePart = partial_floats<S::kCols>();
  auto* partials = reinterpret_cast<float*>(shared + Ring::kBytes);
  int stage = 0;
  int buffer = 0;
  for (int64_t unit = blockIdx.x; unit < num_units; unit += gridDim.x) {
    float acc[S::kTiles][S::kCols][4] = {};
    TileScales scales[S::kTiles];
    if constexpr (kScaled) {
#pragma unroll
      for (int tile = 0; tile < S::kTiles; ++tile) {
        scales[tile] = tile_scales<kGated>(p, unit * S::kTiles + tile, group);
      }
    }
    for (int block = warp; block < num_blocks; block += kWarps) {
      const auto now = x.take(x_rows, warp, num_blocks, k_len, quad);
      if constexpr (kScaled) {
        float2 of_block[S::kTiles];
#pragma unroll
        for (int tile = 0; tile < S::kTiles; ++tile) of_block[tile] = scales[tile].at(block);
        foveal::cuda::cp_async_wait<S::kStages - 1>();
        multiply(acc, ring, stage, now, of_block);
      } else {
        foveal::cuda::cp_async_wait<S::kStages - 1>();
        multiply(acc, ring, stage, now);
      }
      fill_next(stage);
      stage = stage + 1 == S::kStages ? 0 : stage + 1;
    }
    // Two buffers: who writes one has passed the barrier after which the other was read.
    float* unit_partials = partials + buffer * kWarps * S::kTiles * kTilePart;
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
      put_partial<S::kCols>(unit_partials + (warp * S::kTiles + tile) * kTilePart, acc[tile], group,
                            quad);
    }
    __syncthreads();
    finish_unit<T, S, kGated>(p, unit_partials, unit);
    buffer ^= 1;
  }
}

template <class T, class W, class S, bool kGated>
void launch_shape(const Problem& p, void* stream) {
  constexpr int64_t kUnitRows = S::kTiles * (kGated ? 8 : kTileRows);
  const int64_t units = (p.gemm.n + kUnitRows - 1) / kUnitRows;
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(units, num_multiprocessors()));
  constexpr size_t kPartials = size_t{2} * kWarps * S::kTiles * partial_floats<S::kCols>() * 4;
  constexpr size_t kShared = WeightRing<W, S::kTiles, S::kStages>::kBytes + kPartials;
  static_assert(kShared <= 227 * 1024, "a block's shared memory on sm_90");
  const Grid grid{.blocks = {blocks}, .threads = {kThreads}, .shared_bytes = kShared};
  launch("skinny_gemm", skinny_gemm_kernel<T, W, S, kGated>, grid, stream, p, units);
}

/// Two tiles a unit read x half as often, and where memory is fast those reads bound one: taken
/// where they deal out as evenly.
template <bool kGated>
bool takes_two_tiles(const Problem& p) {
  if (!has_fast_memory()) return false;
  const int64_t tiles = ceil_div(p.gemm.n, int64_t{kGated ? 8 : kTileRows});
  const int64_t blocks = num_multiprocessors();
  return 2 * ceil_div(ceil_div(tiles, int64_t{2}), blocks) <= ceil_div(tiles, blocks);
}

template <class T, class W, bool kGated>
void launch_typed(const Problem& p, void* stream) {
  // Stages beyond these cost more than they bring: x is read again by every unit, from what shared
  // memory leaves of the L1 cache.
  // e4m3: two tiles share what is done for x, for widening leaves little time; and the next
  // kernel's ring has room beside this one.
  constexpr bool kScaled = sizeof(W) == 1;
  if (p.gemm.m <= 8 && kScaled) {
    launch_shape<T, W, Shape<1, 2, 3, true>, kGated>(p, stream);
  } else if (p.gemm.m <= 8 && takes_two_tiles<kGated>(p)) {
    launch_shape<T, W, Shape<1, 2, 4, true>, kGated>(p, stream);
  } else if (p.gemm.m <= 8) {
    launch_shape<T, W, Shape<1, 1, 8>, kGated>(p, stream);
  } else if (p.gemm.m <= 16) {
    launch_shape<T, W, Shape<2, 2, 3, true>, kGated>(p, stream);
  } else {
    launch_shape<T, W, Shape<4, 2, 2>, kGated>(p, stream);
  }
}

template <bool kGated>
void launch_any(const Problem& p, void* stream) {
  if (p.gemm.dtype == DType::kBF16) {
    launch_typed<__nv_bfloat16, __nv_bfloat16, kGated>(p, stream);
  } else if (p.gemm.dtype == DType::kF16) {
    launch_typed<__half, __half, kGated>(p, stream);
  } else {
    launch_typed<__nv_bfloat16, __nv_fp8_e4m3, kGated>(p, stream);
  }
}

}  // namespace

void skinny_gemm_launch(const DenseGemmParams& params, void* stream) {
  launch_any<false>({.gemm = params}, stream);
}

void skinny_gated_launch(const GatedGemmParams& params, void* stream) {
  const bool half = params.dtype == DType::kF16;
  const Problem problem{.gemm = {.x = params.x,
                                 .weight = params.weight,
                                 .y = params.y,
                                 .bias = params.bias,
                                 .m = params.m,
                                 .n = params.n,
                                 .k = params.k,
                                 .x_stride = params.x_stride,
                                 .weight_stride = params.weight_stride,
                                 .y_stride = params.y_stride,
                                 .dtype = params.dtype,
                                 .y_dtype = half ? DType::kF16 : DType::kBF16,
                                 .scaling = params.scaling,
                                 .weight_scale = params.weight_scale},
                        .gated = true,
                        .act = params.act};
  launch_any<true>(problem, stream);
}

}  // namespace foveal::kernels::cuda
