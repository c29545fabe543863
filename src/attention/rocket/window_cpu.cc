#include "attention/rocket/chunk_scores.h"
#include "attention/rocket/rocket_isa.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

constexpr int kBlock = 64;  ///< keys whose K (8 KB at head_dim 64) stays in L1 for all rows
constexpr int kBlockChunks = kBlock / kChunk;
static_assert(kWindowSplit % kBlock == 0);

template <class F>
struct Window {
  const RocketWindowItem& item;

  int num_rows() const { return item.group * item.window; }
  int position(int row) const { return item.prompt_len - item.window + row % item.window; }

  void open() const {
    const int head_dim = item.kv.head_dim;
    for (int row = 0; row < num_rows(); ++row) {
      const float* q = item.ring + position(row) % item.window * item.ring_stride +
                       static_cast<int64_t>(row / item.window) * head_dim;
      open_row<F>(q, head_dim, item.scale_log2, item.coefs + static_cast<int64_t>(row) * head_dim);
    }
  }

  /// Scores of rows [row, row + count) against one block; chunks past the prompt repeat its last.
  void score(int block, int row, int count, float (&s)[kRows][kBlock]) const {
    const std::byte* k[kBlockChunks];
    const int last = (item.prompt_len - 1) / kChunk * kChunk;
    for (int chunk = 0; chunk < kBlockChunks; ++chunk) {
      const int key = block + chunk * kChunk;
      k[chunk] = k_chunk<F>(item.kv, key < last ? key : last);
    }
    const int head_dim = item.kv.head_dim;
    const int64_t k_stride = static_cast<int64_t>(item.kv.page_size) * F::kCellBytes;
    const float* q = item.coefs + static_cast<int64_t>(row) * head_dim;
    for (int chunk = 0; chunk < kBlockChunks; chunk += kSideChunks) {
      score_rows<F>(q, head_dim, k + chunk, {}, k_stride, head_dim / F::kPair,
                    &s[0][chunk * kChunk], kBlock, count);
    }
  }

  void add_row(int row, int block, float* s) const {
    const int visible = position(row) + 1 - block;
    if (visible <= 0) return;
    for (int key = visible; key < kBlock; ++key) s[key] = -kInf;
    F32 top = load(s);
    for (int at = kLanes; at < kBlock; at += kLanes) top = max(top, load(s + at));
    const float before = item.max[row];
    const float block_max = reduce_max(top);
    if (block_max > before) {
      float factor[kLanes];
      store(factor, exp2(set1(before - block_max)));
      item.sum[row] = item.sum[row] * factor[0];
      item.max[row] = block_max;
    }
    const F32 now = set1(item.max[row]);
    F32 sum = zero();
    for (int at = 0; at < kBlock; at += kLanes) sum = sum + exp2(load(s + at) - now);
    item.sum[row] = item.sum[row] + reduce_add(sum);
  }

  void rows() const {
    for (int row = 0; row < num_rows(); ++row) {
      item.max[row] = -kInf;
      item.sum[row] = 0;
    }
    float s[kRows][kBlock];
    for (int block = item.key_begin; block < item.key_end; block += kBlock) {
      for (int row = 0; row < num_rows(); row += kRows) {
        const int count = num_rows() - row < kRows ? num_rows() - row : kRows;
        score(block, row, count, s);
        for (int idx = 0; idx < count; ++idx) add_row(row + idx, block, s[idx]);
      }
    }
  }

  void columns() const {
    const int prefix = item.prompt_len - item.window;
    const int end = item.key_end < prefix ? item.key_end : prefix;
    float s[kRows][kBlock];
    for (int block = item.key_begin; block < end; block += kBlock) {
      F32 total[kBlock / kLanes];
      for (F32& vec : total) vec = zero();
      for (int row = 0; row < num_rows(); row += kRows) {
        const int count = num_rows() - row < kRows ? num_rows() - row : kRows;
        score(block, row, count, s);
        for (int idx = 0; idx < count; ++idx) {
          const F32 lse = set1(item.lse[row + idx]);
          for (int vec = 0; vec < kBlock / kLanes; ++vec) {
            total[vec] = total[vec] + exp2(load(s[idx] + vec * kLanes) - lse);
          }
        }
      }
      for (int vec = 0; vec < kBlock / kLanes; ++vec) {
        const int left = end - block - vec * kLanes;
        if (left <= 0) break;
        store_n(item.scores + block + vec * kLanes, total[vec], left < kLanes ? left : kLanes);
      }
    }
  }
};

enum class Pass : uint8_t { kOpen, kRows, kColumns };

template <class F>
void run_pass(const RocketWindowItem& item, Pass pass) {
  const Window<F> window{item};
  if (pass == Pass::kOpen) {
    window.open();
  } else if (pass == Pass::kRows) {
    window.rows();
  } else {
    window.columns();
  }
}

void run(const RocketWindowItem& item, Pass pass) {
  switch (item.kv.format) {
    case KvFormat::kBf16:
#if FOVEAL_ISA_LEVEL >= 3
      if (!item.exact) {
        run_pass<Bf16Dot>(item, pass);
        return;
      }
#endif
      run_pass<Bf16Wide>(item, pass);
      return;
    case KvFormat::kF16:
      run_pass<F16Wide>(item, pass);
      return;
    case KvFormat::kF32:
      run_pass<F32Plain>(item, pass);
      return;
  }
}

}  // namespace

// Computes:  score[t] = sum over rows r of 2^(s[r][t] - lse[r]), t < prompt_len - window, with
//            s[r][t] = scale q[r] . k[t] and lse[r] = log2 of the sum over visible t of 2^s[r][t]:
//            pass `rows` gives each split's share of lse, pass `columns` the scores
// In/out:    ring [window, num_heads, head_dim] float32; K pages (base/kv_view.h); coefs
//            [group * window, head_dim]; max, sum, lse [group * window]; scores [prompt_len -
//            window], all float32
// Units:     keys by absolute position; row r at position prompt_len - window + r % window; scores
//            and maxima in the log2 domain
// Launch:    `open` once a KV head; then one call a (KV head, kWindowSplit keys) and pass
// Needs:     window < prompt_len; head_dim even, <= 256; cache pages of a multiple of 16 tokens
// Numerics:  bf16 dot products where the level has them and not `exact`, else float32; a row's sum
//            over blocks of 64 keys in ascending order, a score's over rows in ascending order: no
//            thread and no chunk shows. Scores exist for 4 rows x 64 keys at a time
// Source:    RocketKV (arXiv 2502.14051) stage one; two passes are ours
// Measured:  2.4 ms a layer for 7,680 keys, window 32, 9 heads of 64 over 3 KV heads, bf16; pooling
//            and top-k included; one core of an AMD EPYC, busy neighbours, 2026-11-28
//            (bench_rocket)
void rocket_window_open(const RocketWindowItem& item) { run(item, Pass::kOpen); }
void rocket_window_rows(const RocketWindowItem& item) { run(item, Pass::kRows); }
void rocket_window_columns(const RocketWindowItem& item) { run(item, Pass::kColumns); }

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
