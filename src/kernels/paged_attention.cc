#include "kernels/paged_attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numbers>
#include <vector>

#include "base/check.h"
#include "base/math.h"
#include "kernels/attention_check.h"
#include "kernels/cpu/attention_item.h"
#include "kernels/cpu/isa.h"

namespace foveal::kernels {
namespace {

const cpu::AttentionKernels& kernels() {
#if defined(__x86_64__)
  switch (cpu::active_isa()) {
    case cpu::Isa::kPortable:
      return cpu::portable::kAttentionKernels;
    case cpu::Isa::kAvx2:
      return cpu::avx2::kAttentionKernels;
    case cpu::Isa::kAvx512:
      return cpu::avx512::kAttentionKernels;
    case cpu::Isa::kAvx512Bf16:
      return cpu::avx512bf16::kAttentionKernels;
  }
#endif
  return cpu::portable::kAttentionKernels;
}

cpu::KvFormat format_of(DType dtype) {
  if (dtype == DType::kBF16) return cpu::KvFormat::kBf16;
  return dtype == DType::kF16 ? cpu::KvFormat::kF16 : cpu::KvFormat::kF32;
}

cpu::KvHead kv_head(const KvLayerView& kv, const AttentionSeq& seq, int32_t head) {
  const int64_t offset = kv.page_bytes / kv.num_kv_heads * head;
  return {.k = kv.k + offset,
          .v = kv.v + offset,
          .page_bytes = kv.page_bytes,
          .pages = seq.pages,
          .page_size = kv.page_size,
          .head_dim = kv.head_dim,
          .format = format_of(kv.dtype)};
}

cpu::SkipRule skip_rule(const PagedAttentionParams& params, const AttentionSeq& seq) {
  if (params.skip_factor <= 0 || params.skip_factor >= static_cast<float>(seq.threshold_len)) {
    return {};
  }
  const double ratio = static_cast<double>(params.skip_factor) / seq.threshold_len;
  return {.on = true, .threshold = static_cast<float>(std::log2(ratio))};
}

/// Keys that a sequence's rows of this call see, summed over the rows.
uint64_t dense_pairs(const PagedAttentionParams& params, const AttentionSeq& seq) {
  const auto sum_to = [](uint64_t n) { return n * (n + 1) / 2; };  // 1 + 2 + ... + n
  const auto rows_begin = static_cast<uint64_t>(seq.kv_len - seq.q_len);
  const auto rows_end = static_cast<uint64_t>(seq.kv_len);
  if (params.window == 0) return sum_to(rows_end) - sum_to(rows_begin);
  const auto full = static_cast<uint64_t>(params.window);  // rows from here on see `window` keys
  const uint64_t ramp_begin = std::min(rows_begin, full);
  const uint64_t ramp_end = std::min(rows_end, full);
  return sum_to(ramp_end) - sum_to(ramp_begin) +
         full * ((rows_end - ramp_end) - (rows_begin - ramp_begin));
}

void add_counts(const PagedAttentionParams& params, int64_t seq_idx,
                const cpu::TileCounts& counts) {
  if (params.counters == nullptr) return;
  AttentionCounters& out = params.counters[seq_idx];
  std::atomic_ref(out.pairs_used).fetch_sub(counts.pairs_dropped, std::memory_order_relaxed);
  std::atomic_ref(out.tiles).fetch_add(counts.tiles, std::memory_order_relaxed);
  std::atomic_ref(out.tiles_skipped).fetch_add(counts.tiles_skipped, std::memory_order_relaxed);
}

void add_dense_pairs(const PagedAttentionParams& params) {
  if (params.counters == nullptr) return;
  for (size_t idx = 0; idx < params.seqs.size(); ++idx) {
    const uint64_t pairs =
        dense_pairs(params, params.seqs[idx]) * static_cast<uint64_t>(params.num_heads);
    params.counters[idx].pairs += pairs;
    params.counters[idx].pairs_used += pairs;
  }
}

struct PrefillTask {
  int32_t seq = 0;
  int32_t kv_head = 0;
  int32_t head = 0;  ///< first query head
  int32_t num_heads = 0;
  int32_t row_begin = 0;  ///< positions
  int32_t row_end = 0;

  int64_t cost() const { return static_cast<int64_t>(row_end) * num_heads; }
};

/// Cuts the batch at multiples of whole row blocks, longest tasks first.
std::vector<PrefillTask> prefill_tasks(const PagedAttentionParams& params) {
  const int32_t group = params.num_heads / params.kv.num_kv_heads;
  const int32_t heads = std::min(group, cpu::kMaxItemHeads);
  const int32_t rows = std::max(1, cpu::kMaxItemGroups / 2 / heads) * cpu::kRowBlock;
  std::vector<PrefillTask> tasks;
  for (size_t idx = 0; idx < params.seqs.size(); ++idx) {
    const AttentionSeq& seq = params.seqs[idx];
    for (int32_t begin = seq.kv_len - seq.q_len; begin < seq.kv_len;) {
      const int32_t end = static_cast<int32_t>(
          std::min<int64_t>(seq.kv_len, (static_cast<int64_t>(begin) / rows + 1) * rows));
      for (int32_t head = 0; head < params.num_heads; head += heads) {
        const int32_t last = std::min(head + heads, (head / group + 1) * group);
        tasks.push_back({.seq = static_cast<int32_t>(idx),
                         .kv_head = head / group,
                         .head = head,
                         .num_heads = last - head,
                         .row_begin = begin,
                         .row_end = end});
        head = last - heads;  // groups that are no multiple of `heads` end with a short task
      }
      begin = end;
    }
  }
  std::stable_sort(tasks.begin(), tasks.end(),
                   [](const PrefillTask& a, const PrefillTask& b) { return a.cost() > b.cost(); });
  return tasks;
}

cpu::PrefillItem prefill_item(const PagedAttentionParams& params, const PrefillTask& task) {
  const AttentionSeq& seq = params.seqs[task.seq];
  const int64_t channel = static_cast<int64_t>(task.head) * params.kv.head_dim;
  return {.kv = kv_head(params.kv, seq, task.kv_head),
          .q = params.q + seq.q_begin * params.q_stride + channel,
          .out = params.out + seq.q_begin * params.out_stride + channel,
          .q_stride = params.q_stride,
          .out_stride = params.out_stride,
          .first_row = seq.kv_len - seq.q_len,
          .row_begin = task.row_begin,
          .row_end = task.row_end,
          .num_heads = task.num_heads,
          .kv_len = seq.kv_len,
          .window = params.window,
          .scale_log2 = params.softmax_scale * std::numbers::log2e_v<float>,
          .exact = params.exact,
          .count = params.counters != nullptr,
          .skip = skip_rule(params, seq)};
}

/// Splits of one sequence's row and where their partial results start, in splits.
struct DecodePlan {
  int32_t key_begin = 0;
  int32_t first_split = 0;
  int32_t num_splits = 0;
  int64_t offset = 0;
};

struct DecodeBuffers {
  float* max = nullptr;  ///< [num_kv_heads][splits of all sequences][group]
  float* sum = nullptr;
  float* acc = nullptr;
  int32_t* left = nullptr;  ///< [num_seqs][num_kv_heads] splits still to be done
};

cpu::DecodeItem decode_item(const PagedAttentionParams& params, const DecodePlan& plan,
                            const DecodeBuffers& buffers, int32_t seq_idx, int32_t head,
                            int64_t slot, int32_t split) {
  const AttentionSeq& seq = params.seqs[seq_idx];
  const int32_t group = params.num_heads / params.kv.num_kv_heads;
  const int32_t begin = (plan.first_split + split) * kDecodeSplit;
  return {.kv = kv_head(params.kv, seq, head),
          .q = params.q + seq.q_begin * params.q_stride +
               static_cast<int64_t>(head) * group * params.kv.head_dim,
          .num_heads = group,
          .key_begin = std::max(plan.key_begin, begin),
          .key_end = std::min(seq.kv_len - begin, kDecodeSplit) + begin,
          .scale_log2 = params.softmax_scale * std::numbers::log2e_v<float>,
          .exact = params.exact,
          .count = params.counters != nullptr,
          .skip = skip_rule(params, seq),
          .max = buffers.max + slot * group,
          .sum = buffers.sum + slot * group,
          .acc = buffers.acc + slot * group * cpu::padded_dim(params.kv.head_dim)};
}

}  // namespace

void paged_prefill(const PagedAttentionParams& params, Stream& stream) {
  check_attention(params, AttentionPhase::kPrefill);
  const cpu::AttentionKernels& isa = kernels();
  const std::vector<PrefillTask> tasks = prefill_tasks(params);
  const int64_t scratch_bytes =
      round_up(static_cast<int64_t>(isa.prefill_scratch(params.kv.head_dim)), 4096);
  std::byte* scratch =
      stream.scratch(static_cast<size_t>(scratch_bytes * stream.pool().num_threads()));
  add_dense_pairs(params);
  stream.pool().run(static_cast<int64_t>(tasks.size()), [&](int64_t idx, int worker) {
    cpu::TileCounts counts;
    isa.prefill(prefill_item(params, tasks[idx]), scratch + worker * scratch_bytes, counts);
    add_counts(params, tasks[idx].seq, counts);
  });
}

void paged_decode(const PagedAttentionParams& params, Stream& stream) {
  check_attention(params, AttentionPhase::kDecode);
  const cpu::AttentionKernels& isa = kernels();
  const int32_t num_kv_heads = params.kv.num_kv_heads;
  const int32_t group = params.num_heads / num_kv_heads;
  std::vector<DecodePlan> plans(params.seqs.size());
  int64_t num_splits = 0;
  for (size_t idx = 0; idx < plans.size(); ++idx) {
    const int32_t kv_len = params.seqs[idx].kv_len;
    DecodePlan& plan = plans[idx];
    plan.key_begin = params.window > 0 ? std::max(0, kv_len - params.window) : 0;
    plan.first_split = plan.key_begin / kDecodeSplit;
    plan.num_splits = static_cast<int32_t>(ceil_div(kv_len, kDecodeSplit)) - plan.first_split;
    plan.offset = num_splits;
    num_splits += plan.num_splits;
  }
  const int64_t slots = num_splits * num_kv_heads;
  const int64_t rows = slots * group;
  const int64_t item_bytes =
      round_up(static_cast<int64_t>(isa.decode_scratch(params.kv.head_dim, group)), 4096);
  const int64_t acc_bytes = rows * cpu::padded_dim(params.kv.head_dim) * 4;
  const int64_t row_bytes = round_up(rows * 4, 64);
  const int64_t left_bytes = static_cast<int64_t>(plans.size()) * num_kv_heads * 4;
  std::byte* scratch = stream.scratch(static_cast<size_t>(item_bytes * stream.pool().num_threads() +
                                                          acc_bytes + 2 * row_bytes + left_bytes));
  std::byte* partial = scratch + item_bytes * stream.pool().num_threads();
  const DecodeBuffers buffers{
      .max = reinterpret_cast<float*>(partial + acc_bytes),
      .sum = reinterpret_cast<float*>(partial + acc_bytes + row_bytes),
      .acc = reinterpret_cast<float*>(partial),
      .left = reinterpret_cast<int32_t*>(partial + acc_bytes + 2 * row_bytes)};
  std::vector<int32_t> seq_of(static_cast<size_t>(num_splits));
  for (size_t idx = 0; idx < plans.size(); ++idx) {
    std::fill_n(seq_of.begin() + plans[idx].offset, plans[idx].num_splits, idx);
    std::fill_n(buffers.left + idx * num_kv_heads, num_kv_heads, plans[idx].num_splits);
  }
  add_dense_pairs(params);
  stream.pool().run(slots, [&](int64_t task, int worker) {
    const int32_t seq_idx = seq_of[task / num_kv_heads];
    const auto head = static_cast<int32_t>(task % num_kv_heads);
    const DecodePlan& plan = plans[seq_idx];
    const auto split = static_cast<int32_t>(task / num_kv_heads - plan.offset);
    const int64_t first_slot = plan.offset * num_kv_heads + int64_t{head} * plan.num_splits;
    cpu::TileCounts counts;
    isa.decode(decode_item(params, plan, buffers, seq_idx, head, first_slot + split, split),
               scratch + worker * item_bytes, counts);
    add_counts(params, seq_idx, counts);
    // Whoever finishes a row's last split joins them, in ascending order whoever it is.
    std::atomic_ref left(buffers.left[seq_idx * num_kv_heads + head]);
    if (left.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    isa.combine({.max = buffers.max + first_slot * group,
                 .sum = buffers.sum + first_slot * group,
                 .acc = buffers.acc + first_slot * group * cpu::padded_dim(params.kv.head_dim),
                 .out = params.out + params.seqs[seq_idx].q_begin * params.out_stride +
                        static_cast<int64_t>(head) * group * params.kv.head_dim,
                 .num_splits = plan.num_splits,
                 .num_heads = group,
                 .head_dim = params.kv.head_dim});
  });
}

void kv_store(const KvStoreParams& params, Stream& stream) {
  check_kv_store(params);
  const cpu::AttentionKernels& isa = kernels();
  constexpr int32_t kRows =
      32;  // a task's rows: whole pages mostly, and enough work for a hand-out
  struct Task {
    int32_t seq;
    int32_t begin;
    int32_t end;
  };
  std::vector<Task> tasks;
  for (size_t idx = 0; idx < params.seqs.size(); ++idx) {
    const AttentionSeq& seq = params.seqs[idx];
    for (int32_t row = 0; row < seq.q_len; row += kRows) {
      tasks.push_back({static_cast<int32_t>(idx), row, std::min(row + kRows, seq.q_len)});
    }
  }
  const KvLayerView& kv = params.kv;
  stream.pool().run(static_cast<int64_t>(tasks.size()), [&](int64_t idx, int) {
    const Task& task = tasks[idx];
    const AttentionSeq& seq = params.seqs[task.seq];
    for (int32_t row = task.begin; row < task.end; ++row) {
      const int32_t position = seq.kv_len - seq.q_len + row;
      const int32_t page = seq.pages[position / kv.page_size];
      for (int32_t head = 0; head < kv.num_kv_heads; ++head) {
        const int64_t channel = static_cast<int64_t>(head) * kv.head_dim;
        const int64_t offset = kv.page_bytes / kv.num_kv_heads * head;
        isa.store({.k = params.k + (seq.q_begin + row) * params.k_stride + channel,
                   .v = params.v + (seq.q_begin + row) * params.v_stride + channel,
                   .k_head = kv.k_page(page) + offset,
                   .v_head = kv.v_page(page) + offset,
                   .slot = position % kv.page_size,
                   .page_size = kv.page_size,
                   .head_dim = kv.head_dim,
                   .format = format_of(kv.dtype)});
      }
    }
  });
}

}  // namespace foveal::kernels
