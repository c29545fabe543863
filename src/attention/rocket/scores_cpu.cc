#include "attention/rocket/rocket_isa.h"
#include "kernels/cpu/attention_formats.h"
#include "kernels/cpu/simd/e5m2.h"
#include "kernels/cpu/simd/vec.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

/// Register block: heads that share a loaded bound, and cache pages side by side. With 16 lanes
/// addresses fill the general registers: with twice as many pages g++ 12 spilled sums to memory.
constexpr int kHeads = kLanes >= 8 ? 4 : 2;
constexpr int kPages = kLanes >= 8 ? 4 : 2;
/// Vectors of bounds side by side: 16 registers hold the sums of 4 for 3 heads, of 2 for 4.
constexpr int block_vecs(int num_heads) { return kLanes == 16 || num_heads <= 3 ? kPages : 2; }
constexpr int kStepsAtOnce = 8;  ///< between requests for bounds that are read later
/// How much later: reading this takes longer than memory answers, and it stays in L1.
constexpr int64_t kBytesAhead = 16384;
constexpr float kInf = __builtin_inff();
/// What scores are held within: a page whose bound is infinite ranks first instead of as NaN.
constexpr float kHuge = 1e30F;

/// Rows of bounds: whole vectors, pieces of one, two vectors together (8 lanes), or (16 lanes)
/// those of two cache pages in one, which the usual 32 tokens in pages of 4 come to.
enum class Rows : uint8_t { kWhole, kPiece, kBoth, kTwo };

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

/// Cache pages of one KV head that are scored together, where their scores go, and what is read
/// kBytesAhead later.
struct Unit {
  const std::byte* pages[kPages];
  const std::byte* ahead[kPages];
  float* out[kPages];
  const RocketScoreQuery* query;
  const RocketScoreQuery* query_ahead;
};

template <class B, Rows kRows>
FOVEAL_SIMD typename B::Raw load_bounds(const Unit& unit, int page, int vec, const int32_t* row,
                                        int at, int n) {
  if constexpr (kRows == Rows::kWhole) return B::whole(unit.pages[page + vec] + at, row);
  if constexpr (kRows == Rows::kPiece) return B::piece(unit.pages[page + vec] + at, row, n);
  if constexpr (kRows == Rows::kBoth) {
    return B::whole(unit.pages[page + vec / 2] + at + vec % 2 * kLanes * B::kBytes, row);
  }
#if FOVEAL_ISA_LEVEL >= 2
  return B::two(unit.pages[2 * vec] + at, unit.pages[2 * vec + 1] + at, row);
#endif
}

/// out[head][cache page][at + i] = sum over rows of factors[row][head] bound[cache page][row][at +
/// i], i < n, of a register block of cache pages from `page` on. With `at` 0 the lines of later
/// ones are asked for.
template <class B, int kNumHeads, Rows kRows, int kVecs, int kBlockPages>
FOVEAL_SIMD void score_block(const RocketScoreItem& item, const Unit& unit, int page, int head,
                             int at, int n) {
  F32 acc[kNumHeads][kVecs];
#pragma GCC unroll 4
  for (int idx = 0; idx < kNumHeads; ++idx) {
#pragma GCC unroll 4
    for (int vec = 0; vec < kVecs; ++vec) acc[idx][vec] = zero();
  }
  const int count = (item.num_rows + B::kPair - 1) / B::kPair;
  const float* factors = unit.query->factors + head;
  const int32_t* row = unit.query->offsets;
  const RocketScoreQuery& later = *unit.query_ahead;
  const int lines_at_once = (later.num_lines * kStepsAtOnce + count - 1) / count;
  int line = at == 0 && head == 0 ? 0 : later.num_lines;
  for (int first = 0; first < count; first += kStepsAtOnce) {
    const int line_end =
        line + lines_at_once < later.num_lines ? line + lines_at_once : later.num_lines;
    for (; line < line_end; ++line) {
#pragma GCC unroll 4
      for (int idx = 0; idx < kBlockPages; ++idx)
        prefetch(unit.ahead[page + idx] + later.lines[line]);
    }
    const int end = first + kStepsAtOnce < count ? first + kStepsAtOnce : count;
    for (int step = first; step < end; ++step, row += B::kPair, factors += item.group) {
      typename B::Coef coef[kNumHeads];
#pragma GCC unroll 4
      for (int idx = 0; idx < kNumHeads; ++idx) coef[idx] = B::coef(factors + idx);
      // Each vector is used up before the next is loaded: with 16 registers there is room for one.
#pragma GCC unroll 4
      for (int vec = 0; vec < kVecs; ++vec) {
        const typename B::Raw bound =
            load_bounds<B, kRows>(unit, page, vec, row, at * B::kBytes, n);
#pragma GCC unroll 4
        for (int idx = 0; idx < kNumHeads; ++idx) {
          acc[idx][vec] = B::mac(acc[idx][vec], bound, coef[idx]);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int vec = 0; vec < kVecs; ++vec) {
#pragma GCC unroll 4
    for (int idx = 0; idx < kNumHeads; ++idx) {
      const int64_t to = (head + idx) * item.score_stride + at;
      if constexpr (kRows == Rows::kTwo) {
        float both[kLanes];
        store(both, acc[idx][vec]);
        __builtin_memcpy(unit.out[2 * vec] + to, both, sizeof(both) / 2);
        __builtin_memcpy(unit.out[2 * vec + 1] + to, both + kLanes / 2, sizeof(both) / 2);
      } else if constexpr (kRows == Rows::kBoth) {
        store(unit.out[page + vec / 2] + to + vec % 2 * kLanes, acc[idx][vec]);
      } else {
        store_n(unit.out[page + vec] + to, acc[idx][vec], n);
      }
    }
  }
}

template <class B, int kNumHeads>
FOVEAL_SIMD void score_pages(const RocketScoreItem& item, const Unit& unit, int head) {
  constexpr int kVecs = block_vecs(kNumHeads);
  const int len = item.pages_per_cache_page;
#if FOVEAL_ISA_LEVEL >= 2
  if (len == kLanes / 2) {
    score_block<B, kNumHeads, Rows::kTwo, kPages / 2, kPages>(item, unit, 0, head, 0, len);
    return;
  }
#elif FOVEAL_ISA_LEVEL == 1
  if (len % (2 * kLanes) == 0) {
    for (int page = 0; page < kPages; page += kVecs / 2) {
      for (int at = 0; at < len; at += 2 * kLanes) {
        score_block<B, kNumHeads, Rows::kBoth, kVecs, kVecs / 2>(item, unit, page, head, at, len);
      }
    }
    return;
  }
#endif
  for (int page = 0; page < kPages; page += kVecs) {
    for (int at = 0; at < len; at += kLanes) {
      if (len - at >= kLanes) {
        score_block<B, kNumHeads, Rows::kWhole, kVecs, kVecs>(item, unit, page, head, at, kLanes);
      } else {
        score_block<B, kNumHeads, Rows::kPiece, kVecs, kVecs>(item, unit, page, head, at, len - at);
      }
    }
  }
}

template <class B>
static void score_unit(const RocketScoreItem& item, const Unit& unit) {
  for (int head = 0; head < item.group; head += kHeads) {
    switch (item.group - head) {
      case 1:
        score_pages<B, 1>(item, unit, head);
        break;
      case 2:
        score_pages<B, 2>(item, unit, head);
        break;
      case 3:
        score_pages<B, (kHeads < 3 ? kHeads : 3)>(item, unit, head);
        break;
      default:
        score_pages<B, kHeads>(item, unit, head);
    }
  }
}

/// Units in the order of memory: of kPages cache pages all KV heads, then the next ones. Past the
/// last cache page it stands in again, for the same.
template <class B>
void score_all(const RocketScoreItem& item) {
  const int last = item.num_cache_pages - 1;
  const int num_units = (last / kPages + 1) * item.num_kv_heads;
  const int64_t far = kBytesAhead / (kPages * item.head_bytes);
  const int units_ahead = far < 1 ? 1 : static_cast<int>(far);
  const auto page_at = [&](int page) {
    return item.bounds + item.cache_pages[page < last ? page : last] * item.bytes_per_page;
  };
  for (int idx = 0; idx < num_units; ++idx) {
    const int kv_head = idx % item.num_kv_heads;
    const int first = idx / item.num_kv_heads * kPages;
    const int later = idx + units_ahead < num_units ? idx + units_ahead : num_units - 1;
    const int kv_head_ahead = later % item.num_kv_heads;
    const int first_ahead = later / item.num_kv_heads * kPages;
    Unit unit;
    unit.query = item.queries + kv_head;
    unit.query_ahead = item.queries + kv_head_ahead;
    for (int page = 0; page < kPages; ++page) {
      unit.pages[page] = page_at(first + page) + kv_head * item.head_bytes;
      unit.ahead[page] = page_at(first_ahead + page) + kv_head_ahead * item.head_bytes;
      const int to = first + page < last ? first + page : last;
      unit.out[page] = item.scores + kv_head * item.head_stride +
                       static_cast<int64_t>(to) * item.pages_per_cache_page;
    }
    score_unit<B>(item, unit);
  }
}

template <class B>
void open_query(const RocketScoreItem& item, const RocketScoreQuery& query) {
  for (int idx = 0; idx < item.num_rows; ++idx) {
    query.offsets[idx] = query.rows[idx] * item.pages_per_cache_page * B::kBytes;
  }
  query.offsets[item.num_rows] = query.offsets[item.num_rows - 1];
  for (int head = 0; head < item.group; ++head) {
    const float* coefs = query.coefs + static_cast<int64_t>(head) * item.num_rows;
    float* out = query.factors + head;
    if constexpr (B::kPair == 1) {
      for (int idx = 0; idx < item.num_rows; ++idx) out[idx * item.group] = coefs[idx];
    }
#if FOVEAL_ISA_LEVEL >= 3
    if constexpr (B::kPair == 2) {
      for (int idx = 0; idx < item.num_rows; idx += 2, out += item.group) {
        // The odd one out is halved and stands twice: any number times zero is not always zero.
        const bool both = idx + 1 < item.num_rows;
        const float even = both ? coefs[idx] : 0.5F * coefs[idx];
        Bf16Dot::store_coef(out, even, both ? coefs[idx + 1] : even);
      }
    }
#endif
  }
}

/// Calls `body` with the way in which the item's bounds are read.
template <class Body>
FOVEAL_SIMD void with_format(const RocketScoreItem& item, Body body) {
  if (item.format == BoundFormat::kBf16) {
    body(Bf16Bound{});
    return;
  }
#if FOVEAL_ISA_LEVEL >= 3
  if (!item.exact) {
    body(E5m2Pair{});
    return;
  }
#endif
  body(E5m2Bound{});
}

}  // namespace

// Computes:  offsets[r] = where row rows[r] begins in a KV head's part of a cache page; factors =
//            coefs by row (or pair of rows), then by query head
// In/out:    as RocketScoreQuery says; of each of the item's KV heads
// Units:     bytes
// Launch:    one call a (sequence, KV head), before any of `scores`
// Needs:     1 to 256 rows
// Numerics:  factors are coefs, or, where `scores` multiplies bf16, those rounded to it, in pairs
// Source:    ours
// Measured:  below 1 us of a KV head
void rocket_score_open(const RocketScoreItem& item) {
  with_format(item, [&]<class B>(B) {
    for (int head = 0; head < item.num_kv_heads; ++head) open_query<B>(item, item.queries[head]);
  });
}

// Computes:  scores[k][h][P] = sum over rows r of coefs[k][h][r] bounds[k][rows[k][r]][P]
// In/out:    bounds by cache page, [KV heads, 2 * head_dim, pages_per_cache_page] bf16 or e5m2;
//            queries [num_kv_heads], opened; scores [num_kv_heads, group, pages] float32
// Units:     the coefficients carry scale and log2(e): scores in the log2 domain
// Launch:    one call a (sequence, some of its cache pages), for all KV heads that read the same
// Needs:     at most 256 rows; the scores of whole cache pages are written, those past the
//            sequence's last page too
// Numerics:  float32, of e5m2 bounds where the level has bf16 dot products and not `exact` those,
//            with coefficients rounded to bf16; rows in order whatever is beside a page
// Source:    RocketKV (arXiv 2502.14051) stage two
// Measured:  README.md of this room
void rocket_scores(const RocketScoreItem& item) {
  with_format(item, [&]<class B>(B) { score_all<B>(item); });
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
