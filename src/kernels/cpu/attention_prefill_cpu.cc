#include "kernels/cpu/attention_isa.h"

#include "kernels/cpu/attention_blocks.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

FOVEAL_SIMD F32 safe_max(F32 top) { return select(gt(top, set1(-kInf)), top, zero()); }

/// Hides keys that a row must not see, and finds the tile's maxima anew. Lane i is the row at
/// row0 + i; key <= row and key > row - window.
FOVEAL_SIMD void mask_tile(float* s, int key0, int row0, int window, F32 (&top)[kUnitVecs]) {
  for (int vec = 0; vec < kUnitVecs; ++vec) top[vec] = set1(-kInf);
  for (int key = 0; key < kKeyTile; ++key) {
    const F32 low = set1(static_cast<float>(key0 + key - row0));
    const F32 high =
        set1(window > 0 ? static_cast<float>(key0 + key - row0 + (int64_t)window) : kInf);
    for (int vec = 0; vec < kUnitVecs; ++vec) {
      const F32 lane = iota() + set1(static_cast<float>(vec * kLanes));
      float* cell = s + key * kUnit + vec * kLanes;
      const F32 score = select(le(low, lane) & lt(lane, high), load(cell), set1(-kInf));
      store(cell, score);
      top[vec] = max(top[vec], score);
    }
  }
}

/// True when every row that sees a key of the tile would lose less than the threshold.
FOVEAL_SIMD bool vote_drop(const F32 (&top)[kUnitVecs], const float* running, int rows,
                           float threshold) {
  for (int vec = 0; vec < kUnitVecs; ++vec) {
    const int here = rows - vec * kLanes;
    const Mask present = mask_first(here < 0 ? 0 : here > kLanes ? kLanes : here);
    const F32 change = top[vec] - load(running + vec * kLanes);
    // a row without any key so far has change = +inf and keeps; one that sees nothing here abstains
    const Mask keep = le(set1(threshold), change) & gt(top[vec], set1(-kInf)) & present;
    if (any(keep)) return false;
  }
  return true;
}

/// exp2(s - max) of a kept tile, packed to cells at `p` (which may be where `s` is), and its sum.
template <class E>
FOVEAL_SIMD void weigh_tile(const float* s, const F32 (&top)[kUnitVecs], float* p,
                            F32 (&sum)[kUnitVecs]) {
  F32 partial[kUnitVecs];
  for (int vec = 0; vec < kUnitVecs; ++vec) partial[vec] = zero();
  if constexpr (E::kPair == 2) {
#if FOVEAL_ISA_LEVEL >= 3
    const Pairs ones = set1_pair(0x3f803f80U);
#pragma GCC unroll 4
    for (int key = 0; key < kKeyTile; key += 2) {
      const F32 even = exp2_coarse(load(s + key * kUnit) - top[0]);
      const F32 odd = exp2_coarse(load(s + (key + 1) * kUnit) - top[0]);
      const Pairs pair = pack_pairs(even, odd);
      partial[0] = dot(partial[0], pair, ones);  // sums what is used: the rounded weights
      store_pairs(p + key / 2 * kUnit, pair);
    }
#endif
  } else {
    for (int key = 0; key < kKeyTile; ++key) {
      for (int vec = 0; vec < kUnitVecs; ++vec) {
        const int64_t at = key * kUnit + vec * kLanes;
        const F32 weight = exp2(load(s + at) - top[vec]);
        partial[vec] = partial[vec] + weight;
        store(p + at, weight);
      }
    }
  }
  for (int vec = 0; vec < kUnitVecs; ++vec) sum[vec] = sum[vec] + partial[vec];
}

/// Scores and votes on a block's tiles for one group; answers each unit's kept tiles as bits and
/// raises its running maximum.
template <class E, bool kSkip, int kUnits>
static void score_block(const PrefillItem& item, const Block& block, Group& group, float* scores,
                        uint32_t (&kept)[kMaxUnits], TileCounts& counts) {
  const int steps = item.kv.head_dim / E::kPair;
  const int unit0 = kUnits == 1 ? group.unit_begin : 0;
  for (int local = 0; local < kBlockTiles; ++local) {
    const int tile = block.first_tile + local;
    const int key0 = tile * kKeyTile;
    if (tile > group.last_tile) break;
    bool wanted = false;
    for (int unit = unit0; unit < unit0 + kUnits; ++unit) wanted |= tile >= group.first_tile[unit];
    if (!wanted) continue;
    F32 top[kUnits * kUnitVecs];
    for (int vec = 0; vec < kUnits * kUnitVecs; ++vec) top[vec] = set1(-kInf);
    float* s = scores + unit0 * kScoreStride + local * kKeyTile * kUnit;
    for (int chunk = 0; chunk < kTileChunks; ++chunk) {
      score_chunk<E, kUnits>(group.q + unit0 * kUnit, kMaxUnits * kUnit,
                             block.k[local * kTileChunks + chunk], block.k_stride, steps,
                             s + chunk * kChunk * kUnit, kScoreStride, top);
    }
    for (int idx = 0; idx < kUnits; ++idx) {
      const int unit = unit0 + idx;
      const int row0 = group.row0 + unit * kUnit;
      if (tile < group.first_tile[unit]) continue;
      F32 unit_top[kUnitVecs];
      for (int vec = 0; vec < kUnitVecs; ++vec) unit_top[vec] = top[idx * kUnitVecs + vec];
      const bool masked =
          key0 + kKeyTile - 1 > row0 || (item.window > 0 && key0 <= row0 + kUnit - 1 - item.window);
      if (masked) mask_tile(s + idx * kScoreStride, key0, row0, item.window, unit_top);
      float* running = group.max[unit];
      const bool drop = kSkip && tile > group.first_tile[unit] &&
                        vote_drop(unit_top, running, item.row_end - row0, item.skip.threshold);
      if (item.count) count_tile(item, group.head, tile, row0, drop, counts);
      if (drop) continue;
      kept[unit] |= 1U << local;
      for (int vec = 0; vec < kUnitVecs; ++vec) {
        float* cell = running + vec * kLanes;
        store(cell, max(load(cell), unit_top[vec]));
      }
    }
  }
}

/// Brings a unit's sums to its new maximum. A factor of one changes no bit, so whether other lanes
/// needed it does not matter.
FOVEAL_SIMD void rescale(Group& group, int unit, const float* before, int head_dim) {
  Mask risen[kUnitVecs];
  bool needed = false;
  for (int vec = 0; vec < kUnitVecs; ++vec) {
    risen[vec] = lt(load(before + vec * kLanes), load(group.max[unit] + vec * kLanes));
    needed |= any(risen[vec]);
  }
  if (!needed) return;
  for (int vec = 0; vec < kUnitVecs; ++vec) {
    const F32 old_max = load(before + vec * kLanes);
    const F32 new_max = load(group.max[unit] + vec * kLanes);
    const F32 factor = select(risen[vec], exp2(old_max - safe_max(new_max)), set1(1.0F));
    float* sum = group.sum[unit] + vec * kLanes;
    store(sum, load(sum) * factor);
    float* o = group.o + static_cast<int64_t>(unit) * head_dim * kUnit + vec * kLanes;
    for (int ch = 0; ch < head_dim; ++ch) store(o + ch * kUnit, load(o + ch * kUnit) * factor);
  }
}

/// Softmax weights of a unit's kept tiles, compacted; the number of chunks.
template <class E>
static int weigh_unit(Group& group, int unit, uint32_t kept, float* s) {
  F32 top[kUnitVecs];
  F32 sum[kUnitVecs];
  for (int vec = 0; vec < kUnitVecs; ++vec) {
    top[vec] = safe_max(load(group.max[unit] + vec * kLanes));
    sum[vec] = load(group.sum[unit] + vec * kLanes);
  }
  int num_tiles = 0;
  for (int local = 0; local < kBlockTiles; ++local) {
    if ((kept >> local & 1U) == 0) continue;
    weigh_tile<E>(s + local * kKeyTile * kUnit, top, s + num_tiles * (kKeyTile / E::kPair) * kUnit,
                  sum);
    ++num_tiles;
  }
  for (int vec = 0; vec < kUnitVecs; ++vec) store(group.sum[unit] + vec * kLanes, sum[vec]);
  return num_tiles * kTileChunks;
}

static int kept_values(const Block& block, uint32_t kept, const float** v) {
  int num_chunks = 0;
  for (int chunk = 0; chunk < kBlockChunks; ++chunk) {
    if ((kept >> (chunk / kTileChunks) & 1U) != 0) v[num_chunks++] = block.v[chunk];
  }
  return num_chunks;
}

/// One group against one block of keys.
template <class E, bool kSkip, int kUnits>
static void attend_block(const PrefillItem& item, const Block& block, Group& group, float* scores,
                         TileCounts& counts) {
  const int unit0 = kUnits == 1 ? group.unit_begin : 0;
  const int head_dim = item.kv.head_dim;
  const int64_t o_stride = static_cast<int64_t>(head_dim) * kUnit;
  float before[kMaxUnits][kUnit];
  __builtin_memcpy(before, group.max, sizeof(before));
  uint32_t kept[kMaxUnits] = {};
  score_block<E, kSkip, kUnits>(item, block, group, scores, kept, counts);
  for (int unit = unit0; unit < unit0 + kUnits; ++unit) {
    if (kept[unit] == 0) continue;
    rescale(group, unit, before[unit], head_dim);
    weigh_unit<E>(group, unit, kept[unit], scores + unit * kScoreStride);
  }
  const float* v[kBlockChunks];
  if (kUnits == kMaxUnits && kept[0] == kept[kMaxUnits - 1]) {
    if (kept[0] == 0) return;
    const int num_chunks = kept_values(block, kept[0], v);
    add_values<E, kUnits>(scores, kScoreStride, v, num_chunks, head_dim, group.o, o_stride);
    return;
  }
  for (int unit = unit0; unit < unit0 + kUnits; ++unit) {
    if (kept[unit] == 0) continue;
    const int num_chunks = kept_values(block, kept[unit], v);
    add_values<E, 1>(scores + unit * kScoreStride, 0, v, num_chunks, head_dim,
                     group.o + unit * o_stride, 0);
  }
}

template <class E, bool kSkip>
static void run_item(const PrefillItem& item, const Scratch& scratch, TileCounts& counts) {
  Group groups[kMaxItemGroups * kRowBlock / kGroupRows];
  const int num_groups = make_groups(item, scratch, groups);
  int first = groups[0].last_tile;
  int last = 0;
  for (int idx = 0; idx < num_groups; ++idx) {
    Group& group = groups[idx];
    open_group<E>(item, group);
    const int own = group.first_tile[group.unit_begin];
    first = own < first ? own : first;
    last = group.last_tile > last ? group.last_tile : last;
  }
  for (int tile = first / kBlockTiles * kBlockTiles; tile <= last; tile += kBlockTiles) {
    Block block;
    open_block<E>(item, scratch, tile, last, block);
    for (int idx = 0; idx < num_groups; ++idx) {
      Group& group = groups[idx];
      if (tile > group.last_tile) continue;
      if (tile + kBlockTiles <= group.first_tile[group.unit_begin]) continue;
      if (group.unit_end - group.unit_begin == kMaxUnits) {
        attend_block<E, kSkip, kMaxUnits>(item, block, group, scratch.scores, counts);
      } else {
        attend_block<E, kSkip, 1>(item, block, group, scratch.scores, counts);
      }
    }
  }
  for (int idx = 0; idx < num_groups; ++idx) close_group(item, groups[idx]);
}

template <class E>
static void choose_policy(const PrefillItem& item, const Scratch& scratch, TileCounts& counts) {
  if (item.skip.on) {
    run_item<E, true>(item, scratch, counts);
  } else {
    run_item<E, false>(item, scratch, counts);
  }
}

}  // namespace

size_t attention_prefill_scratch(int32_t head_dim) {
  const int64_t scores = kMaxUnits * kScoreStride;
  const int64_t kv = 2 * static_cast<int64_t>(kBlockKeys) * head_dim;
  const int64_t groups = 2 * static_cast<int64_t>(kMaxItemGroups) * kRowBlock * head_dim;
  return static_cast<size_t>(scores + kv + groups) * sizeof(float);
}

// Computes:  out[r] = sum_t w[r][t] v[t] / sum_t w[r][t], w = 2^(scale q[r] . k[t] - running max),
//            over the unmasked keys of kept tiles
// In/out:    q, out [rows, heads, head_dim] float32, row strides; K, V pages (base/kv_view.h)
// Units:     rows and keys by absolute position; scores in the log2 domain
// Launch:    one call a (sequence, KV head, block of rows), for up to kMaxItemHeads query heads
// Needs:     head_dim even, <= 256; pages of a multiple of 16 tokens; finite unused slots
// Numerics:  bf16 products, float32 sums, weights rounded to bf16 and summed as rounded; float32
//            throughout when `exact` or below avx512bf16. A row is a lane: nothing else in its call
//            changes its bits. A masked key adds an exact zero
// Source:    flash attention; Skip Softmax, BLASST (arXiv 2512.12087)
// Measured:  1 core of a Zen 5 EPYC, 2026-11-24, thread CPU time, neighbours busy: 512 rows at
//            depth 7,680, head_dim 64: 426-446 GFLOP/s, 86-90 % of the bf16 peak of the same run
void attention_prefill(const PrefillItem& item, std::byte* bytes, TileCounts& counts) {
  const int64_t kv = static_cast<int64_t>(kBlockKeys) * item.kv.head_dim;
  Scratch scratch;
  scratch.scores = reinterpret_cast<float*>(bytes);
  scratch.k = scratch.scores + kMaxUnits * kScoreStride;
  scratch.v = scratch.k + kv;
  scratch.groups = scratch.v + kv;
#if FOVEAL_ISA_LEVEL >= 3
  if (item.kv.format == KvFormat::kBf16 && !item.exact) {
    choose_policy<Bf16Engine>(item, scratch, counts);
    return;
  }
#endif
  choose_policy<F32Engine>(item, scratch, counts);
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
