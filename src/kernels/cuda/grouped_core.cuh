#pragma once

#include "kernels/cuda/device/cp_async.cuh"
#include "kernels/cuda/device/mbarrier.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vec.cuh"
#include "kernels/cuda/moe_launch.h"

// What the grouped products share: the work list, which the device works out for itself, and tiles
// of 128 slots and 128 weight rows in shared memory.

namespace foveal::kernels::cuda::grouped {

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
      const int own = first + lane < p.num_experts ? chunks_of(first + lane) : 0;
      const int sum = warp_prefix_sum(own, lane);
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

template <class Element = __nv_bfloat16>
__device__ void store_pair(const GroupedGemmParams& p, int64_t at, float a, float b) {
  if (p.y_dtype == DType::kF32) {
    *reinterpret_cast<float2*>(static_cast<float*>(p.y) + at) = {a, b};
  } else {
    *reinterpret_cast<uint32_t*>(static_cast<Element*>(p.y) + at) = pack2(a, b, Element());
  }
}

constexpr int kTileThreads = 256;
constexpr int kTile = 128;       // slots, and weight rows
constexpr int kTileBytes = 128;  // of a row, a step
/// Values in a step along k.
template <class E>
constexpr int kTileK = kTileBytes / static_cast<int>(sizeof(E));
constexpr int kOperandBytes = kTile * kTileBytes;
constexpr int kStageBytes = 2 * kOperandBytes;

/// 16-byte piece `piece` of row `row` in a tile of 128-byte rows: xor-swizzled, so that eight rows
/// of one column land in different banks.
__device__ __forceinline__ uint32_t tile_address(uint32_t tile, int row, int piece) {
  return tile + row * kTileBytes + ((piece ^ (row & 7)) << 4);
}

/// What a thread copies: one 16-byte piece of every 32nd row of each operand.
template <class E>
struct TileCopy {
  const E* x[4];   ///< null past the last slot
  const E* w;      ///< row threadIdx.x / 8 of the tile
  int64_t w_rows;  ///< weight rows from there to the end

  __device__ void enter(const GroupedGemmParams& p, const Piece& piece, int64_t first_col) {
    const int own = static_cast<int>(threadIdx.x) / 8;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = own + 32 * i;
      x[i] = nullptr;
      if (row < piece.count) {
        const int64_t from = p.slots[piece.first + row] / p.x_divisor;
        x[i] = static_cast<const E*>(p.x) + from * p.x_stride;
      }
    }
    w = static_cast<const E*>(p.weight) + (piece.expert * p.n + first_col + own) * p.k;
    w_rows = p.n - first_col - own;
  }
  __device__ void copy(const GroupedGemmParams& p, uint32_t stage, int64_t k) const {
    const int own = static_cast<int>(threadIdx.x) / 8;
    const int piece = static_cast<int>(threadIdx.x) % 8;
    const int64_t at = k + piece * (16 / static_cast<int>(sizeof(E)));
    const auto* any = static_cast<const E*>(p.x);
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

}  // namespace foveal::kernels::cuda::grouped
