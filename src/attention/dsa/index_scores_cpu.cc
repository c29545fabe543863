#include "attention/dsa/index_isa.h"
#include "kernels/cpu/simd/e4m3.h"
#include "kernels/cpu/simd/reduce4.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

constexpr int kKeys = 8;  ///< side by side: each is a chain of sums

/// A word is what one head's query and a key multiply at once.
struct Floats {
  using Cell = F32;
  static constexpr int kChannels = 1;
  FOVEAL_SIMD Cell load_queries(const float* p) { return load(p); }
  FOVEAL_SIMD Cell broadcast(const float* p) { return set1(*p); }
  FOVEAL_SIMD F32 mac(F32 acc, Cell a, Cell b) { return fma(a, b, acc); }
};
struct PairsOfBf16 {
  using Cell = Pairs;
  static constexpr int kChannels = 2;
  FOVEAL_SIMD Cell load_queries(const float* p) { return load_pairs(p); }
  FOVEAL_SIMD Cell broadcast(const float* p) { return broadcast_pair(p); }
  FOVEAL_SIMD F32 mac(F32 acc, Cell a, Cell b) { return dot(acc, a, b); }
};

/// sums[key] += factors max(0, q . key) for kKeys keys and kVecs vectors of heads.
template <class F, int kVecs>
FOVEAL_SIMD void add_heads(const float* queries, const float* factors, const float* const* keys,
                           int words, F32 (&sums)[kKeys]) {
  F32 acc[kVecs][kKeys];
#pragma GCC unroll 2
  for (int vec = 0; vec < kVecs; ++vec) {
#pragma GCC unroll 8
    for (int key = 0; key < kKeys; ++key) acc[vec][key] = zero();
  }
  for (int word = 0; word < words; ++word) {
    typename F::Cell q[kVecs];
#pragma GCC unroll 2
    for (int vec = 0; vec < kVecs; ++vec) {
      q[vec] = F::load_queries(queries + (static_cast<int64_t>(vec) * words + word) * kLanes);
    }
#pragma GCC unroll 8
    for (int key = 0; key < kKeys; ++key) {
      const typename F::Cell cell = F::broadcast(keys[key] + word);
#pragma GCC unroll 2
      for (int vec = 0; vec < kVecs; ++vec) acc[vec][key] = F::mac(acc[vec][key], q[vec], cell);
    }
  }
#pragma GCC unroll 2
  for (int vec = 0; vec < kVecs; ++vec) {
    const F32 factor = load(factors + vec * kLanes);
#pragma GCC unroll 8
    for (int key = 0; key < kKeys; ++key) {
      sums[key] = fma(max(zero(), acc[vec][key]), factor, sums[key]);  // keeps a NaN
    }
  }
}

/// One row against the keys of a tile.
template <class F>
void score_row(const float* queries, const float* factors, int num_heads, int dim,
               const float* const* keys, const float* scales, int num_keys, float* out) {
  const int words = dim / F::kChannels;
  const int vecs = (num_heads + kLanes - 1) / kLanes;
  for (int begin = 0; begin < num_keys; begin += kKeys) {
    F32 sums[kKeys];
    for (F32& sum : sums) sum = zero();
    int vec = 0;
    // Two vectors share a key's broadcast.
    for (; vec + 2 <= vecs && kLanes == 16; vec += 2) {
      add_heads<F, 2>(queries + static_cast<int64_t>(vec) * words * kLanes, factors + vec * kLanes,
                      keys + begin, words, sums);
    }
    for (; vec < vecs; ++vec) {
      add_heads<F, 1>(queries + static_cast<int64_t>(vec) * words * kLanes, factors + vec * kLanes,
                      keys + begin, words, sums);
    }
    float lanes[kKeys];
    for (int key = 0; key < kKeys; key += 4) {
      store_reduced4(lanes + key, {sums[key], sums[key + 1], sums[key + 2], sums[key + 3]});
    }
    for (int key = 0; key < kKeys && begin + key < num_keys; ++key) {
      out[begin + key] = lanes[key] * scales[begin + key];
    }
  }
}

#if FOVEAL_ISA_LEVEL >= 3
/// The same with two keys a vector: `keys` has pairs of them, word by word in turn, kMaxIndexDim
/// floats apart.
void score_row_by_two(const float* queries, const float* factors, int dim, const float* keys,
                      const float* scales, int num_keys, float* out) {
  const F32 factor = load(factors);
  // A chain of sums a vector: enough of them to hide their latency.
  F32 acc[kIndexKeys / 2];
#pragma GCC unroll 16
  for (int two = 0; two < kIndexKeys / 2; ++two) acc[two] = zero();
  for (int word = 0; word < dim / 2; ++word) {
    const Pairs q = load_pairs(queries + word * kLanes);
#pragma GCC unroll 16
    for (int two = 0; two < kIndexKeys / 2; ++two) {
      acc[two] = dot(acc[two], q, broadcast_two(keys + two * kMaxIndexDim + 2 * word));
    }
  }
  float lanes[kIndexKeys];
#pragma GCC unroll 16
  for (int two = 0; two < kIndexKeys / 2; ++two) {
    store_reduced_two(lanes + 2 * two, max(zero(), acc[two]) * factor);
  }
  for (int key = 0; key < num_keys; ++key) out[key] = lanes[key] * scales[key];
}
#endif

/// The tile's keys where rows read them: widened, alone or by two, or where they lie.
struct Tile {
  const float* keys[kIndexKeys];
  float scales[kIndexKeys];
};

void widen(const uint8_t* codes, int dim, float* out) {
#if FOVEAL_ISA_LEVEL >= 3
  for (int ch = 0; ch < dim; ch += 64) {
    Pairs first;
    Pairs second;
    widen_e4m3(codes + ch, dim - ch, first, second);
    store_pairs(out + ch / 2, first);
    store_pairs(out + ch / 2 + kLanes, second);
  }
#else
  for (int ch = 0; ch < dim; ch += kLanes) store(out + ch, load_e4m3(codes + ch));
#endif
}

#if FOVEAL_ISA_LEVEL >= 3
/// Two keys, word by word in turn.
void widen_two(const uint8_t* even, const uint8_t* odd, int dim, float* out) {
  for (int ch = 0; ch < dim; ch += 64) {
    Pairs first[2];
    Pairs second[2];
    widen_e4m3(even + ch, dim - ch, first[0], second[0]);
    widen_e4m3(odd + ch, dim - ch, first[1], second[1]);
    Pairs words[4];
    interleave_words(first[0], first[1], words[0], words[1]);
    interleave_words(second[0], second[1], words[2], words[3]);
    for (int idx = 0; idx < 4; ++idx) store_pairs(out + ch + idx * kLanes, words[idx]);
  }
}
#endif

/// Where keys lie in their page, one after another.
struct Cursor {
  const IndexKeys& keys;
  int position;
  int slot;
  const std::byte* page;

  Cursor(const IndexKeys& of, int begin)
      : keys(of), position(begin), slot(begin % of.page_size), page(nullptr) {
    find();
  }
  void find() { page = keys.lane + keys.pages[position / keys.page_size] * keys.bytes_per_page; }
  int64_t row_bytes() const { return keys.format == IndexFormat::kF32 ? keys.dim * 4 : keys.dim; }
  const std::byte* row() const { return page + slot * row_bytes(); }
  const std::byte* scale() const {
    return page + static_cast<int64_t>(keys.page_size) * keys.dim + static_cast<int64_t>(slot) * 4;
  }
  /// To the next key, if it is before `end`: pages after the last need not be there.
  bool next(int end) {
    ++slot;
    if (++position >= end) return false;
    if (slot == keys.page_size) {
      slot = 0;
      find();
    }
    return true;
  }
};

/// Pages lie anywhere: without this each tile waits for memory (measured: half of the time).
FOVEAL_SIMD void ask_for_tile(const IndexKeys& keys, int begin, int end) {
  if (begin >= end) return;
  Cursor cursor(keys, begin);
  const int last = begin + kIndexKeys < end ? begin + kIndexKeys : end;
  do {
    for (int64_t at = 0; at < cursor.row_bytes(); at += kCacheLine) prefetch(cursor.row() + at);
    if (keys.format == IndexFormat::kFp8 && cursor.slot % 16 == 0) prefetch(cursor.scale());
  } while (cursor.next(last));
}

void load_tile(const IndexKeys& keys, int begin, int num_keys, bool by_two, float* scratch,
               Tile& tile) {
  Cursor cursor(keys, begin);
  const std::byte* rows[kIndexKeys];
  // Blocks of keys are whole: what is missing of the last is the first key again.
  for (const std::byte*& row : rows) row = cursor.row();
  for (int idx = 0; idx < num_keys; ++idx, cursor.next(begin + num_keys)) {
    rows[idx] = cursor.row();
    tile.scales[idx] = 1;
    if (keys.format == IndexFormat::kFp8) {
      __builtin_memcpy(&tile.scales[idx], cursor.scale(), sizeof(float));
    }
  }
  const int block = by_two ? kIndexKeys : kKeys;
  const int whole = (num_keys + block - 1) / block * block;
  for (int idx = 0; idx < whole; ++idx) {
    const auto* codes = reinterpret_cast<const uint8_t*>(rows[idx]);
    float* out = scratch + static_cast<int64_t>(by_two ? idx / 2 : idx) * kMaxIndexDim;
    tile.keys[idx] = out;
    if (keys.format == IndexFormat::kF32) {
      tile.keys[idx] = reinterpret_cast<const float*>(rows[idx]);
    } else if (!by_two) {
      widen(codes, keys.dim, out);
#if FOVEAL_ISA_LEVEL >= 3
    } else if (idx % 2 == 0) {
      widen_two(codes, reinterpret_cast<const uint8_t*>(rows[idx + 1]), keys.dim, out);
#endif
    }
  }
}

/// One row against a tile, however its keys lie.
FOVEAL_SIMD void score_tile(const IndexScores& item, int row, [[maybe_unused]] bool by_two,
                            const Tile& tile, [[maybe_unused]] const float* scratch, int num_keys,
                            float* out) {
  const int dim = item.keys.dim;
  const float* queries = item.queries + row * index_query_floats(item.num_heads, dim);
  const float* factors =
      item.factors + static_cast<int64_t>(row) * index_padded_heads(item.num_heads);
#if FOVEAL_ISA_LEVEL >= 3
  if (by_two) {
    return score_row_by_two(queries, factors, dim, scratch, tile.scales, num_keys, out);
  }
  if (item.keys.format == IndexFormat::kFp8) {
    return score_row<PairsOfBf16>(queries, factors, item.num_heads, dim, tile.keys, tile.scales,
                                  num_keys, out);
  }
#endif
  score_row<Floats>(queries, factors, item.num_heads, dim, tile.keys, tile.scales, num_keys, out);
}

void store_maxima(const float* scores, int count, float* out) {
  for (int begin = 0; begin < count; begin += kIndexBlock) {
    F32 best = set1(-__builtin_inff());
    const int end = begin + kIndexBlock < count ? begin + kIndexBlock : count;
    for (int at = begin; at < end; at += kLanes) {
      const int n = end - at < kLanes ? end - at : kLanes;
      // `max` answers its second where the first is NaN.
      best = select(mask_first(n), max(load_n(scores + at, n), best), best);
    }
    out[begin / kIndexBlock] = reduce_max(best);
  }
}

}  // namespace

size_t index_scratch(int32_t /*dim*/) {
  return static_cast<size_t>(kIndexKeys) * kMaxIndexDim * sizeof(float);
}

// Computes:  scores[r][s] = scale_s sum_h factors[r][h] max(0, q[r][h] . k_s)
// In/out:    queries, factors of index_open; keys of one sequence in the lane; scores float32,
//            and where wanted the maxima of blocks of them
// Units:     keys by position; every key of the range for every row: who sees what is the caller's
// Launch:    one call a (sequence, some rows, range of keys)
// Needs:     dim a multiple of 16
// Numerics:  float32 sums of exact products (e4m3, or float32 in reference mode): one chain a head
//            in ascending channels, then the heads; a NaN stays one
// Source:    DeepSeek-V3.2's report, section 2.1
// Measured:  src/attention/dsa/README.md
void index_scores(const IndexScores& item, std::byte* bytes) {
  auto* scratch = reinterpret_cast<float*>(bytes);
  const bool by_two = FOVEAL_ISA_LEVEL >= 3 && item.keys.format == IndexFormat::kFp8 &&
                      item.num_heads <= kFewIndexHeads;
  for (int begin = item.key_begin; begin < item.key_end; begin += kIndexKeys) {
    const int left = item.key_end - begin;
    const int num_keys = left < kIndexKeys ? left : kIndexKeys;
    Tile tile;
    ask_for_tile(item.keys, begin + kIndexKeys, item.key_end);
    load_tile(item.keys, begin, num_keys, by_two, scratch, tile);
    for (int row = 0; row < item.num_rows; ++row) {
      float* out = item.scores + row * item.score_stride + begin;
      score_tile(item, row, by_two, tile, scratch, num_keys, out);
      if (item.maxima == nullptr) continue;
      store_maxima(out, num_keys, item.maxima + row * item.maxima_stride + begin / kIndexBlock);
    }
  }
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
