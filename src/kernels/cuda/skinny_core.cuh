#pragma once

#include <cuda_fp8.h>

#include <cstdint>

#include "kernels/cuda/device/cp_async.cuh"
#include "kernels/cuda/device/mbarrier.cuh"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/widen.cuh"

// What skinny_gemm.cu and grouped_gemm.cu share: a weight streamed once through shared memory into
// the tensor cores, W as the left operand, so that up to 8 * kCols rows of x are one narrow tile.
//
// The k axis is cut into blocks of 128 bytes of W (64 values of 16 bits, 128 of e4m3), dealt to the
// warps of a block in turn. Within a block a lane holds 16 bytes of a row at byte 16t and at byte
// 64 + 16t: the order of k inside a mma is free as long as W and x agree on it, so both come as
// plain 16-byte pieces, without ldmatrix. W in e4m3 is widened to bf16 in registers, exactly, and a
// block's sums are multiplied by its scales.

namespace foveal::kernels::cuda::skinny {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kRowBytes = 128;
/// Values in a k block of a weight in W.
template <class W>
constexpr int kBlockK = kRowBytes / static_cast<int>(sizeof(W));
constexpr int kTileRows = 16;
/// Bytes of one k block of a 16-row tile: a warp's step.
constexpr int kTileBytes = kTileRows * kRowBytes;
/// Floats from one x row to the next in the partial sums: no bank conflicts for 8t + g.
constexpr int kPartialStride = 20;

/// Where a tile's 16 rows begin: rows g are at `low`, rows g + 8 at `high`.
template <class W>
struct TileRows {
  const W* low;
  const W* high;
};

/// Scales of this lane's two rows of a tile in e4m3, a k block apart by `step`.
struct TileScales {
  const float* low;
  const float* high;
  int64_t step;

  __device__ float2 at(int block) const { return {low[block * step], high[block * step]}; }
};

/// A warp's ring of k blocks in shared memory. A thread copies and reads back its own pieces only,
/// so nothing needs a barrier but the end of a copy.
template <class W, int kTiles, int kStages>
struct WeightRing {
  static constexpr int kBytes = kStages * kWarps * kTiles * kTileBytes;
  uint32_t base;  ///< this thread's first piece

  __device__ WeightRing(void* shared, int warp, int lane)
      : base(foveal::cuda::smem_address(shared) + warp * kTiles * kTileBytes + lane * 16) {}

  __device__ uint32_t piece(int stage, int tile, int idx) const {
    return base + (stage * kWarps * kTiles + tile) * kTileBytes + idx * 512;
  }

  /// Copies this lane's pieces of the k block that begins at `k`.
  __device__ void fill(int stage, int tile, const TileRows<W>& rows, int64_t k, int64_t k_len,
                       int quad) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t at = k + (64 * half + 16 * quad) / static_cast<int>(sizeof(W));
      const bool valid = at < k_len;
      const int64_t from = valid ? at : 0;
      foveal::cuda::cp_async<16>(piece(stage, tile, half), rows.low + from, valid ? 16 : 0);
      foveal::cuda::cp_async<16>(piece(stage, tile, 2 + half), rows.high + from, valid ? 16 : 0);
    }
  }
};

/// This lane's values of x for a k block: rows 8 * col + g, zeros past the last row and past k.
template <class T, class W, int kCols>
struct XBlock {
  static constexpr int kPieces = sizeof(T) / sizeof(W);  ///< of 16 bytes, to one of W
  uint4 v[kCols][2 * kPieces];

  __device__ void load(const T* const (&rows)[kCols], int64_t k, int64_t k_len, int quad) {
#pragma unroll
    for (int col = 0; col < kCols; ++col) {
#pragma unroll
      for (int i = 0; i < 2 * kPieces; ++i) {
        const int64_t at = k + (32 * (i / kPieces) + 8 * quad) * kPieces + 8 * (i % kPieces);
        v[col][i] = rows[col] != nullptr && at < k_len
                        ? *reinterpret_cast<const uint4*>(rows[col] + at)
                        : uint4{0, 0, 0, 0};
      }
    }
  }
};

/// The next kAhead blocks of a warp's values of x, which it reads in the same order for every unit:
/// asked for that much earlier, since each is a trip to the L2 cache until the L1 cache has it.
template <class T, class W, int kCols, int kAhead>
struct XQueue {
  using Block = XBlock<T, W, kCols>;
  Block blocks[kAhead];
  int next;  ///< k block to ask for

  /// Starts over at `first`; `last`: number of k blocks.
  __device__ void start(const T* const (&rows)[kCols], int first, int last, int64_t k_len,
                        int quad) {
    next = first;
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      blocks[i].load(rows, int64_t{next} * kBlockK<W>, k_len, quad);
      step(first, last);
    }
  }
  __device__ Block take(const T* const (&rows)[kCols], int first, int last, int64_t k_len,
                        int quad) {
    const Block now = blocks[0];
#pragma unroll
    for (int i = 0; i + 1 < kAhead; ++i) blocks[i] = blocks[i + 1];
    blocks[kAhead - 1].load(rows, int64_t{next} * kBlockK<W>, k_len, quad);
    step(first, last);
    return now;
  }

 private:
  __device__ void step(int first, int last) {
    next += kWarps;
    if (next >= last) next = first;
  }
};

/// acc += W x^T over one k block: [16 rows of W] x [8 rows of x] for each tile and column.
template <class T, int kTiles, int kCols, int kStages>
__device__ __forceinline__ void multiply(float (&acc)[kTiles][kCols][4],
                                         const WeightRing<T, kTiles, kStages>& ring, int stage,
                                         const XBlock<T, T, kCols>& x) {
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint4 low = foveal::cuda::load_shared_16(ring.piece(stage, tile, half));
      const uint4 high = foveal::cuda::load_shared_16(ring.piece(stage, tile, 2 + half));
      const uint32_t first[4] = {low.x, high.x, low.y, high.y};
      const uint32_t second[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
      for (int col = 0; col < kCols; ++col) {
        const uint4& v = x.v[col][half];
        foveal::cuda::mma_16x8x16<T>(acc[tile][col], first, {v.x, v.y});
        foveal::cuda::mma_16x8x16<T>(acc[tile][col], second, {v.z, v.w});
      }
    }
  }
}

/// The same over a k block of 128 values in e4m3; `scales`: of the block, each tile's two rows.
template <int kTiles, int kCols, int kStages>
__device__ __forceinline__ void multiply(float (&acc)[kTiles][kCols][4],
                                         const WeightRing<__nv_fp8_e4m3, kTiles, kStages>& ring,
                                         int stage,
                                         const XBlock<__nv_bfloat16, __nv_fp8_e4m3, kCols>& x,
                                         const float2 (&scales)[kTiles]) {
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    float part[kCols][4] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint4 low = foveal::cuda::load_shared_16(ring.piece(stage, tile, half));
      const uint4 high = foveal::cuda::load_shared_16(ring.piece(stage, tile, 2 + half));
      const uint32_t lows[4] = {low.x, low.y, low.z, low.w};
      const uint32_t highs[4] = {high.x, high.y, high.z, high.w};
#pragma unroll
      for (int step = 0; step < 4; ++step) {
        uint32_t w[4];
        foveal::cuda::e4m3x4_to_bf16x2(w[0], w[2], lows[step]);
        foveal::cuda::e4m3x4_to_bf16x2(w[1], w[3], highs[step]);
#pragma unroll
        for (int col = 0; col < kCols; ++col) {
          const uint4& v = x.v[col][2 * half + step / 2];
          const uint2 pair = step % 2 == 0 ? uint2{v.x, v.y} : uint2{v.z, v.w};
          foveal::cuda::mma_16x8x16<__nv_bfloat16>(part[col], w, {pair.x, pair.y});
        }
      }
    }
#pragma unroll
    for (int col = 0; col < kCols; ++col) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        acc[tile][col][i] += part[col][i] * (i < 2 ? scales[tile].x : scales[tile].y);
      }
    }
  }
}

/// One warp's sums of a tile, to be added up over the warps: [kCols * 8 rows of x][16 rows of W].
template <int kCols>
constexpr int partial_floats() {
  return kCols * 8 * kPartialStride;
}

template <int kCols>
__device__ __forceinline__ void put_partial(float* partial, const float (&acc)[kCols][4], int group,
                                            int quad) {
#pragma unroll
  for (int col = 0; col < kCols; ++col) {
    float* at = partial + (8 * col + 2 * quad) * kPartialStride + group;
    at[0] = acc[col][0];
    at[kPartialStride] = acc[col][1];
    at[8] = acc[col][2];
    at[kPartialStride + 8] = acc[col][3];
  }
}

/// The sum of row `row` of x and row `idx` of the tile over the warps, in their order.
__device__ __forceinline__ float sum_partials(const float* partials, int warp_stride, int row,
                                              int idx) {
  float sum = 0;
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) {
    sum += partials[warp * warp_stride + row * kPartialStride + idx];
  }
  return sum;
}

}  // namespace foveal::kernels::cuda::skinny
