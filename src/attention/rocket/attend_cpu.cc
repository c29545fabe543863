#include "attention/rocket/chunk_scores.h"
#include "attention/rocket/rocket_isa.h"
#include "kernels/cpu/simd/compress.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

constexpr int kSplitKeys = kAttendSplit * kAttendChunk;
constexpr int kChunksAhead = 2 * kSideChunks;  ///< of K: a block takes less time than memory
constexpr int kRowsAhead = 8;  ///< V rows asked for ahead of use: 2 KB at head_dim 64
static_assert(kAttendChunk == kChunk && kAttendSplit % 4 == 0);

struct Scratch {
  float* scores = nullptr;  ///< [num_heads][kSplitKeys], then the weights
  float* packed = nullptr;  ///< [num_heads][kSplitKeys / 2] weights as pairs (dot products only)
  float* q = nullptr;       ///< [num_heads][head_dim] coefficients
};

/// The V rows that are used, in ascending order: a row is kPair tokens.
struct ValueRows {
  const std::byte* row[kSplitKeys + kRowsAhead];
  int16_t coef[kSplitKeys];        ///< offset of its weights
  int of_chunk[kAttendSplit + 1];  ///< where each chunk's begin
  int count = 0;
};

/// acc[head][channel] = sum over the rows of w[head][row] v[row][channel] for kVecs vectors of
/// channels, the last one cut to `tail` lanes.
template <class F, int kNumHeads, int kVecs>
FOVEAL_SIMD void add_rows(const float* w, int64_t w_stride, const ValueRows& rows,
                          int64_t channel_bytes, int tail, float* acc, int64_t acc_stride) {
  F32 sum[kNumHeads][kVecs];
#pragma GCC unroll 4
  for (int head = 0; head < kNumHeads; ++head) {
#pragma GCC unroll 4
    for (int vec = 0; vec < kVecs; ++vec) sum[head][vec] = zero();
  }
  for (int idx = 0; idx < rows.count; ++idx) {
    const std::byte* row = rows.row[idx] + channel_bytes;
    const std::byte* ahead = rows.row[idx + kRowsAhead] + channel_bytes;
    for (int at = 0; at < kVecs * kLanes * F::kCellBytes; at += kCacheLine) prefetch(ahead + at);
    const float* coefs = w + rows.coef[idx];
    // Each vector is used up before the next is loaded: with 16 registers there is room for one.
#pragma GCC unroll 4
    for (int vec = 0; vec < kVecs; ++vec) {
      const std::byte* cells = row + vec * kLanes * F::kCellBytes;
      const typename F::Raw raw = vec < kVecs - 1 ? F::load(cells) : F::load_n(cells, tail);
#pragma GCC unroll 4
      for (int head = 0; head < kNumHeads; ++head) {
        sum[head][vec] = F::mac(sum[head][vec], raw, F::coef(coefs + head * w_stride));
      }
    }
  }
#pragma GCC unroll 4
  for (int head = 0; head < kNumHeads; ++head) {
#pragma GCC unroll 4
    for (int vec = 0; vec < kVecs; ++vec)
      store(acc + head * acc_stride + vec * kLanes, sum[head][vec]);
  }
}

template <class F>
struct Run {
  const RocketAttendItem& item;
  const Scratch& scratch;

  int padded_chunks() const { return (item.num_chunks + 3) / 4 * 4; }

  static const std::byte* v_chunk(const KvHead& kv, int chunk) {
    const int key = chunk * kChunk;
    return kv.v + kv.pages[key / kv.page_size] * kv.page_bytes +
           static_cast<int64_t>(key % kv.page_size) / F::kPair * kv.head_dim * F::kCellBytes;
  }

  /// V of the next item's chunk `idx`, asked for while there is only arithmetic to be done here.
  void ask_next_values(int idx) const {
    if (item.next == nullptr || idx >= item.next->num_chunks) return;
    const std::byte* v = v_chunk(item.next->kv, item.next->chunks[idx]);
    const int64_t bytes = static_cast<int64_t>(item.kv.head_dim) * F::kCellBytes;
    constexpr unsigned kRow = (1U << F::kPair) - 1U;
    for (unsigned tokens = item.next->tokens[idx]; tokens != 0;) {
      const int row = __builtin_ctz(tokens) / F::kPair;
      for (int64_t at = 0; at < bytes; at += kCacheLine) prefetch_far(v + row * bytes + at);
      tokens &= ~(kRow << row * F::kPair);
    }
  }

  /// V of chunks [first, end), asked for while their K is read.
  void ask_values(const ValueRows& rows, int first, int end) const {
    const int64_t bytes = static_cast<int64_t>(item.kv.head_dim) * F::kCellBytes;
    for (int idx = rows.of_chunk[first]; idx < rows.of_chunk[end]; ++idx) {
      for (int64_t at = 0; at < bytes; at += kCacheLine) prefetch(rows.row[idx] + at);
    }
  }

  void score(const ValueRows& rows) const {
    const int head_dim = item.kv.head_dim;
    for (int head = 0; head < item.num_heads; ++head) {
      const int64_t at = static_cast<int64_t>(head) * head_dim;
      open_row<F>(item.q + at, head_dim, item.scale_log2, scratch.q + at);
    }
    const std::byte* k[kAttendSplit + kChunksAhead];
    for (int idx = 0; idx < kAttendSplit + kChunksAhead; ++idx) {
      const int chunk = idx < item.num_chunks ? idx : item.num_chunks - 1;
      k[idx] = k_chunk<F>(item.kv, item.chunks[chunk] * kChunk);
    }
    const std::byte* next_k[kAttendSplit];
    for (int idx = 0; idx < kAttendSplit && item.next != nullptr; ++idx) {
      const int chunk = idx < item.next->num_chunks ? idx : item.next->num_chunks - 1;
      next_k[idx] = k_chunk<F>(item.next->kv, item.next->chunks[chunk] * kChunk);
    }
    const int64_t k_stride = static_cast<int64_t>(item.kv.page_size) * F::kCellBytes;
    for (int idx = kSideChunks; idx < kChunksAhead; ++idx) {
      for (int step = 0; step < head_dim / F::kPair; ++step) prefetch(k[idx] + step * k_stride);
    }
    for (int idx = 0; idx < padded_chunks(); idx += kSideChunks) {
      const int end = idx + kSideChunks < item.num_chunks ? idx + kSideChunks : item.num_chunks;
      if (idx < end) ask_values(rows, idx, end);
      for (int head = 0; head < item.num_heads; head += kRows) {
        ChunksAhead ahead;
        if (head == 0) ahead.near = k + idx + kChunksAhead;
        if (head == 0 && item.next != nullptr) ahead.far = next_k + idx;
        score_rows<F>(scratch.q + static_cast<int64_t>(head) * head_dim, head_dim, k + idx, ahead,
                      k_stride, head_dim / F::kPair,
                      scratch.scores + static_cast<int64_t>(head) * kSplitKeys + idx * kChunk,
                      kSplitKeys, item.num_heads - head);
      }
    }
  }

  /// Hides what is not selected; answers the largest of the rest.
  float mask(float* s) const {
    F32 most = set1(-kInf);
    for (int idx = 0; idx < padded_chunks(); ++idx) {
      const unsigned tokens = idx < item.num_chunks ? item.tokens[idx] : 0U;
#pragma GCC unroll 4
      for (int vec = 0; vec < kChunkVecs; ++vec) {
        float* at = s + idx * kChunk + vec * kLanes;
        const F32 shown = select(mask_of(tokens >> vec * kLanes), load(at), set1(-kInf));
        store(at, shown);
        most = max(most, shown);
      }
    }
    return reduce_max(most);
  }

  void weigh() const {
    const int end = padded_chunks() * kChunk;
    for (int head = 0; head < item.num_heads; ++head) {
      float* s = scratch.scores + static_cast<int64_t>(head) * kSplitKeys;
      item.max[head] = mask(s);
      const F32 top = set1(item.max[head]);
      F32 sum = zero();
      int due = head * kChunk;  // each head's pass asks for its share of the next item's V
      const auto ask = [&](int at) {
        for (; due <= at; due += item.num_heads * kChunk) ask_next_values(due / kChunk);
      };
      if constexpr (F::kRounded) {
        auto* packed =
            reinterpret_cast<uint16_t*>(scratch.packed) + static_cast<int64_t>(head) * kSplitKeys;
        for (int at = 0; at < end; at += kKeyTile) {
          ask(at);
          sum = F::weigh(s + at, top, packed + at, sum);
        }
      } else {
        for (int at = 0; at < end; at += kLanes) {
          ask(at);
          const F32 weight = exp2(load(s + at) - top);
          store(s + at, weight);
          sum = sum + weight;
        }
      }
      item.sum[head] = reduce_add(sum);
    }
  }

  void collect(ValueRows& rows) const {
    const int64_t v_stride = static_cast<int64_t>(item.kv.head_dim) * F::kCellBytes;
    const std::byte* last = nullptr;
    for (int idx = 0; idx < item.num_chunks; ++idx) {
      rows.of_chunk[idx] = rows.count;
      const std::byte* v = v_chunk(item.kv, item.chunks[idx]);
      for (int step = 0; step < kChunk / F::kPair; ++step) {
        const unsigned pair = (1U << F::kPair) - 1U;
        const bool chosen = (item.tokens[idx] >> (step * F::kPair) & pair) != 0;
        const std::byte* row = v + step * v_stride;
        rows.row[rows.count] = row;
        rows.coef[rows.count] = static_cast<int16_t>((idx * kChunk / F::kPair + step) * F::kCoefs);
        // No branch: which pairs are chosen cannot be foreseen.
        rows.count += chosen ? 1 : 0;
        last = chosen ? row : last;
      }
    }
    rows.of_chunk[item.num_chunks] = rows.count;
    for (int idx = 0; idx < kRowsAhead; ++idx) rows.row[rows.count + idx] = last;
  }

  template <int kVecs>
  void value_heads(const ValueRows& rows, int channel, int tail) const {
    const float* w = F::kRounded ? scratch.packed : scratch.scores;
    const int64_t w_stride = F::kRounded ? kSplitKeys / 2 : kSplitKeys;
    const int64_t acc_stride = padded_dim(item.kv.head_dim);
    const int64_t bytes = static_cast<int64_t>(channel) * F::kCellBytes;
    for (int head = 0; head < item.num_heads; head += kRows) {
      const float* w_head = w + head * w_stride;
      float* acc = item.acc + head * acc_stride + channel;
      switch (item.num_heads - head) {
        case 1:
          add_rows<F, 1, kVecs>(w_head, w_stride, rows, bytes, tail, acc, acc_stride);
          break;
        case 2:
          add_rows<F, 2, kVecs>(w_head, w_stride, rows, bytes, tail, acc, acc_stride);
          break;
        case 3:
          add_rows<F, (kRows < 3 ? kRows : 3), kVecs>(w_head, w_stride, rows, bytes, tail, acc,
                                                      acc_stride);
          break;
        default:
          add_rows<F, kRows, kVecs>(w_head, w_stride, rows, bytes, tail, acc, acc_stride);
      }
    }
  }

  void values(const ValueRows& rows) const {
    const int head_dim = item.kv.head_dim;
    for (int channel = 0; channel < head_dim;) {
      const int left = head_dim - channel;
      if (left >= 4 * kLanes) {
        value_heads<4>(rows, channel, kLanes);
        channel += 4 * kLanes;
      } else if (left >= 2 * kLanes) {
        value_heads<2>(rows, channel, kLanes);
        channel += 2 * kLanes;
      } else {
        value_heads<1>(rows, channel, left < kLanes ? left : kLanes);
        channel += kLanes;
      }
    }
  }
};

template <class F>
void run_item(const RocketAttendItem& item, const Scratch& scratch) {
  const Run<F> run{item, scratch};
  ValueRows rows;
  run.collect(rows);
  run.score(rows);
  run.weigh();
  run.values(rows);
}

}  // namespace

size_t rocket_attend_scratch(int32_t head_dim, int32_t num_heads) {
  const int64_t a_head = head_dim + kSplitKeys + kSplitKeys / 2;
  return static_cast<size_t>(a_head * num_heads) * sizeof(float);
}

// Computes:  acc[h] = sum_t 2^(s[h][t] - max[h]) v[t], sum[h], max[h] over the selected tokens t,
//            s[h][t] = scale q[h] . k[t]
// In/out:    q [num_heads, head_dim] float32; K, V pages (base/kv_view.h); chunks [num_chunks]
//            int32 and tokens [num_chunks] 16 bits: the selection; max, sum [num_heads], acc
//            [num_heads, padded_dim] float32 out
// Units:     chunks of 16 tokens by absolute position; scores and maxima in the log2 domain
// Launch:    one call a (sequence, KV head, kAttendSplit chunks of its selection)
// Needs:     head_dim even, <= 256; cache pages of a multiple of 16 tokens; every chunk has a token
// Numerics:  as decode's (kernels/cpu/attention_decode_cpu.cc): bf16 dot products and weights where
//            the level has them and not `exact`, else float32. Tokens in ascending order; splits
//            by the selection alone, so no batch and no thread shows. K is read by whole chunks (a
//            cache line of bf16 holds 16 tokens of a channel pair), V by rows of selected tokens
// Source:    RocketKV (arXiv 2502.14051) stage two, split-KV flash attention
// Measured:  README.md of this room
void rocket_attend(const RocketAttendItem& item, std::byte* bytes) {
  Scratch scratch;
  scratch.scores = reinterpret_cast<float*>(bytes);
  scratch.packed = scratch.scores + static_cast<int64_t>(item.num_heads) * kSplitKeys;
  scratch.q = scratch.packed + static_cast<int64_t>(item.num_heads) * (kSplitKeys / 2);
  switch (item.kv.format) {
    case KvFormat::kBf16:
#if FOVEAL_ISA_LEVEL >= 3
      if (!item.exact) {
        run_item<Bf16Dot>(item, scratch);
        return;
      }
#endif
      run_item<Bf16Wide>(item, scratch);
      return;
    case KvFormat::kF16:
      run_item<F16Wide>(item, scratch);
      return;
    case KvFormat::kF32:
      run_item<F32Plain>(item, scratch);
      return;
  }
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
