#include "kernels/cpu/latent_formats.h"
#include "kernels/cpu/latent_item.h"
#include "kernels/cpu/simd/reduce4.h"
#include "kernels/latent_attention.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

constexpr float kInf = __builtin_inff();
/// Keys side by side in the scores: with few heads more, so that chains of sums hide their latency.
constexpr int kKeys = kLanes >= 16 ? 8 : 4;
constexpr int keys_with(int heads) { return heads <= 2 ? kKeys : 4; }
/// Heads that share a loaded vector, and vectors of channels side by side in the values.
constexpr int kHeads = kLanes >= 16 ? 4 : 2;
constexpr int kVecs = 4;
constexpr int kRowsAhead = 8;
/// Rows are padded to this many channels at every level.
constexpr int kAlign = 32;

struct Scratch {
  const std::byte** rows = nullptr;  ///< [kLatentTile + kKeys] keys of the tile
  float* q = nullptr;                ///< [kLatentHeads][head_dim rounded up] Query elements
  float* scores = nullptr;           ///< [kLatentHeads][kLatentTile], then the weights
  uint16_t* packed = nullptr;        ///< the weights as bf16 (dot products only)
};

/// acc[head][key] += sum over one vector of channels of rows[key][ch] q[head][ch].
template <class F, int kNumHeads, int kNumKeys>
FOVEAL_SIMD void score_step(const typename F::Query* q, int64_t q_stride,
                            const typename F::Cell (&cells)[kNumKeys],
                            F32 (&acc)[kNumHeads][kNumKeys]) {
#pragma GCC unroll 4
  for (int head = 0; head < kNumHeads; ++head) {
    const typename F::Cell query = F::query(q + head * q_stride);
#pragma GCC unroll 8
    for (int key = 0; key < kNumKeys; ++key) {
      acc[head][key] = F::mac(acc[head][key], cells[key], query);
    }
  }
}

/// s[head][key] = sum over channels of rows[key][ch] q[head][ch], for kNumKeys keys.
template <class F, int kNumHeads, int kNumKeys>
FOVEAL_SIMD void score_block(const typename F::Query* q, int64_t q_stride,
                             const std::byte* const* rows, int head_dim, float* s) {
  F32 acc[kNumHeads][kNumKeys];
#pragma GCC unroll 4
  for (int head = 0; head < kNumHeads; ++head) {
#pragma GCC unroll 8
    for (int key = 0; key < kNumKeys; ++key) acc[head][key] = zero();
  }
  const int whole = head_dim / F::kStep * F::kStep;
  typename F::Cell cells[kNumKeys];
  for (int ch = 0; ch < whole; ch += F::kStep) {
#pragma GCC unroll 8
    for (int key = 0; key < kNumKeys; ++key) cells[key] = F::load(rows[key], ch);
    score_step<F, kNumHeads, kNumKeys>(q + ch, q_stride, cells, acc);
  }
  if (whole < head_dim) {
#pragma GCC unroll 8
    for (int key = 0; key < kNumKeys; ++key) {
      cells[key] = F::load_n(rows[key], whole, head_dim - whole);
    }
    score_step<F, kNumHeads, kNumKeys>(q + whole, q_stride, cells, acc);
  }
#pragma GCC unroll 4
  for (int head = 0; head < kNumHeads; ++head) {
#pragma GCC unroll 2
    for (int key = 0; key < kNumKeys; key += 4) {
      store_reduced4(s + head * kLatentTile + key,
                     {acc[head][key], acc[head][key + 1], acc[head][key + 2], acc[head][key + 3]});
    }
  }
}

/// The same for kKeys keys.
template <class F, int kNumHeads>
void score_heads(const typename F::Query* q, int64_t q_stride, const std::byte* const* rows,
                 int head_dim, float* s) {
  constexpr int kNumKeys = keys_with(kNumHeads);
  for (int key = 0; key < kKeys; key += kNumKeys) {
    score_block<F, kNumHeads, kNumKeys>(q, q_stride, rows + key, head_dim, s + key);
  }
}

template <int kNumHeads, int kNumVecs>
FOVEAL_SIMD void clear_sums(F32 (&sum)[kNumHeads][kNumVecs]) {
#pragma GCC unroll 4
  for (int head = 0; head < kNumHeads; ++head) {
#pragma GCC unroll 8
    for (int vec = 0; vec < kNumVecs; ++vec) sum[head][vec] = zero();
  }
}

template <int kNumHeads, int kNumVecs>
FOVEAL_SIMD void store_sums(float* acc, int64_t acc_stride, const F32 (&sum)[kNumHeads][kNumVecs]) {
#pragma GCC unroll 4
  for (int head = 0; head < kNumHeads; ++head) {
#pragma GCC unroll 8
    for (int vec = 0; vec < kNumVecs; ++vec)
      store(acc + head * acc_stride + vec * kLanes, sum[head][vec]);
  }
}

/// acc[head][channel] = sum over keys of w[head][key] rows[key][channel], for kNumVecs vectors.
/// `left`: channels from here on that the value has, where that is not kWhole vectors.
template <int kNumHeads, int kNumVecs, bool kWhole, class F>
FOVEAL_SIMD void value_wide(const float* w, const std::byte* const* rows, int num_keys, int ch,
                            int left, float* acc, int64_t acc_stride) {
  F32 sum[kNumHeads][kNumVecs];
  clear_sums(sum);
  for (int key = 0; key < num_keys; ++key) {
    F32 cells[kNumVecs];
#pragma GCC unroll 8
    for (int vec = 0; vec < kNumVecs; ++vec) {
      const int n = left - vec * kLanes;
      cells[vec] = kWhole || n >= kLanes ? F::load(rows[key], ch + vec * kLanes)
                                         : F::load_n(rows[key], ch + vec * kLanes, n > 0 ? n : 0);
    }
#pragma GCC unroll 4
    for (int head = 0; head < kNumHeads; ++head) {
      const F32 weight = set1(w[head * kLatentTile + key]);
#pragma GCC unroll 8
      for (int vec = 0; vec < kNumVecs; ++vec)
        sum[head][vec] = fma(cells[vec], weight, sum[head][vec]);
    }
  }
  store_sums(acc, acc_stride, sum);
}

#if FOVEAL_ISA_LEVEL >= 3
/// The same with weights and values in bf16, two keys a product. `w` as bf16; an odd number of keys
/// has a last one of weight 0.
template <int kNumHeads, int kNumVecs, bool kWhole>
FOVEAL_SIMD void value_dot(const uint16_t* w, const std::byte* const* rows, int num_keys, int ch,
                           int left, float* acc, int64_t acc_stride) {
  F32 sum[kNumHeads][kNumVecs];
  clear_sums(sum);
  for (int key = 0; key < num_keys; key += 2) {
    Pairs cells[kNumVecs];
#pragma GCC unroll 4
    for (int vec = 0; vec < kNumVecs; vec += 2) {
      const int n = left - vec * kLanes;
      const int at = ch + vec * kLanes;
      const bool all = kWhole || n >= 2 * kLanes;
      const Pairs even = all ? load_pairs(rows[key] + 2 * at)
                             : load_pairs_n(rows[key] + 2 * at, n > 0 ? n / 2 : 0);
      const Pairs odd = all ? load_pairs(rows[key + 1] + 2 * at)
                            : load_pairs_n(rows[key + 1] + 2 * at, n > 0 ? n / 2 : 0);
      interleave(even, odd, cells[vec], cells[vec + 1]);
    }
#pragma GCC unroll 4
    for (int head = 0; head < kNumHeads; ++head) {
      const Pairs weight = broadcast_pair(w + head * kLatentTile + key);
#pragma GCC unroll 8
      for (int vec = 0; vec < kNumVecs; ++vec)
        sum[head][vec] = dot(sum[head][vec], cells[vec], weight);
    }
  }
  store_sums(acc, acc_stride, sum);
}
#endif

template <class F>
struct Run {
  const LatentItem& item;
  const Scratch& scratch;
  int64_t q_stride;

  typename F::Query* queries() const { return reinterpret_cast<typename F::Query*>(scratch.q); }

  /// Where the tile's keys lie; the last is repeated, so that blocks of keys are whole.
  void find_rows() const {
    const int64_t row_bytes = item.page_bytes / item.page_size;
    for (int idx = 0; idx < item.num_keys; ++idx) {
      const int key = item.tokens != nullptr ? item.tokens[idx] : item.first_key + idx;
      scratch.rows[idx] = item.cache + item.pages[key / item.page_size] * item.page_bytes +
                          key % item.page_size * row_bytes;
    }
    for (int idx = 0; idx < kKeys; ++idx) {
      scratch.rows[item.num_keys + idx] = scratch.rows[item.num_keys - 1];
    }
  }

  void open() const {
    for (int head = 0; head < item.num_heads; ++head) {
      const float* q = item.q + static_cast<int64_t>(head) * item.head_dim;
      for (int ch = 0; ch < item.head_dim; ch += F::kStep) {
        const int n = item.head_dim - ch < F::kStep ? item.head_dim - ch : F::kStep;
        F::open(q + ch, item.scale_log2, n, queries() + head * q_stride + ch);
      }
    }
  }

  __attribute__((always_inline)) void ask_for(int key) const {
    const int64_t row_bytes = item.page_bytes / item.page_size;
    for (int idx = key; idx < key + kKeys && idx < item.num_keys; ++idx) {
      for (int64_t at = 0; at < row_bytes; at += kCacheLine) prefetch(scratch.rows[idx] + at);
    }
  }

  void score() const {
    for (int key = 0; key < kRowsAhead; key += kKeys) ask_for(key);
    for (int key = 0; key < item.num_keys; key += kKeys) {
      ask_for(key + kRowsAhead);
      const std::byte* const* rows = scratch.rows + key;
      for (int head = 0; head < item.num_heads; head += kHeads) {
        const typename F::Query* q = queries() + head * q_stride;
        float* s = scratch.scores + head * kLatentTile + key;
        switch (item.num_heads - head) {
          case 1:
            score_heads<F, 1>(q, q_stride, rows, item.head_dim, s);
            break;
          case 2:
            score_heads<F, 2>(q, q_stride, rows, item.head_dim, s);
            break;
          case 3:
            score_heads<F, (kHeads < 3 ? kHeads : 3)>(q, q_stride, rows, item.head_dim, s);
            break;
          default:
            score_heads<F, kHeads>(q, q_stride, rows, item.head_dim, s);
        }
      }
    }
  }

  /// Scores to weights, relative to the tile's largest.
  void weigh() const {
    const int padded = (item.num_keys + kAlign - 1) / kAlign * kAlign;
    for (int head = 0; head < item.num_heads; ++head) {
      float* s = scratch.scores + head * kLatentTile;
      for (int key = item.num_keys; key < padded; ++key) s[key] = -kInf;
      F32 top = load(s);
      for (int key = kLanes; key < padded; key += kLanes) top = max(top, load(s + key));
      item.max[head] = reduce_max(top);
      top = set1(item.max[head]);
      F32 sum = zero();
      if constexpr (F::kRounded) {
#if FOVEAL_ISA_LEVEL >= 3
        for (int key = 0; key < padded; key += 2 * kLanes) {
          const Pairs weights = pack_bf16(exp2_coarse(load(s + key) - top),
                                          exp2_coarse(load(s + key + kLanes) - top));
          store_pairs(scratch.packed + head * kLatentTile + key, weights);
          sum = dot(sum, weights, set1_pair(0x3f803f80U));  // sums what is used
        }
#endif
      } else {
        for (int key = 0; key < padded; key += kLanes) {
          const F32 weight = exp2(load(s + key) - top);
          store(s + key, weight);
          sum = sum + weight;
        }
      }
      item.sum[head] = reduce_add(sum);
    }
  }

  template <int kNumHeads>
  void value_block(int head, int ch) const {
    const int64_t acc_stride = latent_acc_stride(item.value_dim);
    float* acc = item.acc + head * acc_stride + ch;
    const int left = item.value_dim - ch;
#if FOVEAL_ISA_LEVEL >= 3
    if constexpr (F::kRounded) {
      const uint16_t* w = scratch.packed + head * kLatentTile;
      const auto run = left >= 4 * kLanes  ? value_dot<kNumHeads, 4, true>
                       : left > 2 * kLanes ? value_dot<kNumHeads, 4, false>
                                           : value_dot<kNumHeads, 2, false>;
      return run(w, scratch.rows, item.num_keys, ch, left, acc, acc_stride);
    }
#endif
    const float* w = scratch.scores + head * kLatentTile;
    if constexpr (!F::kRounded) {
      if (left >= 4 * kLanes) {
        value_wide<kNumHeads, 4, true, F>(w, scratch.rows, item.num_keys, ch, left, acc,
                                          acc_stride);
        return;
      }
      for (int vec = 0; vec * kLanes < left; ++vec) {
        value_wide<kNumHeads, 1, false, F>(w, scratch.rows, item.num_keys, ch + vec * kLanes,
                                           left - vec * kLanes, acc + vec * kLanes, acc_stride);
      }
    }
  }

  void add_values() const {
    for (int ch = 0; ch < item.value_dim; ch += kVecs * kLanes) {
      for (int head = 0; head < item.num_heads; head += kHeads) {
        switch (item.num_heads - head) {
          case 1:
            value_block<1>(head, ch);
            break;
          case 2:
            value_block<2>(head, ch);
            break;
          case 3:
            value_block<(kHeads < 3 ? kHeads : 3)>(head, ch);
            break;
          default:
            value_block<kHeads>(head, ch);
        }
      }
    }
  }
};

template <class F>
void run_tile(const LatentItem& item, const Scratch& scratch) {
  const Run<F> run{item, scratch, (item.head_dim + kAlign - 1) / kAlign * kAlign};
  run.find_rows();
  run.open();
  run.score();
  run.weigh();
  run.add_values();
}

size_t latent_scratch(int32_t head_dim) {
  const size_t padded = (static_cast<size_t>(head_dim) + kAlign - 1) / kAlign * kAlign;
  const size_t a_head = padded * sizeof(float) + kLatentTile * (sizeof(float) + sizeof(uint16_t));
  return (kLatentTile + kKeys) * sizeof(void*) + kLatentHeads * a_head;
}

// Computes:  acc[h] = sum_t 2^(s[h][t] - max[h]) row_t[0 .. value_dim), sum[h] and max[h] over one
//            tile of a row's set, s[h][t] = scale q[h] . row_t
// In/out:    q [num_heads, head_dim] float32, latent pages (base/kv_view.h); max, sum [num_heads],
//            acc [num_heads, latent_acc_stride] float32 out
// Units:     keys by position or listed; scores and maxima in the log2 domain
// Launch:    one call a (row, up to kLatentHeads heads, tile of kLatentTile keys)
// Needs:     head_dim and value_dim even; every row finite
// Numerics:  bf16 products and weights rounded to bf16 where the level has them and not `exact`
//            (the sum is over the rounded weights), else float32. One chain an output, ascending:
//            no batch, no thread, no neighbour shows
// Source:    split-KV flash attention over MLA's latent (DeepSeek-V2, arXiv 2405.04434)
// Measured:  docs/kernels/latent_attention.md
void latent_tile(const LatentItem& item, std::byte* bytes) {
  Scratch scratch;
  scratch.rows = reinterpret_cast<const std::byte**>(bytes);
  scratch.q = reinterpret_cast<float*>(bytes + (kLatentTile + kKeys) * sizeof(void*));
  scratch.scores = scratch.q + static_cast<int64_t>(kLatentHeads) *
                                   ((item.head_dim + kAlign - 1) / kAlign * kAlign);
  scratch.packed = reinterpret_cast<uint16_t*>(scratch.scores + kLatentHeads * kLatentTile);
  switch (item.format) {
    case KvFormat::kBf16:
#if FOVEAL_ISA_LEVEL >= 3
      if (!item.exact) return run_tile<LatentDot>(item, scratch);
#endif
      return run_tile<LatentWide<LoadBf16>>(item, scratch);
    case KvFormat::kF16:
      return run_tile<LatentWide<LoadF16>>(item, scratch);
    case KvFormat::kF32:
      return run_tile<LatentWide<LoadF32>>(item, scratch);
  }
}

// Computes:  out[h] = f out[h] + g acc[h] and the same of the sums, f = 2^(total_max - top),
//            g = 2^(max - top), top the larger; after the last tile out[h] / total_sum[h]
// In/out:    a tile's max, sum, acc in; the row's total_max, total_sum and out [num_heads,
//            value_dim] in and out
// Units:     maxima in the log2 domain
// Launch:    one call a (row, up to kLatentHeads heads, tile), tiles in ascending order
// Needs:     the tile saw a key
// Numerics:  float32
// Source:    flash attention's running softmax
// Measured:  with latent_tile
void latent_fold(const LatentFold& fold) {
  for (int head = 0; head < fold.num_heads; ++head) {
    const float top =
        fold.first || fold.max[head] > fold.total_max[head] ? fold.max[head] : fold.total_max[head];
    const F32 own = exp2(set1(fold.max[head] - top));
    const F32 before = fold.first ? zero() : exp2(set1(fold.total_max[head] - top));
    float lanes[2][kLanes];
    store(lanes[0], own);
    store(lanes[1], before);
    const float sum =
        lanes[0][0] * fold.sum[head] + (fold.first ? 0 : lanes[1][0] * fold.total_sum[head]);
    fold.total_max[head] = top;
    fold.total_sum[head] = sum;
    const float* acc = fold.acc + static_cast<int64_t>(head) * latent_acc_stride(fold.value_dim);
    float* out = fold.out + static_cast<int64_t>(head) * fold.value_dim;
    const F32 inverse = set1(fold.last ? 1.0F / sum : 1.0F);
    for (int ch = 0; ch < fold.value_dim; ch += kLanes) {
      const int n = fold.value_dim - ch < kLanes ? fold.value_dim - ch : kLanes;
      F32 total = own * load(acc + ch);
      if (!fold.first) total = fma(before, load_n(out + ch, n), total);
      store_n(out + ch, total * inverse, n);
    }
  }
}

void latent_store(const float* row, int32_t n, KvFormat format, std::byte* slot) {
  for (int at = 0; at < n; at += kLanes) {
    const int count = n - at < kLanes ? n - at : kLanes;
    const F32 value = load_n(row + at, count);
    if (format == KvFormat::kF32) {
      store_n(reinterpret_cast<float*>(slot) + at, value, count);
    } else if (format == KvFormat::kBf16) {
      store_bf16_n(reinterpret_cast<uint16_t*>(slot) + at, value, count);
    } else {
      store_f16_n(reinterpret_cast<uint16_t*>(slot) + at, value, count);
    }
  }
}

}  // namespace

extern const LatentKernels kLatentKernels;
const LatentKernels kLatentKernels = {
    .scratch = latent_scratch, .tile = latent_tile, .fold = latent_fold, .store = latent_store};

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
