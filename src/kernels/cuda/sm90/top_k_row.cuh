#pragma once

#include <cstdint>

#include "kernels/cuda/radix_select.cuh"
#include "kernels/cuda/sm90/top_k_args.h"

// Code of this kernel is kept short (loops as they stand, one copy of each step): with one row most
// of its time is that of fetching instructions nobody has run for a while.

namespace foveal::kernels::cuda::top_k {

inline constexpr int kThreads = 512;
inline constexpr int kWarps = kThreads / 32;
inline constexpr int kMostCtas = 16;
inline constexpr uint32_t kMostValues = 1U << 20;  ///< of a row
inline constexpr int kLoads = 4;    ///< of 16 bytes, that a thread has under way at once
inline constexpr int kBlock = 128;  ///< values that a warp loads at once
inline constexpr int kTileBlocks = kWarps * kLoads;

__device__ inline float no_value() { return __int_as_float(0x7fffffff); }

/// One row's values. Blocks of 128 begin at multiples of 16 bytes, so the first and the last may
/// reach past the row.
struct Row {
  const float* values;
  int32_t length;
  int32_t loaded;  ///< values that are loaded: more, where that begins before the length is known

  __device__ static int32_t which_length(const foveal_top_k_params& p, int32_t row) {
    return p.rows_a_length == 1 ? row : row / p.rows_a_length;  // a division takes its time
  }
  __device__ static Row of(const foveal_top_k_params& p, int32_t row) {
    int32_t begin = 0;
    int32_t end = p.max_length;
    if (p.lengths != nullptr) {
      const int32_t at = which_length(p, row);
      end = p.lengths[at];
      if (p.starts != nullptr) begin = max(p.starts[at], 0);
    }
    const int32_t length = min(max(end - begin, 0), p.max_length);
    return {p.values + row * p.row_stride + begin, length, length};
  }
  /// The row if it is as long as a row may be: nothing has to be read to know.
  __device__ static Row longest(const foveal_top_k_params& p, int32_t row) {
    return {p.values + row * p.row_stride, p.max_length, p.max_length};
  }

  /// Places of the first block that are not the row's: 0 to 3.
  __device__ int32_t before() const {
    return static_cast<int32_t>(reinterpret_cast<uintptr_t>(values) / 4 % 4);
  }
  __device__ int32_t blocks() const { return (length + before() + kBlock - 1) / kBlock; }
  /// Whether values first to first + 3 are loaded: all are, or see Edge.
  __device__ bool whole(int32_t first) const { return first >= 0 && first + 4 <= loaded; }
  __device__ float4 load(int32_t first) const {
    float4 out{no_value(), no_value(), no_value(), no_value()};
    if (whole(first)) out = __ldcg(reinterpret_cast<const float4*>(values + first));
    return out;
  }
  /// A bit for each of values first to first + 3 that is loaded and the row's.
  __device__ uint32_t inside(int32_t first) const {
    return whole(first) ? (1U << min(max(length - first, 0), 4)) - 1 : 0;
  }
};

/// What of a row's ends is not a whole group of four at a multiple of 16 bytes: up to three values
/// each, one a thread of the first CTA.
struct Edge {
  float value;
  int32_t index;  ///< or -1

  __device__ static Edge of(const Row& row, int32_t rank) {
    const auto thread = static_cast<int32_t>(threadIdx.x);
    const int32_t head = min(-row.before() & 3, row.loaded);
    const int32_t tail = (row.loaded - head) & 3;
    Edge out{no_value(), -1};
    if (rank == 0 && thread < head + tail) {
      out.index = thread < head ? thread : row.loaded - 1 - (thread - head);
      out.value = __ldcg(row.values + out.index);
    }
    return out;
  }
};

/// Which blocks a CTA goes through: CTAs and warps in turn, so that a stretch of large values falls
/// to all of them, in tiles. Of few tiles each is spread over the whole row, and so a sample of it.
struct Deal {
  int32_t tiles;
  bool spread;
  int32_t origin;  ///< index of this thread's first value in the first block, below 0 where none is
  int32_t tile_step;
  int32_t load_step;

  __device__ static Deal of(const Row& row, int32_t log2_ctas, int32_t rank) {
    constexpr int32_t kMostSpread = 4;
    const auto thread = static_cast<int32_t>(threadIdx.x);
    const int32_t own = (row.blocks() + (1 << log2_ctas) - 1) >> log2_ctas;
    const int32_t tiles = (own + kTileBlocks - 1) / kTileBlocks;
    const bool spread = tiles <= kMostSpread;
    const int32_t apart = spread ? tiles : 1;  // from one warp's block to the next one's
    const int32_t round = kBlock << log2_ctas;
    return {tiles, spread,
            thread / 32 * apart * round + rank * kBlock + thread % 32 * 4 - row.before(),
            spread ? round : kTileBlocks * round, kWarps * apart * round};
  }
  /// Where the four values of a load begin.
  __device__ int32_t first(int32_t tile, int load) const {
    return origin + tile * tile_step + load * load_step;
  }
};

__device__ inline float key_float(uint32_t key) {
  return __uint_as_float((key & 0x80000000U) != 0 ? key ^ 0x80000000U : ~key);
}

/// The greatest number that is less than those of a key; the two zeros have one.
__device__ inline float float_below(uint32_t key) {
  return key_float(key - (key == 0x80000000U ? 2 : 1));
}
/// Shifts `bits` and puts behind them whether `value` is greater than `bound`: the sign of
/// a difference, which is never rounded to 0. Nothing is greater than NaN or the other way round.
__device__ inline uint32_t push_greater(uint32_t bits, float value, float bound) {
  return __funnelshift_l(__float_as_uint(bound - value), bits, 1);
}

/// What a thread has loaded of a tile.
struct Tile {
  float4 loads[kLoads];

  /// Whether what was loaded is what counts: not so of a row that turned out to be shorter, or
  /// where NaN has to be a candidate.
  __device__ void mend(const Row& row, const Deal& deal, int32_t tile, bool all) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const uint32_t inside = row.inside(deal.first(tile, i));
      float* values = &loads[i].x;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float value = all ? fmaxf(values[j], -INFINITY) : values[j];
        values[j] = (inside >> j & 1) != 0 ? value : no_value();
      }
    }
  }

  __device__ void load(const Row& row, const Deal& deal, int32_t tile) {
    const int32_t first = deal.first(tile, 0);
    if (first >= 0 && deal.first(tile, kLoads - 1) + 4 <= row.loaded) {
      const float* from = row.values + first;
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        loads[i] = __ldcg(reinterpret_cast<const float4*>(from + i * deal.load_step));
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) loads[i] = row.load(deal.first(tile, i));
  }

  /// Bits of the values greater than `bound`, the first one's lowest.
  __device__ uint32_t greater(float bound) const {
    uint32_t bits = 0;
#pragma unroll
    for (int i = kLoads - 1; i >= 0; --i) {
      bits = push_greater(bits, loads[i].w, bound);
      bits = push_greater(bits, loads[i].z, bound);
      bits = push_greater(bits, loads[i].y, bound);
      bits = push_greater(bits, loads[i].x, bound);
    }
    return bits;
  }
  /// visit(value, load, place in it) for those of `bits`, in that order.
  template <class Visit>
  __device__ void each_of(uint32_t bits, Visit visit) const {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      uint32_t left = bits >> 4 * i & 0xfU;
      while (left != 0) {
        const int j = __ffs(static_cast<int>(left)) - 1;
        left &= left - 1;
        const float4& v = loads[i];
        visit(j < 2 ? (j == 0 ? v.x : v.y) : (j == 2 ? v.z : v.w), i, j);
      }
    }
  }
};

inline constexpr uint32_t kInfinityBelow = 0x007fffffU;  ///< order_key(-INFINITY), and of NaN
/// order_key of what is not NaN.
__device__ inline uint32_t number_key(float value) {
  const uint32_t bits = __float_as_uint(value + 0.0F);
  return bits ^ (static_cast<uint32_t>(static_cast<int32_t>(bits) >> 31) | 0x80000000U);
}

/// Where the results of a row go.
struct Output {
  int32_t* indices;
  int32_t* slots;
  const int32_t* pages;
  uint64_t page_inverse;
  int32_t page_size;

  __device__ static Output of(const TopKArgs& args, int32_t row) {
    const foveal_top_k_params& p = args.call;
    const int64_t at = row * p.indices_stride;
    Output out{p.indices != nullptr ? p.indices + at : nullptr, nullptr, nullptr, args.page_inverse,
               p.page_size};
    if (p.slots != nullptr) {
      const int32_t seq = p.row_seq != nullptr ? p.row_seq[row] : row / p.rows_a_length;
      out.slots = p.slots + at;
      out.pages = p.page_table + seq * p.page_table_stride;
    }
    return out;
  }
  __device__ void put(int32_t position, int32_t index) const {
    if (indices != nullptr) indices[position] = index;
    if (slots == nullptr) return;
    int32_t slot = -1;
    if (index >= 0) {
      const auto page = static_cast<int32_t>((static_cast<uint64_t>(index) * page_inverse) >> 40);
      slot = pages[page] * page_size + (index - page * page_size);
    }
    slots[position] = slot;
  }
};

}  // namespace foveal::kernels::cuda::top_k
