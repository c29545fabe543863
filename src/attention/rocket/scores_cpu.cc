#include "attention/rocket/rocket_isa.h"
#include "kernels/cpu/attention_formats.h"
#include "kernels/cpu/simd/e5m2.h"
#include "kernels/cpu/simd/vec.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

/// Register block: heads that share a loaded bound, and cache pages side by side. Their addresses
/// fill the general registers: with twice as many pages g++ 12 spilled sums to memory.
constexpr int kHeads = kLanes >= 8 ? 4 : 2;
constexpr int kPages = kLanes == 16 ? 4 : 2;
constexpr int kMaxRows = 256;
constexpr int kStepsAtOnce = 4;          ///< between requests for later pages
constexpr int kPagesAhead = 2 * kPages;  ///< how much later: a block takes less time than memory
constexpr float kInf = __builtin_inff();
/// What scores are held within: a page whose bound is infinite ranks first instead of as NaN.
constexpr float kHuge = 1e30F;

/// Rows of bounds: whole vectors, pieces of one, or (at 16 lanes) those of two cache pages
/// together, which the usual 32 tokens in pages of 4 come to.
enum class Rows : uint8_t { kWhole, kPiece, kTwo };

/// How bounds are read: a Raw is one vector of them, of one row or (kPair 2) of two side by side,
/// a Coef the query's factor for it. `at`: where the rows begin.
/// This is what formats share that go through float32.
struct FloatBound {
  static constexpr int kPair = 1;
  using Raw = F32;
  using Coef = F32;
  FOVEAL_SIMD Coef coef(const float* p) { return set1(*p); }
  FOVEAL_SIMD F32 mac(F32 acc, Raw a, Coef b) { return fma(b, a, acc); }
};

struct Bf16Bound : FloatBound {
  static constexpr int kBytes = 2;
  FOVEAL_SIMD const uint16_t* at(const std::byte* p) {
    return reinterpret_cast<const uint16_t*>(p);
  }
  FOVEAL_SIMD Raw whole(const std::byte* p, const int32_t* row) { return load_bf16(at(p + *row)); }
  FOVEAL_SIMD Raw piece(const std::byte* p, const int32_t* row, int n) {
    return load_bf16_n(at(p + *row), n);
  }
#if FOVEAL_ISA_LEVEL >= 2
  FOVEAL_SIMD Raw two(const std::byte* p, const std::byte* q, const int32_t* row) {
    return load_bf16_two(at(p + *row), at(q + *row));
  }
#endif
};

struct E5m2Bound : FloatBound {
  static constexpr int kBytes = 1;
  FOVEAL_SIMD const uint8_t* at(const std::byte* p) { return reinterpret_cast<const uint8_t*>(p); }
  FOVEAL_SIMD Raw whole(const std::byte* p, const int32_t* row) { return load_e5m2(at(p + *row)); }
  FOVEAL_SIMD Raw piece(const std::byte* p, const int32_t* row, int n) {
    return load_e5m2_n(at(p + *row), n);
  }
#if FOVEAL_ISA_LEVEL >= 2
  FOVEAL_SIMD Raw two(const std::byte* p, const std::byte* q, const int32_t* row) {
    return load_e5m2_two(at(p + *row), at(q + *row));
  }
#endif
};

#if FOVEAL_ISA_LEVEL >= 3
/// Products of pairs of bf16, which every e5m2 is; queries rounded to it.
struct E5m2Pair {
  static constexpr int kBytes = 1;
  static constexpr int kPair = 2;
  using Raw = Pairs;
  using Coef = Pairs;
  FOVEAL_SIMD Raw whole(const std::byte* p, const int32_t* row) {
    return load_e5m2_pairs(p + row[0], p + row[1]);
  }
  FOVEAL_SIMD Raw piece(const std::byte* p, const int32_t* row, int n) {
    return load_e5m2_pairs_n(p + row[0], p + row[1], n);
  }
  FOVEAL_SIMD Raw two(const std::byte* p, const std::byte* q, const int32_t* row) {
    return load_e5m2_pairs_two(p + row[0], p + row[1], q + row[0], q + row[1]);
  }
  FOVEAL_SIMD Coef coef(const float* p) { return broadcast_pair(p); }
  FOVEAL_SIMD F32 mac(F32 acc, Raw a, Coef b) { return dot(acc, a, b); }
};
#endif

/// The cache pages of a register block, where their scores go, and which pages come later.
struct Block {
  const std::byte* pages[kPages];
  const std::byte* ahead[kPages];
  float* out[kPages];
};

/// What rows are multiplied by and where they begin in a cache page, ready for a format's steps of
/// kPair rows.
struct Steps {
  const float* coefs = nullptr;  ///< [heads], stride `stride`
  int64_t stride = 0;
  const int32_t* rows = nullptr;
  int count = 0;
};

template <class B, Rows kRows>
FOVEAL_SIMD typename B::Raw load_bounds(const Block& block, int vec, const int32_t* row, int at,
                                        int n) {
  if constexpr (kRows == Rows::kWhole) return B::whole(block.pages[vec] + at, row);
  if constexpr (kRows == Rows::kPiece) return B::piece(block.pages[vec] + at, row, n);
#if FOVEAL_ISA_LEVEL >= 2
  return B::two(block.pages[2 * vec] + at, block.pages[2 * vec + 1] + at, row);
#endif
}

/// Asks for the lines of later pages that go with steps [step, next) of `count`.
FOVEAL_SIMD void ask_ahead(const RocketScoreItem& item, const Block& block, int step, int next,
                           int count) {
  const int end = item.num_lines * next / count;
  for (int line = item.num_lines * step / count; line < end; ++line) {
#pragma GCC unroll 4
    for (int page = 0; page < kPages; ++page) prefetch(block.ahead[page] + item.lines[line]);
  }
}

/// out[head][cache page][at + i] = sum over rows of coefs[head][row] bound[cache page][row][at +
/// i], i < n.
template <class B, int kNumHeads, Rows kRows>
FOVEAL_SIMD void score_block(const RocketScoreItem& item, const Steps& steps, const Block& block,
                             int at, int n) {
  constexpr int kVecs = kRows == Rows::kTwo ? kPages / 2 : kPages;
  F32 acc[kNumHeads][kVecs];
#pragma GCC unroll 4
  for (int head = 0; head < kNumHeads; ++head) {
#pragma GCC unroll 4
    for (int vec = 0; vec < kVecs; ++vec) acc[head][vec] = zero();
  }
  for (int first = 0; first < steps.count; first += kStepsAtOnce) {
    const int end = first + kStepsAtOnce < steps.count ? first + kStepsAtOnce : steps.count;
    if (at == 0) ask_ahead(item, block, first, end, steps.count);
    for (int step = first; step < end; ++step) {
      const int32_t* row = steps.rows + B::kPair * step;
      typename B::Raw bound[kVecs];
#pragma GCC unroll 4
      for (int vec = 0; vec < kVecs; ++vec)
        bound[vec] = load_bounds<B, kRows>(block, vec, row, at * B::kBytes, n);
#pragma GCC unroll 4
      for (int head = 0; head < kNumHeads; ++head) {
        const typename B::Coef coef = B::coef(steps.coefs + head * steps.stride + step);
#pragma GCC unroll 4
        for (int vec = 0; vec < kVecs; ++vec)
          acc[head][vec] = B::mac(acc[head][vec], bound[vec], coef);
      }
    }
  }
#pragma GCC unroll 4
  for (int vec = 0; vec < kVecs; ++vec) {
#pragma GCC unroll 4
    for (int head = 0; head < kNumHeads; ++head) {
      const int64_t to = head * item.score_stride + at;
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

template <class B, int kNumHeads>
FOVEAL_SIMD void score_pages(const RocketScoreItem& item, const Steps& steps, const Block& block) {
  const int len = item.pages_per_cache_page;
#if FOVEAL_ISA_LEVEL >= 2
  if (len == kLanes / 2) {
    score_block<B, kNumHeads, Rows::kTwo>(item, steps, block, 0, len);
    return;
  }
#endif
  for (int at = 0; at < len; at += kLanes) {
    if (len - at >= kLanes) {
      score_block<B, kNumHeads, Rows::kWhole>(item, steps, block, at, kLanes);
    } else {
      score_block<B, kNumHeads, Rows::kPiece>(item, steps, block, at, len - at);
    }
  }
}

/// Coefficients of a KV head's query heads from `head` on.
template <class B, int kNumHeads>
FOVEAL_SIMD Steps open_steps(const RocketScoreItem& item, int head, const int32_t* rows,
                             [[maybe_unused]] float* pairs) {
  const float* coefs = item.coefs + static_cast<int64_t>(head) * item.num_rows;
  if constexpr (B::kPair == 1) return {coefs, item.num_rows, rows, item.num_rows};
#if FOVEAL_ISA_LEVEL >= 3
  const int count = (item.num_rows + 1) / 2;
  for (int idx = 0; idx < kNumHeads; ++idx, coefs += item.num_rows) {
    for (int step = 0; step < count; ++step) {
      // The odd one out is halved and stands twice: any number times zero is not always zero.
      const bool both = 2 * step + 1 < item.num_rows;
      const float even = both ? coefs[2 * step] : 0.5F * coefs[2 * step];
      Bf16Dot::store_coef(pairs + idx * count + step, even, both ? coefs[2 * step + 1] : even);
    }
  }
  return {pairs, count, rows, count};
#endif
}

/// Past the last cache page it stands in again, for the same.
template <class B, int kNumHeads>
void score_heads(const RocketScoreItem& item, int head, const int32_t* rows) {
  float pairs[kHeads * kMaxRows / 2];
  const Steps steps = open_steps<B, kNumHeads>(item, head, rows, pairs);
  const int last = item.num_cache_pages - 1;
  for (int first = 0; first < item.num_cache_pages; first += kPages) {
    Block block;
    for (int idx = 0; idx < kPages; ++idx) {
      const int page = first + idx < last ? first + idx : last;
      const int later = page + kPagesAhead < last ? page + kPagesAhead : last;
      block.pages[idx] = item.bounds + item.cache_pages[page] * item.bytes_per_page;
      block.ahead[idx] = item.bounds + item.cache_pages[later] * item.bytes_per_page;
      block.out[idx] = item.scores + head * item.score_stride +
                       static_cast<int64_t>(page) * item.pages_per_cache_page;
    }
    score_pages<B, kNumHeads>(item, steps, block);
  }
}

template <class B>
void score_all(const RocketScoreItem& item) {
  int32_t rows[kMaxRows + 1];
  for (int idx = 0; idx < item.num_rows; ++idx) {
    rows[idx] = item.rows[idx] * item.pages_per_cache_page * B::kBytes;
  }
  rows[item.num_rows] = rows[item.num_rows - 1];
  for (int head = 0; head < item.group; head += kHeads) {
    switch (item.group - head) {
      case 1:
        score_heads<B, 1>(item, head, rows);
        break;
      case 2:
        score_heads<B, 2>(item, head, rows);
        break;
      case 3:
        score_heads<B, (kHeads < 3 ? kHeads : 3)>(item, head, rows);
        break;
      default:
        score_heads<B, kHeads>(item, head, rows);
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
// Needs:     at most 256 rows; the scores of whole cache pages are written, those past the
//            sequence's last page too
// Numerics:  float32, of e5m2 bounds where the level has bf16 dot products and not `exact` those,
//            with coefficients rounded to bf16; rows in order whatever is beside a page
// Source:    RocketKV (arXiv 2502.14051) stage two
// Measured:  README.md of this room
void rocket_scores(const RocketScoreItem& item) {
  if (item.format == BoundFormat::kBf16) {
    score_all<Bf16Bound>(item);
  } else {
#if FOVEAL_ISA_LEVEL >= 3
    if (!item.exact) {
      score_all<E5m2Pair>(item);
      return;
    }
#endif
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
