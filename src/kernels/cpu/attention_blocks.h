#pragma once

#include "kernels/cpu/attention_tile.h"

// What prefill attention works on: groups of query rows against blocks of keys, how they are made
// from a call's item and how results leave them.

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

/// Keys between two updates of a row's running maximum and accumulator; tiles are scored and voted
/// on one by one inside. Scores, K and V of a block and one group's accumulators fit L1 and a bit.
inline constexpr int kBlockTiles = 4;
inline constexpr int kBlockKeys = kBlockTiles * kKeyTile;
inline constexpr int kBlockChunks = kBlockTiles * kTileChunks;
inline constexpr int kGroupRows = kUnit * kMaxUnits;
inline constexpr float kInf = __builtin_inff();

/// Up to kMaxUnits units of one head: the rows that share each broadcast.
struct Group {
  float* q = nullptr;  ///< [steps][kMaxUnits][kUnit] cells
  float* o = nullptr;  ///< [kMaxUnits][head_dim][kUnit]
  float max[kMaxUnits][kUnit];
  float sum[kMaxUnits][kUnit];
  int head = 0;
  int row0 = 0;        ///< position of unit 0's first row
  int unit_begin = 0;  ///< units that hold rows of this item
  int unit_end = 0;
  int last_tile = 0;  ///< the one on the diagonal
  int first_tile[kMaxUnits];
};

/// A block of keys, ready for broadcasts: one pointer a chunk, strides in cells.
struct Block {
  const float* k[kBlockChunks] = {};
  const float* v[kBlockChunks] = {};
  int64_t k_stride = 0;
  int first_tile = 0;
};

struct Scratch {
  float* scores = nullptr;  ///< [kMaxUnits][kBlockKeys][kUnit]; a unit's weights overwrite them
  float* k = nullptr;       ///< [kBlockChunks][head_dim][kChunk], widened
  float* v = nullptr;       ///< [kBlockChunks][kChunk][head_dim], widened
  float* groups = nullptr;  ///< q and o of kMaxItemGroups row blocks
};

inline constexpr int64_t kScoreStride = static_cast<int64_t>(kBlockKeys) * kUnit;

/// Where a chunk of keys lies, in cells: `k` at [channel step][token], `v` at [token
/// step][channel].
struct ChunkPlace {
  const std::byte* k = nullptr;
  const std::byte* v = nullptr;
};

static ChunkPlace locate(const KvHead& kv, int key) {
  const int64_t page = static_cast<int64_t>(kv.pages[key / kv.page_size]) * kv.page_bytes;
  const int64_t slot = key % kv.page_size;
  const int64_t k_bytes = kv.format == KvFormat::kF16 ? 2 : 4;  // a cell; bf16 pairs along d
  const int64_t v_bytes = kv.format == KvFormat::kF32 ? 4 : 2;  // a value; bf16 pairs along tokens
  return {kv.k + page + slot * k_bytes, kv.v + page + slot * kv.head_dim * v_bytes};
}

/// One chunk as float32: k [head_dim][kChunk], v [kChunk][head_dim].
static void widen_chunk(const KvHead& kv, const ChunkPlace& place, float* k, float* v) {
  const int64_t stride = kv.page_size;
  for (int step = 0; kv.format == KvFormat::kBf16 && step < kv.head_dim / 2; ++step) {
    for (int vec = 0; vec < kUnitVecs; ++vec) {
      const Pairs pair = load_pairs(place.k + (step * stride + vec * kLanes) * 4);
      store(k + 2 * step * kChunk + vec * kLanes, widen_even(pair));
      store(k + (2 * step + 1) * kChunk + vec * kLanes, widen_odd(pair));
    }
  }
  for (int ch = 0; kv.format == KvFormat::kF16 && ch < kv.head_dim; ++ch) {
    const auto* row = reinterpret_cast<const uint16_t*>(place.k) + ch * stride;
    for (int vec = 0; vec < kUnitVecs; ++vec) {
      store(k + ch * kChunk + vec * kLanes, load_f16(row + vec * kLanes));
    }
  }
  const auto* values = reinterpret_cast<const uint16_t*>(place.v);
  const int64_t count = static_cast<int64_t>(kChunk) * kv.head_dim;  // a multiple of 32
  if (kv.format == KvFormat::kF16) {
    for (int64_t at = 0; at < count; at += kLanes) store(v + at, load_f16(values + at));
    return;
  }
  for (int step = 0; step < kChunk / 2; ++step) {
    float* even = v + 2 * step * kv.head_dim;
    float* odd = even + kv.head_dim;
    const uint16_t* row = values + static_cast<int64_t>(step) * 2 * kv.head_dim;
    int ch = 0;
    for (; ch + kLanes <= kv.head_dim; ch += kLanes) {
      const Pairs pair = load_pairs(row + 2 * ch);
      store(even + ch, widen_even(pair));
      store(odd + ch, widen_odd(pair));
    }
    for (; ch < kv.head_dim; ++ch) {
      const uint32_t low = static_cast<uint32_t>(row[2 * ch]) << 16;
      const uint32_t high = static_cast<uint32_t>(row[2 * ch + 1]) << 16;
      __builtin_memcpy(even + ch, &low, sizeof(low));
      __builtin_memcpy(odd + ch, &high, sizeof(high));
    }
  }
}

template <class E>
static void open_block(const PrefillItem& item, const Scratch& scratch, int first_tile,
                       int last_tile, Block& block) {
  const KvHead& kv = item.kv;
  const bool in_place = E::kPair == 2 || kv.format == KvFormat::kF32;
  block.first_tile = first_tile;
  block.k_stride = in_place ? kv.page_size : kChunk;
  const int64_t cells = static_cast<int64_t>(kChunk) * kv.head_dim;
  for (int chunk = 0; chunk < kBlockChunks; ++chunk) {
    const int key = first_tile * kKeyTile + chunk * kChunk;
    if (key / kKeyTile > last_tile) break;
    if (key >= item.kv_len) {  // the second half of the last tile: masked, any address will do
      block.k[chunk] = block.k[chunk - 1];
      block.v[chunk] = block.v[chunk - 1];
      continue;
    }
    const ChunkPlace place = locate(kv, key);
    if (in_place) {
      block.k[chunk] = reinterpret_cast<const float*>(place.k);
      block.v[chunk] = reinterpret_cast<const float*>(place.v);
    } else {
      widen_chunk(kv, place, scratch.k + chunk * cells, scratch.v + chunk * cells);
      block.k[chunk] = scratch.k + chunk * cells;
      block.v[chunk] = scratch.v + chunk * cells;
    }
  }
}

/// Transposes a group's queries, scaled; rows of other items are zero.
template <class E>
static void open_group(const PrefillItem& item, Group& group) {
  const int head_dim = item.kv.head_dim;
  for (int unit = 0; unit < kMaxUnits; ++unit) {
    for (int lane = 0; lane < kUnit; ++lane) {
      group.max[unit][lane] = -kInf;
      group.sum[unit][lane] = 0;
    }
  }
  const int64_t o_count = static_cast<int64_t>(kMaxUnits) * head_dim * kUnit;
  for (int64_t at = 0; at < o_count; at += kLanes) store(group.o + at, zero());
  for (int row = 0; row < kGroupRows; ++row) {
    const int position = group.row0 + row;
    const bool here = position >= item.row_begin && position < item.row_end;
    const float* q = item.q + (position - item.first_row) * item.q_stride +
                     static_cast<int64_t>(group.head) * head_dim;
    float* cell = group.q + row;
    for (int step = 0; step < head_dim / E::kPair; ++step, cell += kGroupRows) {
      const float even = here ? q[step * E::kPair] * item.scale_log2 : 0;
      if constexpr (E::kPair == 2) {
        const float odd = here ? q[step * 2 + 1] * item.scale_log2 : 0;
        const Pairs pair = pack_pairs(set1(even), set1(odd));
        __builtin_memcpy(cell, &pair, sizeof(float));
      } else {
        *cell = even;
      }
    }
  }
}

static void close_group(const PrefillItem& item, const Group& group) {
  const int head_dim = item.kv.head_dim;
  for (int row = 0; row < kGroupRows; ++row) {
    const int position = group.row0 + row;
    if (position < item.row_begin || position >= item.row_end) continue;
    const int unit = row / kUnit;
    const int lane = row % kUnit;
    const float inverse = 1.0F / group.sum[unit][lane];
    const float* o = group.o + static_cast<int64_t>(unit) * head_dim * kUnit + lane;
    float* out = item.out + (position - item.first_row) * item.out_stride +
                 static_cast<int64_t>(group.head) * head_dim;
    for (int ch = 0; ch < head_dim; ++ch) out[ch] = o[ch * kUnit] * inverse + 0.0F;
  }
}

static int first_tile_of(const PrefillItem& item, int row) {
  if (item.window == 0 || row < item.window) return 0;
  return (row - item.window + 1) / kKeyTile;
}

static int make_groups(const PrefillItem& item, const Scratch& scratch, Group* groups) {
  const int head_dim = item.kv.head_dim;
  const int64_t cells = static_cast<int64_t>(kGroupRows) * head_dim;
  int count = 0;
  const int row_first = item.row_begin / kGroupRows * kGroupRows;
  for (int row0 = row_first; row0 < item.row_end; row0 += kGroupRows) {
    for (int head = 0; head < item.num_heads; ++head) {
      Group& group = groups[count];
      group.q = scratch.groups + 2 * count * cells;
      group.o = group.q + cells;
      group.head = head;
      group.row0 = row0;
      group.last_tile = row0 / kKeyTile;
      group.unit_begin = item.row_begin >= row0 + kUnit ? 1 : 0;
      group.unit_end = item.row_end <= row0 + kUnit ? 1 : kMaxUnits;
      for (int unit = 0; unit < kMaxUnits; ++unit) {
        group.first_tile[unit] = first_tile_of(item, row0 + unit * kUnit);
      }
      ++count;
    }
  }
  return count;
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
