#include <algorithm>
#include <vector>

#include "base/math.h"
#include "kernels/attention_check.h"
#include "kernels/attention_dispatch.h"

namespace foveal::kernels {
namespace {

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
  const TileMap& map = params.tile_map;
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
          .scale_log2 = scale_log2(params),
          .exact = params.exact,
          .count = params.counters != nullptr,
          .skip = skip_rule(params, seq),
          .tile_map = map.tiles == nullptr ? nullptr : map.tiles + task.head * map.stride,
          .map_tile_stride = params.num_heads * map.stride,
          .map_head_stride = map.stride};
}

}  // namespace

void paged_prefill(const PagedAttentionParams& params, Stream& stream) {
  check_attention(params, AttentionPhase::kPrefill);
  const cpu::AttentionKernels& isa = attention_kernels();
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

}  // namespace foveal::kernels
