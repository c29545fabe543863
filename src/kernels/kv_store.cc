#include <algorithm>
#include <vector>

#include "kernels/attention_check.h"
#include "kernels/attention_dispatch.h"

namespace foveal::kernels {

void kv_store(const KvStoreParams& params, Stream& stream) {
  check_kv_store(params);
  const cpu::AttentionKernels& isa = attention_kernels();
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
                   .format = kv_format(kv.dtype)});
      }
    }
  });
}

}  // namespace foveal::kernels
