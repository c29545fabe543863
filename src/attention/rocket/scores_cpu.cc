#include "attention/rocket/rocket_isa.h"
#include "kernels/cpu/simd/e5m2.h"
#include "kernels/cpu/simd/vec.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

/// Register block: heads that share a loaded bound, and cache pages side by side.
constexpr int kHeads = kLanes >= 8 ? 4 : 2;
constexpr int kPages = kLanes == 16 ? 4 : 2;
constexpr float kInf = __builtin_inff();
/// What scores are held within: a page whose bound is infinite ranks first instead of as NaN.
constexpr float kHuge = 1e30F;

struct Bf16Bound {
  static constexpr int kBytes = 2;
  FOVEAL_SIMD F32 load_all(const std::byte* p) {
    return load_bf16(reinterpret_cast<const uint16_t*>(p));
  }
  FOVEAL_SIMD F32 load_some(const std::byte* p, int n) {
    return load_bf16_n(reinterpret_cast<const uint16_t*>(p), n);
  }
};

struct E5m2Bound {
  static constexpr int kBytes = 1;
  FOVEAL_SIMD F32 load_all(const std::byte* p) {
    return load_e5m2(reinterpret_cast<const uint8_t*>(p));
  }
  FOVEAL_SIMD F32 load_some(const std::byte* p, int n) {
    return load_e5m2_n(reinterpret_cast<const uint8_t*>(p), n);
  }
};

/// out[head][cache page][i] = sum over rows of coefs[head][row] bound[cache page][row][i], i < n.
template <class B, int kNumHeads, bool kWhole>
FOVEAL_SIMD void score_lanes(const RocketScoreItem& item, const float* coefs,
                             const std::byte* const (&pages)[kPages], int n, float* const* out) {
  const int64_t row_bytes = static_cast<int64_t>(item.pages_per_cache_page) * B::kBytes;
  F32 acc[kNumHeads][kPages];
#pragma GCC unroll 4
  for (int head = 0; head < kNumHeads; ++head) {
#pragma GCC unroll 4
    for (int page = 0; page < kPages; ++page) acc[head][page] = zero();
  }
  for (int row = 0; row < item.num_rows; ++row) {
    const int64_t at = item.rows[row] * row_bytes;
    F32 bound[kPages];
#pragma GCC unroll 4
    for (int page = 0; page < kPages; ++page) {
      bound[page] = kWhole ? B::load_all(pages[page] + at) : B::load_some(pages[page] + at, n);
    }
#pragma GCC unroll 4
    for (int head = 0; head < kNumHeads; ++head) {
      const F32 coef = set1(coefs[static_cast<int64_t>(head) * item.num_rows + row]);
#pragma GCC unroll 4
      for (int page = 0; page < kPages; ++page)
        acc[head][page] = fma(coef, bound[page], acc[head][page]);
    }
  }
#pragma GCC unroll 4
  for (int page = 0; page < kPages; ++page) {
#pragma GCC unroll 4
    for (int head = 0; head < kNumHeads; ++head) {
      store_n(out[page] + head * item.score_stride, acc[head][page], n);
    }
  }
}

template <class B, int kNumHeads>
void score_heads(const RocketScoreItem& item, int head) {
  const float* coefs = item.coefs + static_cast<int64_t>(head) * item.num_rows;
  const int len = item.pages_per_cache_page;
  for (int first = 0; first < item.num_cache_pages; first += kPages) {
    for (int at = 0; at < len; at += kLanes) {
      const std::byte* pages[kPages];
      float* out[kPages];
      for (int idx = 0; idx < kPages; ++idx) {
        const int last = item.num_cache_pages - 1;
        const int page = first + idx < last ? first + idx : last;
        pages[idx] = item.bounds + item.cache_pages[page] * item.bytes_per_page + at * B::kBytes;
        out[idx] = item.scores + head * item.score_stride + static_cast<int64_t>(page) * len + at;
      }
      if (len - at >= kLanes) {
        score_lanes<B, kNumHeads, true>(item, coefs, pages, kLanes, out);
      } else {
        score_lanes<B, kNumHeads, false>(item, coefs, pages, len - at, out);
      }
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
// Launch:    one call a (sequence, KV head, split of kScoreTokens keys)
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

// Computes:  ranks[P] = sum over heads h of 2^(s[h][P] - max s[h]) / sum over P of the same
// In/out:    scores [group, score_stride] float32 (overwritten), ranks [score_stride]
// Units:     scores in the log2 domain; ranks are sums of probabilities
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
      store(item.ranks + at, fma(load(s + at), inverse, load(item.ranks + at)));
    }
  }
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
