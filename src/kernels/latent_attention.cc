#include "kernels/latent_attention.h"

#include <algorithm>
#include <numbers>
#include <vector>

#include "base/math.h"
#include "kernels/attention_dispatch.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/latent_item.h"
#include "kernels/latent_check.h"

namespace foveal::kernels {
namespace {

const cpu::LatentKernels& latent_kernels() {
#if defined(__x86_64__)
  switch (cpu::active_isa()) {
    case cpu::Isa::kPortable:
      return cpu::portable::kLatentKernels;
    case cpu::Isa::kAvx2:
      return cpu::avx2::kLatentKernels;
    case cpu::Isa::kAvx512:
      return cpu::avx512::kLatentKernels;
    case cpu::Isa::kAvx512Bf16:
      return cpu::avx512bf16::kLatentKernels;
  }
#endif
  return cpu::portable::kLatentKernels;
}

/// Consecutive rows of one sequence and some of their heads.
struct RowBlock {
  int32_t seq = 0;
  int32_t begin = 0;  ///< among the sequence's rows
  int32_t end = 0;
  int32_t head = 0;
  int32_t num_heads = 0;
  int64_t first_row = 0;  ///< of the call, counted over its sequences
  int64_t cost = 0;       ///< keys, about
};

/// One tile of one row.
struct Tile {
  const RowBlock* block = nullptr;
  int32_t row = 0;  ///< among the sequence's rows
  int32_t index = 0;
};

/// A call of latent_attention. The values' sum of a row grows in `out`, its maximum and weight
/// beside it; tiles are joined in ascending order, so that who computes them does not show.
class LatentCall {
 public:
  LatentCall(const LatentAttentionParams& params, Stream& stream)
      : params_(params),
        isa_(latent_kernels()),
        stream_(stream),
        threads_(stream.pool().num_threads()),
        acc_stride_(cpu::latent_acc_stride(params.kv.value_dim)) {}

  void run() {
    int64_t rows = 0;
    for (const AttentionSeq& seq : params_.seqs) rows += seq.q_len;
    const int64_t head_blocks = ceil_div(params_.num_heads, cpu::kLatentHeads);
    const bool whole_rows = rows * head_blocks >= int64_t{kRowTasks} * threads_;
    make_blocks(whole_rows ? kBlockRows : 1);
    const int64_t slots = whole_rows ? threads_ : int64_t{kWave} * threads_;
    take_scratch(rows, slots);
    if (whole_rows) {
      run_blocks();
    } else {
      run_waves();
    }
  }

 private:
  /// Rows that read a tile after each other, while it is in the cache.
  static constexpr int32_t kBlockRows = 8;
  static constexpr int32_t kRowTasks = 16;  ///< a thread, from which on rows are split no further
  static constexpr int32_t kWave = 16;      ///< tiles a thread between joins

  void make_blocks(int32_t block_rows) {
    int64_t first_row = 0;
    for (size_t idx = 0; idx < params_.seqs.size(); ++idx) {
      const AttentionSeq& seq = params_.seqs[idx];
      for (int32_t begin = 0; begin < seq.q_len; begin += block_rows) {
        const int32_t end = std::min(begin + block_rows, seq.q_len);
        for (int32_t head = 0; head < params_.num_heads; head += cpu::kLatentHeads) {
          blocks_.push_back({.seq = static_cast<int32_t>(idx),
                             .begin = begin,
                             .end = end,
                             .head = head,
                             .num_heads = std::min(cpu::kLatentHeads, params_.num_heads - head),
                             .first_row = first_row});
          for (int32_t row = begin; row < end; ++row) {
            blocks_.back().cost += num_keys(blocks_.back(), row);
          }
        }
      }
      first_row += seq.q_len;
    }
  }

  void take_scratch(int64_t rows, int64_t slots) {
    item_bytes_ = round_up(static_cast<int64_t>(isa_.scratch(params_.kv.head_dim)), 4096);
    slot_floats_ = round_up(cpu::kLatentHeads * (acc_stride_ + 2), int64_t{16});
    const int64_t total = item_bytes_ * threads_ + slots * slot_floats_ * 4 +
                          rows * params_.num_heads * 2 * static_cast<int64_t>(sizeof(float));
    scratch_ = stream_.scratch(static_cast<size_t>(total));
    slots_ = reinterpret_cast<float*>(scratch_ + item_bytes_ * threads_);
    totals_ = slots_ + slots * slot_floats_;
    total_sums_ = totals_ + rows * params_.num_heads;
  }

  int32_t num_keys(const RowBlock& block, int32_t row) const {
    if (params_.sets != nullptr) {
      const int64_t* offsets = params_.sets->offsets + block.first_row + row;
      return static_cast<int32_t>(offsets[1] - offsets[0]);
    }
    const AttentionSeq& seq = params_.seqs[block.seq];
    return seq.kv_len - seq.q_len + row + 1;
  }
  int32_t num_tiles(const RowBlock& block, int32_t row) const {
    return static_cast<int32_t>(ceil_div(num_keys(block, row), kLatentTile));
  }

  void compute(const Tile& tile, int worker, float* slot) const {
    const RowBlock& block = *tile.block;
    const AttentionSeq& seq = params_.seqs[block.seq];
    const KvLayerView& kv = params_.kv;
    const int32_t first = tile.index * kLatentTile;
    const int32_t* tokens = nullptr;
    if (params_.sets != nullptr) {
      tokens = params_.sets->tokens + params_.sets->offsets[block.first_row + tile.row] + first;
    }
    isa_.tile({.cache = kv.k,
               .page_bytes = kv.page_bytes,
               .pages = seq.pages,
               .page_size = kv.page_size,
               .head_dim = kv.head_dim,
               .value_dim = kv.value_dim,
               .format = kv_format(kv.dtype),
               .q = params_.q + (int64_t{seq.q_begin} + tile.row) * params_.q_stride +
                    int64_t{block.head} * kv.head_dim,
               .num_heads = block.num_heads,
               .tokens = tokens,
               .first_key = first,
               .num_keys = std::min(kLatentTile, num_keys(block, tile.row) - first),
               .scale_log2 = params_.softmax_scale * std::numbers::log2e_v<float>,
               .exact = params_.exact,
               .max = slot,
               .sum = slot + cpu::kLatentHeads,
               .acc = slot + 2 * cpu::kLatentHeads},
              scratch_ + worker * item_bytes_);
  }

  void join(const Tile& tile, const float* slot) const {
    const RowBlock& block = *tile.block;
    const AttentionSeq& seq = params_.seqs[block.seq];
    const int64_t total = (block.first_row + tile.row) * params_.num_heads + block.head;
    isa_.fold({.max = slot,
               .sum = slot + cpu::kLatentHeads,
               .acc = slot + 2 * cpu::kLatentHeads,
               .total_max = totals_ + total,
               .total_sum = total_sums_ + total,
               .out = params_.out + (int64_t{seq.q_begin} + tile.row) * params_.out_stride +
                      int64_t{block.head} * params_.kv.value_dim,
               .num_heads = block.num_heads,
               .value_dim = params_.kv.value_dim,
               .first = tile.index == 0,
               .last = tile.index + 1 == num_tiles(block, tile.row)});
  }

  /// Many rows: a task is a block of them, the longest first.
  void run_blocks() {
    std::stable_sort(blocks_.begin(), blocks_.end(),
                     [](const RowBlock& a, const RowBlock& b) { return a.cost > b.cost; });
    stream_.pool().run(static_cast<int64_t>(blocks_.size()), [&](int64_t idx, int worker) {
      const RowBlock& block = blocks_[idx];
      float* slot = slots_ + worker * slot_floats_;
      int32_t most = 0;
      for (int32_t row = block.begin; row < block.end; ++row) {
        most = std::max(most, num_tiles(block, row));
      }
      for (int32_t index = 0; index < most; ++index) {
        for (int32_t row = block.begin; row < block.end; ++row) {
          if (index >= num_tiles(block, row)) continue;
          const Tile tile{&block, row, index};
          compute(tile, worker, slot);
          join(tile, slot);
        }
      }
    });
  }

  /// Few rows: a task is a tile. So many at once as have slots, then they are joined.
  void run_waves() {
    std::vector<Tile> tiles;
    for (const RowBlock& block : blocks_) {
      for (int32_t index = 0; index < num_tiles(block, block.begin); ++index) {
        tiles.push_back({&block, block.begin, index});
      }
    }
    const int64_t wave = int64_t{kWave} * threads_;
    const auto total = static_cast<int64_t>(tiles.size());
    std::vector<int64_t> firsts;  // tiles of the wave that begin with another block
    for (int64_t begin = 0; begin < total; begin += wave) {
      const int64_t end = std::min(begin + wave, total);
      stream_.pool().run(end - begin, [&](int64_t idx, int worker) {
        compute(tiles[begin + idx], worker, slots_ + idx * slot_floats_);
      });
      firsts.clear();
      for (int64_t idx = begin; idx < end; ++idx) {
        if (idx == begin || tiles[idx].block != tiles[idx - 1].block) firsts.push_back(idx);
      }
      stream_.pool().run(static_cast<int64_t>(firsts.size()), [&](int64_t part, int) {
        const int64_t first = firsts[part];
        for (int64_t idx = first; idx < end && tiles[idx].block == tiles[first].block; ++idx) {
          join(tiles[idx], slots_ + (idx - begin) * slot_floats_);
        }
      });
    }
  }

  const LatentAttentionParams& params_;
  const cpu::LatentKernels& isa_;
  Stream& stream_;
  int32_t threads_;
  int64_t acc_stride_;
  std::vector<RowBlock> blocks_;
  int64_t item_bytes_ = 0;
  int64_t slot_floats_ = 0;
  std::byte* scratch_ = nullptr;  ///< of the workers
  float* slots_ = nullptr;        ///< a tile's maxima, sums and values each
  float* totals_ = nullptr;       ///< [rows, num_heads] maxima so far
  float* total_sums_ = nullptr;   ///< likewise
};

void count(const LatentAttentionParams& params) {
  if (params.counters == nullptr) return;
  int64_t row = 0;
  for (size_t idx = 0; idx < params.seqs.size(); ++idx) {
    const AttentionSeq& seq = params.seqs[idx];
    AttentionCounters& out = params.counters[idx];
    const uint64_t pairs = dense_pairs(seq, /*window=*/0, params.num_heads);
    out.pairs += pairs;
    if (params.sets == nullptr) {
      out.pairs_used += pairs;
    } else {
      out.pairs_used +=
          static_cast<uint64_t>(params.sets->offsets[row + seq.q_len] - params.sets->offsets[row]) *
          static_cast<uint64_t>(params.num_heads);
    }
    row += seq.q_len;
  }
}

}  // namespace

void latent_attention(const LatentAttentionParams& params, Stream& stream) {
  check_latent(params);
  if (params.seqs.empty()) return;
  LatentCall(params, stream).run();
  count(params);
}

void latent_store(const LatentStoreParams& params, Stream& stream) {
  check_latent_store(params);
  const cpu::LatentKernels& isa = latent_kernels();
  constexpr int32_t kRows = 32;  // enough work for a hand-out
  struct Task {
    int32_t seq;
    int32_t begin;
    int32_t end;
  };
  std::vector<Task> tasks;
  for (size_t idx = 0; idx < params.seqs.size(); ++idx) {
    for (int32_t row = 0; row < params.seqs[idx].q_len; row += kRows) {
      tasks.push_back(
          {static_cast<int32_t>(idx), row, std::min(row + kRows, params.seqs[idx].q_len)});
    }
  }
  const KvLayerView& kv = params.kv;
  const int64_t row_bytes = kv.page_bytes / kv.page_size;
  stream.pool().run(static_cast<int64_t>(tasks.size()), [&](int64_t idx, int) {
    const Task& task = tasks[idx];
    const AttentionSeq& seq = params.seqs[task.seq];
    for (int32_t row = task.begin; row < task.end; ++row) {
      const int32_t position = seq.kv_len - seq.q_len + row;
      std::byte* page = kv.k_page(seq.pages[position / kv.page_size]);
      isa.store(params.rows + (int64_t{seq.q_begin} + row) * params.stride, kv.head_dim,
                kv_format(kv.dtype), page + position % kv.page_size * row_bytes);
    }
  });
}

}  // namespace foveal::kernels
