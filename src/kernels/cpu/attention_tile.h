#pragma once

#include "kernels/cpu/attention_item.h"
#include "kernels/cpu/simd/vec.h"
#include "kernels/paged_attention.h"

// The two products of prefill attention on one level's vectors. Query rows lie in the lanes: a unit
// is kQueryTile rows of one head, and K, V elements are broadcast from the pages. So softmax is
// vertical, every row's arithmetic is its own lane's, and any head_dim works.
//
// A "cell" is four bytes: a pair of bf16 along the reduction, or one float32.

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

inline constexpr int kUnit = kQueryTile;
inline constexpr int kUnitVecs = kUnit / kLanes;
/// Units that share each broadcast. With 32 registers two halve the loads a product.
inline constexpr int kMaxUnits = kLanes == 16 ? 2 : 1;
/// Accumulators of a register block: latency (4-6) times two multiply-adds a cycle.
inline constexpr int kAccs = kLanes == 16 ? 16 : 8;
inline constexpr int kChunk = 16;  ///< keys that surely share a page
inline constexpr int kTileChunks = kKeyTile / kChunk;

/// Unmasked pairs of one tile and the item's rows of a unit.
FOVEAL_SIMD int64_t visible_pairs(const PrefillItem& item, int key0, int row0) {
  int64_t pairs = 0;
  const int begin = row0 > item.row_begin ? row0 : item.row_begin;
  const int end = row0 + kUnit < item.row_end ? row0 + kUnit : item.row_end;
  for (int row = begin; row < end; ++row) {
    const int first =
        item.window > 0 && row - item.window + 1 > key0 ? row - item.window + 1 : key0;
    const int last = row < key0 + kKeyTile - 1 ? row : key0 + kKeyTile - 1;
    if (last >= first) pairs += last - first + 1;
  }
  return pairs;
}

/// A considered tile of the unit whose first row is at row0.
FOVEAL_SIMD void count_tile(const PrefillItem& item, int head, int tile, int row0, bool drop,
                            TileCounts& counts) {
  ++counts.tiles;
  if (drop) {
    ++counts.tiles_skipped;
    counts.pairs_dropped += visible_pairs(item, tile * kKeyTile, row0);
  }
  if (item.tile_map == nullptr) return;
  const int64_t unit = row0 / kUnit - item.first_row / kUnit;
  item.tile_map[unit * item.map_tile_stride + head * item.map_head_stride + tile] = drop ? 2 : 1;
}

/// bf16 products, float32 sums.
struct Bf16Engine {
  static constexpr int kPair = 2;
  using Cell = Pairs;
  FOVEAL_SIMD Cell load_cells(const float* p) { return load_pairs(p); }
  FOVEAL_SIMD Cell broadcast(const float* p) { return broadcast_pair(p); }
  FOVEAL_SIMD F32 mac(F32 acc, Cell a, Cell b) { return dot(acc, a, b); }
};

/// float32 throughout.
struct F32Engine {
  static constexpr int kPair = 1;
  using Cell = F32;
  FOVEAL_SIMD Cell load_cells(const float* p) { return load(p); }
  FOVEAL_SIMD Cell broadcast(const float* p) { return set1(*p); }
  FOVEAL_SIMD F32 mac(F32 acc, Cell a, Cell b) { return fma(a, b, acc); }
};

/// s[unit][key][row] = sum over d of k[d][key] q[d][unit][row] for one chunk's keys, and the
/// maximum over them joined into `top`. Strides are in cells.
template <class E, int kUnits>
FOVEAL_SIMD void score_chunk(const float* q, int64_t q_stride, const float* k, int64_t k_stride,
                             int steps, float* s, int64_t s_unit_stride,
                             F32 (&top)[kUnits * kUnitVecs]) {
  constexpr int kVecs = kUnits * kUnitVecs;
  constexpr int kKeys = kAccs / kVecs;
  for (int key0 = 0; key0 < kChunk; key0 += kKeys) {
    F32 acc[kKeys][kVecs];
#pragma GCC unroll 16
    for (int key = 0; key < kKeys; ++key) {
#pragma GCC unroll 8
      for (int vec = 0; vec < kVecs; ++vec) acc[key][vec] = zero();
    }
    const float* k_row = k + key0;
    const float* q_row = q;
    for (int step = 0; step < steps; ++step, k_row += k_stride, q_row += q_stride) {
      typename E::Cell rows[kVecs];
#pragma GCC unroll 8
      for (int vec = 0; vec < kVecs; ++vec) rows[vec] = E::load_cells(q_row + vec * kLanes);
#pragma GCC unroll 16
      for (int key = 0; key < kKeys; ++key) {
        const typename E::Cell cell = E::broadcast(k_row + key);
#pragma GCC unroll 8
        for (int vec = 0; vec < kVecs; ++vec)
          acc[key][vec] = E::mac(acc[key][vec], rows[vec], cell);
      }
    }
#pragma GCC unroll 8
    for (int vec = 0; vec < kVecs; ++vec) {
      float* out = s + (vec / kUnitVecs) * s_unit_stride + (vec % kUnitVecs) * kLanes;
#pragma GCC unroll 16
      for (int key = 0; key < kKeys; ++key) {
        store(out + (key0 + key) * kUnit, acc[key][vec]);
        top[vec] = max(top[vec], acc[key][vec]);
      }
    }
  }
}

/// o[unit][d][row] += sum over the chunks' keys of p[unit][key][row] v[key][d], for kChannels
/// channels; v points at the first.
template <class E, int kUnits, int kChannels>
FOVEAL_SIMD void value_channels(const float* p, int64_t p_unit_stride, const float* const* v,
                                int num_chunks, int64_t v_stride, int channel, float* o,
                                int64_t o_unit_stride) {
  constexpr int kVecs = kUnits * kUnitVecs;
  constexpr int kSteps = kChunk / E::kPair;
  F32 acc[kChannels][kVecs];
#pragma GCC unroll 16
  for (int ch = 0; ch < kChannels; ++ch) {
#pragma GCC unroll 8
    for (int vec = 0; vec < kVecs; ++vec) {
      acc[ch][vec] = load(o + (vec / kUnitVecs) * o_unit_stride + (channel + ch) * kUnit +
                          (vec % kUnitVecs) * kLanes);
    }
  }
  const float* p_row = p;
  for (int chunk = 0; chunk < num_chunks; ++chunk) {
    const float* v_row = v[chunk] + channel;
    for (int step = 0; step < kSteps; ++step, v_row += v_stride, p_row += kUnit) {
      typename E::Cell rows[kVecs];
#pragma GCC unroll 8
      for (int vec = 0; vec < kVecs; ++vec) {
        rows[vec] =
            E::load_cells(p_row + (vec / kUnitVecs) * p_unit_stride + (vec % kUnitVecs) * kLanes);
      }
#pragma GCC unroll 16
      for (int ch = 0; ch < kChannels; ++ch) {
        const typename E::Cell cell = E::broadcast(v_row + ch);
#pragma GCC unroll 8
        for (int vec = 0; vec < kVecs; ++vec) acc[ch][vec] = E::mac(acc[ch][vec], rows[vec], cell);
      }
    }
  }
#pragma GCC unroll 16
  for (int ch = 0; ch < kChannels; ++ch) {
#pragma GCC unroll 8
    for (int vec = 0; vec < kVecs; ++vec) {
      store(o + (vec / kUnitVecs) * o_unit_stride + (channel + ch) * kUnit +
                (vec % kUnitVecs) * kLanes,
            acc[ch][vec]);
    }
  }
}

/// The same for all channels.
template <class E, int kUnits>
static void add_values(const float* p, int64_t p_unit_stride, const float* const* v, int num_chunks,
                       int head_dim, float* o, int64_t o_unit_stride) {
  constexpr int kBlock = kAccs / (kUnits * kUnitVecs);
  int channel = 0;
  for (; channel + kBlock <= head_dim; channel += kBlock) {
    value_channels<E, kUnits, kBlock>(p, p_unit_stride, v, num_chunks, head_dim, channel, o,
                                      o_unit_stride);
  }
  for (; channel < head_dim; channel += 2) {
    value_channels<E, kUnits, 2>(p, p_unit_stride, v, num_chunks, head_dim, channel, o,
                                 o_unit_stride);
  }
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
