#include "attention/rocket/rocket_isa.h"
#include "kernels/cpu/simd/e5m2.h"
#include "kernels/cpu/simd/vec.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

/// Register block: heads that share a loaded bound, and cache pages side by side. Their addresses
/// fill the general registers: with twice as many pages g++ 12 spilled sums to memory.
constexpr int kHeads = kLanes >= 8 ? 4 : 2;
constexpr int kPages = kLanes == 16 ? 4 : 2;
constexpr float kInf = __builtin_inff();
/// What scores are held within: a page whose bound is infinite ranks first instead of as NaN.
constexpr float kHuge = 1e30F;

/// Rows of bounds: whole vectors, pieces of one, or (at 16 lanes) those of two cache pages
/// together, which the usual 32 tokens in pages of 4 come to.
enum class Rows : uint8_t { kWhole, kPiece, kTwo };

struct Bf16Bound {
  static constexpr int kBytes = 2;
  FOVEAL_SIMD const uint16_t* at(const std::byte* p) {
    return reinterpret_cast<const uint16_t*>(p);
  }
  FOVEAL_SIMD F32 whole(const std::byte* p) { return load_bf16(at(p)); }
  FOVEAL_SIMD F32 piece(const std::byte* p, int n) { return load_bf16_n(at(p), n); }
#if FOVEAL_ISA_LEVEL >= 2
  FOVEAL_SIMD F32 two(const std::byte* p, const std::byte* q) {
    return load_bf16_two(at(p), at(q));
  }
#endif
};

struct E5m2Bound {
  static constexpr int kBytes = 1;
  FOVEAL_SIMD const uint8_t* at(const std::byte* p) { return reinterpret_cast<const uint8_t*>(p); }
  FOVEAL_SIMD F32 whole(const std::byte* p) { return load_e5m2(at(p)); }
  FOVEAL_SIMD F32 piece(const std::byte* p, int n) { return load_e5m2_n(at(p), n); }
#if FOVEAL_ISA_LEVEL >= 2
  FOVEAL_SIMD F32 two(const std::byte* p, const std::byte* q) {
    return load_e5m2_two(at(p), at(q));
  }
#endif
};

/// The cache pages of a register block, where their scores go, and which pages are next.
struct Block {
  const std::byte* pages[kPages];
  const std::byte* ahead[kPages];
  float* out[kPages];
};

template <class B, Rows kRows>
FOVEAL_SIMD F32 load_bounds(const Block& block, int vec, int64_t at, int n) {
  if constexpr (kRows == Rows::kWhole) return B::whole(block.pages[vec] + at);
  if constexpr (kRows == Rows::kPiece) return B::piece(block.pages[vec] + at, n);
#if FOVEAL_ISA_LEVEL >= 2
  return B::two(block.pages[2 * vec] + at, block.pages[2 * vec + 1] + at);
#endif
}

/// out[head][cache page][i] = sum over rows of coefs[head][row] bound[cache page][row][i], i < n.
template <class B, int kNumHeads, Rows kRows>
FOVEAL_SIMD void score_block(const RocketScoreItem& item, const float* coefs, const Block& block,
                             int n) {
  constexpr int kVecs = kRows == Rows::kTwo ? kPages / 2 : kPages;
  const int64_t row_bytes = static_cast<int64_t>(item.pages_per_cache_page) * B::kBytes;
  F32 acc[kNumHeads][kVecs];
#pragma GCC unroll 4
  for (int head = 0; head < kNumHeads; ++head) {
#pragma GCC unroll 4
    for (int vec = 0; vec < kVecs; ++vec) acc[head][vec] = zero();
  }
  for (int row = 0; row < item.num_rows; ++row) {
    const int64_t at = item.rows[row] * row_bytes;
#pragma GCC unroll 4
    for (int page = 0; page < kPages; ++page) prefetch(block.ahead[page] + at);
    F32 bound[kVecs];
#pragma GCC unroll 4
    for (int vec = 0; vec < kVecs; ++vec) bound[vec] = load_bounds<B, kRows>(block, vec, at, n);
#pragma GCC unroll 4
    for (int head = 0; head < kNumHeads; ++head) {
      const F32 coef = set1(coefs[static_cast<int64_t>(head) * item.num_rows + row]);
#pragma GCC unroll 4
      for (int vec = 0; vec < kVecs; ++vec) acc[head][vec] = fma(coef, bound[vec], acc[head][vec]);
    }
  }
#pragma GCC unroll 4
  for (int vec = 0; vec < kVecs; ++vec) {
#pragma GCC unroll 4
    for (int head = 0; head < kNumHeads; ++head) {
      const int64_t to = head * item.score_stride;
      if constexpr (kRows == Rows::kTwo) {
        float both[kLanes];
        store(both, acc[head][vec]);
        __builtin_memcpy(block.out[2 * vec] + to, both, sizeof(both) / 2);
        __builtin_memcpy(block.out[2 * vec + 1] + to, both + kLanes / 2, sizeof(both) / 2);
      } else {
        store_n(block.out[vec] + to, acc[head][vec], n);
      }
    }
  }
}

/// Lanes [at, at + n) of every row. Past the last cache page it stands in again, for the same.
template <class B, int kNumHeads, Rows kRows>
void score_lanes(const RocketScoreItem& item, int head, int at, int n) {
  const float* coefs = item.coefs + static_cast<int64_t>(head) * item.num_rows;
  const int last = item.num_cache_pages - 1;
  for (int first = 0; first < item.num_cache_pages; first += kPages) {
    Block block;
    for (int idx = 0; idx < kPages; ++idx) {
      const int page = first + idx < last ? first + idx : last;
      const int next = page + kPages < last ? page + kPages : last;
      block.pages[idx] =
          item.bounds + item.cache_pages[page] * item.bytes_per_page + at * B::kBytes;
      block.ahead[idx] =
          item.bounds + item.cache_pages[next] * item.bytes_per_page + at * B::kBytes;
      block.out[idx] = item.scores + head * item.score_stride +
                       static_cast<int64_t>(page) * item.pages_per_cache_page + at;
    }
    score_block<B, kNumHeads, kRows>(item, coefs, block, n);
  }
}

template <class B, int kNumHeads>
void score_heads(const RocketScoreItem& item, int head) {
  const int len = item.pages_per_cache_page;
#if FOVEAL_ISA_LEVEL >= 2
  if (len == kLanes / 2) {
    score_lanes<B, kNumHeads, Rows::kTwo>(item, head, 0, len);
    return;
  }
#endif
  for (int at = 0; at < len; at += kLanes) {
    if (len - at >= kLanes) {
      score_lanes<B, kNumHeads, Rows::kWhole>(item, head, at, kLanes);
    } else {
      score_lanes<B, kNumHeads, Rows::kPiece>(item, head, at, len - at);
    }
  }
}

template <class B>
void score_all(const RocketScoreItem& item) {
  for (int head = 0; head < item.group; head += kHeads) {
    switch (item.group - head) {
      case 1:
        score_heads<B, 1>(item, head);
        break;
      case 2:
        score_heads<B, 2>(item, head);
        break;
      case 3:
        score_heads<B, (kHeads < 3 ? kHeads : 3)>(item, head);
        break;
      default:
        score_heads<B, kHeads>(item, head);
    }
  }
}

}  // namespace

// Computes:  scores[h][P] = sum over rows r of coefs[h][r] bounds[rows[r]][P]
// In/out:    bounds of one KV head by cache page, [2 * head_dim, pages_per_cache_page] bf16 or
//            e5m2; rows [num_rows] int32; coefs [group, num_rows], scores [group, score_stride]
//            float32
// Units:     the coefficients carry scale and log2(e): scores in the log2 domain
// Launch:    one call a (sequence, KV head, some of its cache pages)
// Needs:     the scores of whole cache pages are written, those past the sequence's last page too
// Numerics:  float32, rows in ascending order whatever is beside a page
// Source:    RocketKV (arXiv 2502.14051) stage two
// Measured:  README.md of this room
void rocket_scores(const RocketScoreItem& item) {
  if (item.format == BoundFormat::kBf16) {
    score_all<Bf16Bound>(item);
  } else {
    score_all<E5m2Bound>(item);
  }
}

// Computes:  ranks[P] = sum (or maximum) over heads h of 2^(s[h][P] - max s[h]) / sum over P of the
//            same
// In/out:    scores [group, score_stride] float32 (overwritten), ranks [score_stride]
// Units:     scores in the log2 domain; ranks are sums of probabilities, or the largest of them
// Launch:    one call a (sequence, KV head)
// Needs:     score_stride a multiple of 16, num_pages at least 1
// Numerics:  float32; vectors of pages in ascending order. Scores are held within 1e30 and a NaN
//            becomes 1e30, so that a page with an infinite bound ranks first
// Source:    RocketKV (arXiv 2502.14051) stage two
// Measured:  README.md of this room
void rocket_rank(const RocketRankItem& item) {
  for (int64_t at = 0; at < item.score_stride; at += kLanes) store(item.ranks + at, zero());
  for (int head = 0; head < item.group; ++head) {
    float* s = item.scores + head * item.score_stride;
    for (int64_t at = item.num_pages; at < item.score_stride; ++at) s[at] = -kHuge;
    F32 top = set1(-kHuge);
    for (int64_t at = 0; at < item.score_stride; at += kLanes) {
      const F32 held = max(min(load(s + at), set1(kHuge)), set1(-kHuge));
      store(s + at, held);
      top = max(top, held);
    }
    for (int64_t at = item.num_pages; at < item.score_stride; ++at) s[at] = -kInf;
    const F32 most = set1(reduce_max(top));
    F32 sum = zero();
    for (int64_t at = 0; at < item.score_stride; at += kLanes) {
      const F32 weight = exp2(load(s + at) - most);
      store(s + at, weight);
      sum = sum + weight;
    }
    const F32 inverse = set1(1.0F / reduce_add(sum));
    for (int64_t at = 0; at < item.score_stride; at += kLanes) {
      const F32 rank = load(item.ranks + at);
      const F32 weight = load(s + at);
      const F32 joined =
          item.max_over_group ? max(rank, weight * inverse) : fma(weight, inverse, rank);
      store(item.ranks + at, joined);
    }
  }
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
