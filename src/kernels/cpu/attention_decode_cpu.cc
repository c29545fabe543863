#include "kernels/cpu/attention_formats.h"
#include "kernels/cpu/attention_isa.h"
#include "kernels/paged_attention.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

constexpr int kChunk = 16;  ///< keys that surely share a page
static_assert(kChunk == kSeedKeys);
constexpr int kSplitChunks = kDecodeSplit / kChunk;
constexpr int kTileChunks = kKeyTile / kChunk;
constexpr int kChunkVecs = kChunk / kLanes;
/// Register block: heads that share a loaded vector, and vectors side by side.
constexpr int kHeads = kLanes >= 8 ? 4 : 2;
constexpr int kRunChunks = kLanes == 16 ? 4 : 1;
constexpr int kRunVecs = kRunChunks * kChunkVecs;
constexpr float kInf = __builtin_inff();
/// How far requests run ahead of use. Pages lie anywhere, so the hardware's own prefetch restarts
/// at each: asking a page (8 KB at head_dim 64) ahead took decode from 14 to 22 GB/s a core.
constexpr int kRunsAhead = 1;
constexpr int kIdleTiles = 4;  ///< of V, asked for before the weights are computed (dense)

struct Scratch {
  float* q = nullptr;        ///< [num_heads][head_dim] coefficients
  float* scores = nullptr;   ///< [num_heads][kDecodeSplit], then the weights
  float* packed = nullptr;   ///< [num_heads][kDecodeSplit / 2] weights as pairs (dot products only)
  float* running = nullptr;  ///< [num_heads] maximum that votes compare with
};

/// s[head][token] = sum over d of k[d][token] q[head][d] for kVecs vectors of tokens of one page.
/// `ahead` is where the next run's K lies: its rows are asked for as this run's are used.
template <class F, int kNumHeads, int kVecs>
FOVEAL_SIMD void score_run(const float* q, int64_t q_stride, const std::byte* k,
                           const std::byte* ahead, int64_t k_stride, int steps, float* s) {
  F32 acc[kNumHeads][kVecs];
#pragma GCC unroll 4
  for (int head = 0; head < kNumHeads; ++head) {
#pragma GCC unroll 4
    for (int vec = 0; vec < kVecs; ++vec) acc[head][vec] = zero();
  }
  for (int step = 0; step < steps; ++step, k += k_stride, ahead += k_stride, q += F::kCoefs) {
    for (int at = 0; at < kVecs * kLanes * F::kCellBytes; at += kCacheLine) prefetch(ahead + at);
    typename F::Raw raw[kVecs];
#pragma GCC unroll 4
    for (int vec = 0; vec < kVecs; ++vec) raw[vec] = F::load(k + vec * kLanes * F::kCellBytes);
#pragma GCC unroll 4
    for (int head = 0; head < kNumHeads; ++head) {
      const typename F::Coef coef = F::coef(q + head * q_stride);
#pragma GCC unroll 4
      for (int vec = 0; vec < kVecs; ++vec) acc[head][vec] = F::mac(acc[head][vec], raw[vec], coef);
    }
  }
#pragma GCC unroll 4
  for (int head = 0; head < kNumHeads; ++head) {
#pragma GCC unroll 4
    for (int vec = 0; vec < kVecs; ++vec) {
      store(s + head * kDecodeSplit + vec * kLanes, acc[head][vec]);
    }
  }
}

template <class F, int kVecs>
static void score_heads(const float* q, int64_t q_stride, const std::byte* k,
                        const std::byte* ahead, int64_t k_stride, int steps, float* s,
                        int num_heads) {
  for (int head = 0; head < num_heads; head += kHeads) {
    const float* q_head = q + head * q_stride;
    float* s_head = s + static_cast<int64_t>(head) * kDecodeSplit;
    switch (num_heads - head) {
      case 1:
        score_run<F, 1, kVecs>(q_head, q_stride, k, ahead, k_stride, steps, s_head);
        break;
      case 2:
        score_run<F, 2, kVecs>(q_head, q_stride, k, ahead, k_stride, steps, s_head);
        break;
      case 3:
        score_run<F, (kHeads < 3 ? kHeads : 3), kVecs>(q_head, q_stride, k, ahead, k_stride, steps,
                                                       s_head);
        break;
      default:
        score_run<F, kHeads, kVecs>(q_head, q_stride, k, ahead, k_stride, steps, s_head);
    }
  }
}

/// `v` has kRunChunks more entries than the chunks of this run: what is read next.
/// acc[head][channel] += sum over the chunks' tokens of w[head][token] v[token][channel], for kVecs
/// vectors of channels, the last one cut to `tail` lanes.
template <class F, int kNumHeads, int kVecs>
FOVEAL_SIMD void value_run(const float* w, int64_t w_stride, const std::byte* const* v,
                           const int* offset, int num_chunks, int64_t v_stride,
                           int64_t channel_bytes, int tail, float* acc, int64_t acc_stride) {
  constexpr int kSteps = kChunk / F::kPair;
  F32 sum[kNumHeads][kVecs];
#pragma GCC unroll 4
  for (int head = 0; head < kNumHeads; ++head) {
#pragma GCC unroll 4
    for (int vec = 0; vec < kVecs; ++vec)
      sum[head][vec] = load(acc + head * acc_stride + vec * kLanes);
  }
  for (int chunk = 0; chunk < num_chunks; ++chunk) {
    const std::byte* row = v[chunk] + channel_bytes;
    const std::byte* ahead = v[chunk + kRunChunks] + channel_bytes;
    const float* coefs = w + offset[chunk] / F::kPair * F::kCoefs;
    for (int step = 0; step < kSteps;
         ++step, row += v_stride, ahead += v_stride, coefs += F::kCoefs) {
      for (int at = 0; at < kVecs * kLanes * F::kCellBytes; at += kCacheLine) prefetch(ahead + at);
      typename F::Raw raw[kVecs];
#pragma GCC unroll 4
      for (int vec = 0; vec < kVecs - 1; ++vec)
        raw[vec] = F::load(row + vec * kLanes * F::kCellBytes);
      raw[kVecs - 1] = F::load_n(row + (kVecs - 1) * kLanes * F::kCellBytes, tail);
#pragma GCC unroll 4
      for (int head = 0; head < kNumHeads; ++head) {
        const typename F::Coef coef = F::coef(coefs + head * w_stride);
#pragma GCC unroll 4
        for (int vec = 0; vec < kVecs; ++vec)
          sum[head][vec] = F::mac(sum[head][vec], raw[vec], coef);
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

/// Everything of one decode item while it runs.
template <class F>
struct Run {
  const DecodeItem& item;
  const Scratch& scratch;
  int first_tile;
  int last_tile;
  int split_begin;  ///< position of scores[head][0]
  uint32_t kept = 0;

  int64_t q_stride() const { return static_cast<int64_t>(item.kv.head_dim / F::kPair) * F::kCoefs; }

  int64_t k_stride() const { return static_cast<int64_t>(item.kv.page_size) * F::kCellBytes; }

  void open() const {
    const int head_dim = item.kv.head_dim;
    for (int head = 0; head < item.num_heads; ++head) {
      const float* q = item.q + static_cast<int64_t>(head) * head_dim;
      float* out = scratch.q + head * q_stride();
      for (int ch = 0; ch < head_dim; ch += F::kPair) {
        const float even = q[ch] * item.scale_log2;
        if constexpr (F::kPair == 2) {
          F::store_coef(out + ch / 2 * F::kCoefs, even, q[ch + 1] * item.scale_log2);
        } else {
          out[ch] = even;
        }
      }
    }
  }

  const std::byte* k_chunk(int key) const {
    const KvHead& kv = item.kv;
    return kv.k + kv.pages[key / kv.page_size] * kv.page_bytes +
           static_cast<int64_t>(key % kv.page_size) * F::kCellBytes;
  }
  const std::byte* v_chunk(int key) const {
    const KvHead& kv = item.kv;
    return kv.v + kv.pages[key / kv.page_size] * kv.page_bytes +
           static_cast<int64_t>(key % kv.page_size) / F::kPair * kv.head_dim * F::kCellBytes;
  }

  /// What votes start from. The scores are not kept.
  void seed() const {
    for (int head = 0; head < item.num_heads; ++head) scratch.running[head] = -kInf;
    if (!item.skip.on) return;
    const int first = item.row_begin / kChunk;
    const int end = (item.row_end + kChunk - 1) / kChunk;
    for (int chunk = first; chunk < end; ++chunk) {
      if (chunk == first + kSeedRuns && chunk < end - kSeedRuns) chunk = end - kSeedRuns;
      const std::byte* k = k_chunk(chunk * kChunk);
      score_heads<F, kChunkVecs>(scratch.q, q_stride(), k, k, k_stride(),
                                 item.kv.head_dim / F::kPair, scratch.scores, item.num_heads);
      for (int head = 0; head < item.num_heads; ++head) {
        const float* s = scratch.scores + static_cast<int64_t>(head) * kDecodeSplit;
        for (int at = 0; at < kChunk; ++at) {
          const int key = chunk * kChunk + at;
          const bool seen = key >= item.row_begin && key < item.row_end;
          if (seen && s[at] > scratch.running[head]) scratch.running[head] = s[at];
        }
      }
    }
  }

  /// V that is surely wanted next, asked for before the votes and weights leave memory idle.
  void prefetch_values() const {
    if (item.skip.on) return;
    for (int key = first_tile * kKeyTile;
         key < (first_tile + kIdleTiles) * kKeyTile && key < item.key_end; key += kChunk) {
      const std::byte* v = v_chunk(key);
      const int bytes = kChunk / F::kPair * item.kv.head_dim * F::kCellBytes;
      for (int at = 0; at < bytes; at += kCacheLine) prefetch(v + at);
    }
  }

  void score() const {
    const int page_size = item.kv.page_size;
    const int steps = item.kv.head_dim / F::kPair;
    const int end = (item.key_end + kChunk - 1) / kChunk * kChunk;
    int key = item.key_begin / kChunk * kChunk;
    while (key < end) {
      int room = page_size - key % page_size;
      room = room < end - key ? room : end - key;
      const std::byte* k = k_chunk(key);
      float* s = scratch.scores + (key - split_begin);
      const int run = room >= kRunChunks * kChunk ? kRunChunks * kChunk : kChunk;
      const int next = key + run * kRunsAhead;
      const std::byte* ahead = next < end ? k_chunk(next) : k;
      if (key + run >= end) prefetch_values();
      if (run == kChunk) {
        score_heads<F, kChunkVecs>(scratch.q, q_stride(), k, ahead, k_stride(), steps, s,
                                   item.num_heads);
      } else {
        score_heads<F, kRunVecs>(scratch.q, q_stride(), k, ahead, k_stride(), steps, s,
                                 item.num_heads);
      }
      key += run;
    }
  }

  /// Hides the keys of the outer tiles that lie outside the item.
  void mask() const {
    const int begin = first_tile * kKeyTile;
    const int end = (last_tile + 1) * kKeyTile;
    for (int head = 0; head < item.num_heads; ++head) {
      float* s = scratch.scores + static_cast<int64_t>(head) * kDecodeSplit;
      for (int key = begin; key < item.key_begin; ++key) s[key - split_begin] = -kInf;
      for (int key = item.key_end; key < end; ++key) s[key - split_begin] = -kInf;
    }
  }

  float tile_max(int head, int tile) const {
    const float* s = scratch.scores + static_cast<int64_t>(head) * kDecodeSplit +
                     (tile * kKeyTile - split_begin);
    F32 top = load(s);
    for (int at = kLanes; at < kKeyTile; at += kLanes) top = max(top, load(s + at));
    return reduce_max(top);
  }

  /// All heads must agree to drop a tile.
  void vote(TileCounts& counts) {
    for (int head = 0; head < item.num_heads; ++head) item.max[head] = -kInf;
    for (int tile = first_tile; tile <= last_tile; ++tile) {
      bool keep = !item.skip.on;
      for (int head = 0; head < item.num_heads; ++head) {
        item.sum[head] = tile_max(head, tile);  // `sum` is free until the weights are known
        keep |= !(item.sum[head] - scratch.running[head] < item.skip.threshold);
      }
      if (keep) {
        kept |= 1U << (tile - first_tile);
        for (int head = 0; head < item.num_heads; ++head) {
          const float top = item.sum[head];
          if (top > item.max[head]) item.max[head] = top;
          if (top > scratch.running[head]) scratch.running[head] = top;
        }
      }
      if (item.count) {
        const int begin = tile * kKeyTile > item.key_begin ? tile * kKeyTile : item.key_begin;
        const int end = (tile + 1) * kKeyTile < item.key_end ? (tile + 1) * kKeyTile : item.key_end;
        ++counts.tiles;
        if (item.tile_map != nullptr) item.tile_map[tile] = keep ? 1 : 2;
        if (!keep) {
          ++counts.tiles_skipped;
          counts.pairs_dropped += static_cast<uint64_t>(end - begin) * item.num_heads;
        }
      }
    }
  }

  void weigh() const {
    for (int head = 0; head < item.num_heads; ++head) {
      float* s = scratch.scores + static_cast<int64_t>(head) * kDecodeSplit;
      auto* packed =
          reinterpret_cast<uint16_t*>(scratch.packed) + static_cast<int64_t>(head) * kDecodeSplit;
      const F32 top = set1(item.max[head]);
      F32 sum = zero();
      for (int tile = first_tile; tile <= last_tile; ++tile) {
        if ((kept >> (tile - first_tile) & 1U) == 0) continue;
        const int begin = tile * kKeyTile - split_begin;
        if constexpr (F::kRounded) {
          sum = F::weigh(s + begin, top, packed + begin, sum);
        } else {
          for (int at = begin; at < begin + kKeyTile; at += kLanes) {
            const F32 weight = exp2(load(s + at) - top);
            store(s + at, weight);
            sum = sum + weight;
          }
        }
      }
      item.sum[head] = reduce_add(sum);
    }
  }

  template <int kVecs>
  void value_heads(const std::byte* const* v, const int* offset, int num_chunks, int channel,
                   int tail) const {
    const float* w = F::kRounded ? scratch.packed : scratch.scores;
    const int64_t w_stride = F::kRounded ? kDecodeSplit / 2 : kDecodeSplit;
    const int64_t v_stride = static_cast<int64_t>(item.kv.head_dim) * F::kCellBytes;
    const int64_t acc_stride = padded_dim(item.kv.head_dim);
    const int64_t channel_bytes = static_cast<int64_t>(channel) * F::kCellBytes;
    for (int head = 0; head < item.num_heads; head += kHeads) {
      const float* w_head = w + head * w_stride;
      float* acc = item.acc + head * acc_stride + channel;
      switch (item.num_heads - head) {
        case 1:
          value_run<F, 1, kVecs>(w_head, w_stride, v, offset, num_chunks, v_stride, channel_bytes,
                                 tail, acc, acc_stride);
          break;
        case 2:
          value_run<F, 2, kVecs>(w_head, w_stride, v, offset, num_chunks, v_stride, channel_bytes,
                                 tail, acc, acc_stride);
          break;
        case 3:
          value_run<F, (kHeads < 3 ? kHeads : 3), kVecs>(w_head, w_stride, v, offset, num_chunks,
                                                         v_stride, channel_bytes, tail, acc,
                                                         acc_stride);
          break;
        default:
          value_run<F, kHeads, kVecs>(w_head, w_stride, v, offset, num_chunks, v_stride,
                                      channel_bytes, tail, acc, acc_stride);
      }
    }
  }

  /// One batch of surviving chunks, for all channels: its V rows come from memory once.
  void value_batch(const std::byte* const* v, const int* offset, int num_chunks) const {
    const int head_dim = item.kv.head_dim;
    for (int channel = 0; channel < head_dim;) {
      const int left = head_dim - channel;
      if (left >= 4 * kLanes) {
        value_heads<4>(v, offset, num_chunks, channel, kLanes);
        channel += 4 * kLanes;
      } else if (left >= 2 * kLanes) {
        value_heads<2>(v, offset, num_chunks, channel, kLanes);
        channel += 2 * kLanes;
      } else {
        value_heads<1>(v, offset, num_chunks, channel, left < kLanes ? left : kLanes);
        channel += kLanes;
      }
    }
  }

  void add_values() const {
    const int64_t acc_stride = padded_dim(item.kv.head_dim);
    for (int64_t at = 0; at < item.num_heads * acc_stride; at += kLanes) {
      store(item.acc + at, zero());
    }
    const std::byte* v[kSplitChunks + kRunChunks] = {};
    int offset[kSplitChunks];
    int num_chunks = 0;
    for (int tile = first_tile; tile <= last_tile; ++tile) {
      if ((kept >> (tile - first_tile) & 1U) == 0) continue;
      for (int key = tile * kKeyTile; key < (tile + 1) * kKeyTile && key < item.key_end;
           key += kChunk) {
        if (key + kChunk <= item.key_begin) continue;
        v[num_chunks] = v_chunk(key);
        offset[num_chunks++] = key - split_begin;
      }
    }
    if (num_chunks == 0) return;
    const int64_t chunk_bytes =
        static_cast<int64_t>(kChunk) / F::kPair * item.kv.head_dim * F::kCellBytes;
    for (int idx = 0; idx < kRunChunks; ++idx) {
      v[num_chunks + idx] = item.next_k ? item.next_k + idx * chunk_bytes : v[num_chunks - 1];
    }
    for (int done = 0; done < num_chunks; done += kRunChunks) {
      const int batch = num_chunks - done < kRunChunks ? num_chunks - done : kRunChunks;
      value_batch(v + done, offset + done, batch);
    }
  }
};

template <class F>
void run_item(const DecodeItem& item, const Scratch& scratch, TileCounts& counts) {
  Run<F> run{item, scratch, item.key_begin / kKeyTile, (item.key_end - 1) / kKeyTile,
             item.key_begin / kDecodeSplit * kDecodeSplit};
  run.open();
  run.seed();
  run.score();
  run.mask();
  run.vote(counts);
  run.weigh();
  run.add_values();
}

}  // namespace

size_t attention_decode_scratch(int32_t head_dim, int32_t num_heads) {
  const int64_t a_head = 2 * static_cast<int64_t>(head_dim) + 2 * kDecodeSplit + 1;
  return static_cast<size_t>(a_head * num_heads) * sizeof(float);
}

// Computes:  acc[h] = sum_t 2^(s[h][t] - max[h]) v[t], sum[h], max[h] over one split's kept tiles,
//            s[h][t] = scale q[h] . k[t]
// In/out:    q [num_heads, head_dim] float32; K, V pages (base/kv_view.h); max, sum [num_heads],
//            acc [num_heads, padded_dim] float32 out
// Units:     keys by absolute position; scores and maxima in the log2 domain
// Launch:    one call a (sequence, KV head, split of kDecodeSplit keys); all query heads of a KV
//            head
// Needs:     head_dim even, <= 256; pages of a multiple of 16 tokens
// Numerics:  bf16 dot products and weights rounded to bf16 where the level has them and not
//            `exact`, the sum over the rounded weights; else float32. Fixed order: no batch, no
//            thread shows
// Source:    split-KV flash attention; Skip Softmax, BLASST (arXiv 2512.12087)
// Measured:  1 core of a Zen 5 EPYC, 2026-11-24, thread CPU time, neighbours busy: 22-24 GB/s of
//            K and V at 7,681 keys, 56 % of a stream read in the same run;
//            docs/kernels/paged_attention.md
void attention_decode(const DecodeItem& item, std::byte* bytes, TileCounts& counts) {
  Scratch scratch;
  scratch.scores = reinterpret_cast<float*>(bytes);
  scratch.packed = scratch.scores + static_cast<int64_t>(item.num_heads) * kDecodeSplit;
  scratch.q = scratch.packed + static_cast<int64_t>(item.num_heads) * kDecodeSplit;
  scratch.running = scratch.q + static_cast<int64_t>(item.num_heads) * 2 * item.kv.head_dim;
  switch (item.kv.format) {
    case KvFormat::kBf16:
#if FOVEAL_ISA_LEVEL >= 3
      if (!item.exact) {
        run_item<Bf16Dot>(item, scratch, counts);
        return;
      }
#endif
      run_item<Bf16Wide>(item, scratch, counts);
      return;
    case KvFormat::kF16:
      run_item<F16Wide>(item, scratch, counts);
      return;
    case KvFormat::kF32:
      run_item<F32Plain>(item, scratch, counts);
      return;
  }
}

// Computes:  out[h] = sum_i f_i acc_i[h] / sum_i f_i sum_i[h], f_i = 2^(max_i[h] - max over splits)
// In/out:    max, sum [num_splits, num_heads], acc [num_splits, num_heads, padded_dim]; out
// [num_heads,
//            head_dim], all float32
// Units:     maxima in the log2 domain
// Launch:    one call a (sequence, KV head), by whichever worker finishes its last split
// Needs:     at least one split; every split saw a key
// Numerics:  splits in ascending order, float32
// Source:    split-KV flash attention
// Measured:  about 1 % of decode at 7,681 keys
void attention_combine(const CombineItem& item) {
  const int64_t acc_stride = padded_dim(item.head_dim);
  for (int head = 0; head < item.num_heads; ++head) {
    float top = -kInf;
    for (int split = 0; split < item.num_splits; ++split) {
      const float own = item.max[split * item.num_heads + head];
      top = own > top ? own : top;
    }
    float* out = item.out + static_cast<int64_t>(head) * item.head_dim;
    float sum = 0;
    for (int ch = 0; ch < item.head_dim; ++ch) out[ch] = 0;
    for (int split = 0; split < item.num_splits; ++split) {
      const int64_t row = static_cast<int64_t>(split) * item.num_heads + head;
      const F32 factor = exp2(set1(item.max[row] - top));
      const float* acc = item.acc + row * acc_stride;
      float lane[kLanes];
      store(lane, factor);
      sum = sum + lane[0] * item.sum[row];
      for (int ch = 0; ch < item.head_dim; ch += kLanes) {
        const int n = item.head_dim - ch < kLanes ? item.head_dim - ch : kLanes;
        store_n(out + ch, fma(factor, load_n(acc + ch, n), load_n(out + ch, n)), n);
      }
    }
    const float inverse = 1.0F / sum;
    for (int ch = 0; ch < item.head_dim; ++ch) out[ch] *= inverse;
  }
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
