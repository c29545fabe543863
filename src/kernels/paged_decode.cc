#include <algorithm>
#include <atomic>
#include <vector>

#include "base/math.h"
#include "kernels/attention_check.h"
#include "kernels/attention_dispatch.h"

namespace foveal::kernels {
namespace {

/// One split of one row for one KV head: a task.
struct Split {
  int32_t seq = 0;
  int32_t index = 0;  ///< among the row's splits
  int32_t num_splits = 0;
  int32_t key_begin = 0;
  int32_t key_end = 0;
  int64_t first = 0;  ///< of the row's splits in the list
};

/// Splits at absolute positions, ascending, without those that lie before the window.
std::vector<Split> make_splits(const PagedAttentionParams& params) {
  std::vector<Split> splits;
  for (size_t idx = 0; idx < params.seqs.size(); ++idx) {
    const int32_t kv_len = params.seqs[idx].kv_len;
    const int32_t key_begin = params.window > 0 ? std::max(0, kv_len - params.window) : 0;
    const int32_t first = key_begin / kDecodeSplit;
    const auto count = static_cast<int32_t>(ceil_div(kv_len, kDecodeSplit)) - first;
    const auto first_split = static_cast<int64_t>(splits.size());
    for (int32_t split = 0; split < count; ++split) {
      const int32_t begin = (first + split) * kDecodeSplit;
      splits.push_back({.seq = static_cast<int32_t>(idx),
                        .index = split,
                        .num_splits = count,
                        .key_begin = std::max(key_begin, begin),
                        .key_end = begin + std::min(kv_len - begin, kDecodeSplit),
                        .first = first_split});
    }
  }
  return splits;
}

/// A call of paged_decode: its tasks and where their partial results lie.
class DecodeCall {
 public:
  DecodeCall(const PagedAttentionParams& params, Stream& stream)
      : params_(params),
        isa_(attention_kernels()),
        splits_(make_splits(params)),
        heads_(params.kv.num_kv_heads),
        group_(params.num_heads / heads_),
        threads_(stream.pool().num_threads()) {
    const int64_t rows = num_tasks() * group_;
    const int64_t left = static_cast<int64_t>(params.seqs.size()) * heads_;
    item_bytes_ =
        round_up(static_cast<int64_t>(isa_.decode_scratch(params.kv.head_dim, group_)), 4096);
    const int64_t acc_bytes = rows * acc_stride() * 4;
    const int64_t row_bytes = round_up(rows * 4, 64);
    scratch_ = stream.scratch(
        static_cast<size_t>(item_bytes_ * threads_ + acc_bytes + 2 * row_bytes + left * 4));
    std::byte* partial = scratch_ + item_bytes_ * threads_;
    acc_ = reinterpret_cast<float*>(partial);
    max_ = reinterpret_cast<float*>(partial + acc_bytes);
    sum_ = reinterpret_cast<float*>(partial + acc_bytes + row_bytes);
    left_ = reinterpret_cast<int32_t*>(partial + acc_bytes + 2 * row_bytes);
    for (const Split& split : splits_) {
      std::fill_n(left_ + static_cast<int64_t>(split.seq) * heads_, heads_, split.num_splits);
    }
  }

  int64_t num_tasks() const { return static_cast<int64_t>(splits_.size()) * heads_; }

  void run(int64_t task, int worker) const {
    const Split& split = splits_[task / heads_];
    const auto head = static_cast<int32_t>(task % heads_);
    cpu::TileCounts counts;
    isa_.decode(item(task), scratch_ + worker * item_bytes_, counts);
    add_counts(params_, split.seq, counts);
    // Whoever finishes a row's last split joins them, in ascending order whoever it is.
    const std::atomic_ref<int32_t> left(left_[static_cast<int64_t>(split.seq) * heads_ + head]);
    if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) combine(split, head);
  }

 private:
  int64_t acc_stride() const { return cpu::padded_dim(params_.kv.head_dim); }
  int64_t channel(int32_t head) const {
    return static_cast<int64_t>(head) * group_ * params_.kv.head_dim;
  }
  /// Where a row's partial results begin: a KV head's splits are neighbours.
  int64_t first_slot(const Split& split, int32_t head) const {
    return split.first * heads_ + static_cast<int64_t>(head) * split.num_splits;
  }

  cpu::DecodeItem item(int64_t task) const {
    const Split& split = splits_[task / heads_];
    const auto head = static_cast<int32_t>(task % heads_);
    const AttentionSeq& seq = params_.seqs[split.seq];
    const int64_t row = (first_slot(split, head) + split.index) * group_;
    return {.kv = kv_head(params_.kv, seq, head),
            .q = params_.q + seq.q_begin * params_.q_stride + channel(head),
            .num_heads = group_,
            .key_begin = split.key_begin,
            .key_end = split.key_end,
            .row_begin = params_.window > 0 ? std::max(0, seq.kv_len - params_.window) : 0,
            .row_end = seq.kv_len,
            .scale_log2 = scale_log2(params_),
            .exact = params_.exact,
            .count = params_.counters != nullptr,
            .skip = skip_rule(params_, seq),
            .tile_map = params_.tile_map.tiles == nullptr
                            ? nullptr
                            : params_.tile_map.tiles + head * params_.tile_map.stride,
            .next_k = first_keys(task + threads_),
            .max = max_ + row,
            .sum = sum_ + row,
            .acc = acc_ + row * acc_stride()};
  }

  /// K that `task` reads first; null when there is no such task.
  const std::byte* first_keys(int64_t task) const {
    if (task >= num_tasks()) return nullptr;
    const Split& split = splits_[task / heads_];
    const AttentionSeq& seq = params_.seqs[split.seq];
    const int32_t page = seq.pages[split.key_begin / params_.kv.page_size];
    return kv_head(params_.kv, seq, static_cast<int32_t>(task % heads_)).k +
           page * params_.kv.page_bytes;
  }

  void combine(const Split& split, int32_t head) const {
    const int64_t row = first_slot(split, head) * group_;
    isa_.combine(
        {.max = max_ + row,
         .sum = sum_ + row,
         .acc = acc_ + row * acc_stride(),
         .out = params_.out + params_.seqs[split.seq].q_begin * params_.out_stride + channel(head),
         .num_splits = split.num_splits,
         .num_heads = group_,
         .head_dim = params_.kv.head_dim});
  }

  const PagedAttentionParams& params_;
  const cpu::AttentionKernels& isa_;
  std::vector<Split> splits_;
  int32_t heads_;
  int32_t group_;
  int32_t threads_;
  int64_t item_bytes_ = 0;
  std::byte* scratch_ = nullptr;
  float* acc_ = nullptr;     ///< [num_tasks][group][acc_stride]
  float* max_ = nullptr;     ///< [num_tasks][group]
  float* sum_ = nullptr;     ///< likewise
  int32_t* left_ = nullptr;  ///< [num_seqs][num_kv_heads] splits still to be done
};

}  // namespace

void paged_decode(const PagedAttentionParams& params, Stream& stream) {
  check_attention(params, AttentionPhase::kDecode);
  const DecodeCall call(params, stream);
  add_dense_pairs(params);
  stream.pool().run(call.num_tasks(), [&](int64_t task, int worker) { call.run(task, worker); });
}

}  // namespace foveal::kernels
