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

/// The tile's keys where rows read them: widened, or where they lie.
struct Tile {
  const float* keys[kIndexKeys];
  float scales[kIndexKeys];
};

void widen(const uint8_t* codes, int dim, float* out) {
#if FOVEAL_ISA_LEVEL >= 3
  for (int ch = 0; ch < dim; ch += 64) {
    uint8_t cut[64] = {};
    const uint8_t* from = codes + ch;
    if (dim - ch < 64) {
      __builtin_memcpy(cut, from, static_cast<size_t>(dim - ch));
      from = cut;
    }
    Pairs first;
    Pairs second;
    widen_e4m3(from, first, second);
    store_pairs(out + ch / 2, first);
    store_pairs(out + ch / 2 + kLanes, second);
  }
#else
  for (int ch = 0; ch < dim; ch += kLanes) store(out + ch, load_e4m3(codes + ch));
#endif
}

void load_tile(const IndexKeys& keys, int begin, int num_keys, float* scratch, Tile& tile) {
  for (int idx = 0; idx < num_keys; ++idx) {
    const int position = begin + idx;
    const std::byte* page = keys.lane + keys.pages[position / keys.page_size] * keys.bytes_per_page;
    const int64_t slot = position % keys.page_size;
    if (keys.format == IndexFormat::kF32) {
      tile.keys[idx] = reinterpret_cast<const float*>(page) + slot * keys.dim;
      tile.scales[idx] = 1;
      continue;
    }
    float* out = scratch + static_cast<int64_t>(idx) * kMaxIndexDim;
    widen(reinterpret_cast<const uint8_t*>(page) + slot * keys.dim, keys.dim, out);
    tile.keys[idx] = out;
    __builtin_memcpy(&tile.scales[idx],
                     page + static_cast<int64_t>(keys.page_size) * keys.dim + slot * 4,
                     sizeof(float));
  }
  // The last is repeated, so that blocks of keys are whole.
  for (int idx = num_keys; idx < kIndexKeys; ++idx) {
    tile.keys[idx] = tile.keys[num_keys - 1];
    tile.scales[idx] = tile.scales[num_keys - 1];
  }
}

}  // namespace

size_t index_scratch(int32_t /*dim*/) {
  return static_cast<size_t>(kIndexKeys) * kMaxIndexDim * sizeof(float);
}

// Computes:  scores[r][s] = scale_s sum_h factors[r][h] max(0, q[r][h] . k_s)
// In/out:    queries, factors of index_open; keys of one sequence in the lane; scores float32
// Units:     keys by position; every key of the range for every row: who sees what is the caller's
// Launch:    one call a (sequence, some rows, range of keys)
// Needs:     dim a multiple of 16
// Numerics:  float32 sums of exact products (e4m3, or float32 in reference mode): one chain a head
//            in ascending channels, then the heads; a NaN stays one
// Source:    DeepSeek-V3.2's report, section 2.1
// Measured:  src/attention/dsa/README.md
void index_scores(const IndexScores& item, std::byte* bytes) {
  auto* scratch = reinterpret_cast<float*>(bytes);
  const int dim = item.keys.dim;
  const int64_t query_floats = index_query_floats(item.num_heads, dim);
  for (int begin = item.key_begin; begin < item.key_end; begin += kIndexKeys) {
    const int left = item.key_end - begin;
    const int num_keys = left < kIndexKeys ? left : kIndexKeys;
    Tile tile;
    load_tile(item.keys, begin, num_keys, scratch, tile);
    for (int row = 0; row < item.num_rows; ++row) {
      const float* queries = item.queries + row * query_floats;
      const float* factors =
          item.factors + static_cast<int64_t>(row) * index_padded_heads(item.num_heads);
      float* out = item.scores + row * item.score_stride + begin;
#if FOVEAL_ISA_LEVEL >= 3
      if (item.keys.format == IndexFormat::kFp8) {
        score_row<PairsOfBf16>(queries, factors, item.num_heads, dim, tile.keys, tile.scales,
                               num_keys, out);
        continue;
      }
#endif
      score_row<Floats>(queries, factors, item.num_heads, dim, tile.keys, tile.scales, num_keys,
                        out);
    }
  }
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
