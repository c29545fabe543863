#include "attention/dsa/index_keys.h"

#include <algorithm>
#include <vector>

#include "attention/dsa/dispatch.h"
#include "base/check.h"

namespace foveal::attention::dsa {

int64_t index_page_bytes(int32_t page_size, int32_t dim, IndexFormat format) {
  const int64_t values = int64_t{page_size} * dim;
  return format == IndexFormat::kFp8 ? values + int64_t{page_size} * 4 : values * 4;
}

kernels::cpu::IndexKeys IndexLane::of(const kernels::AttentionSeq& seq) const {
  return {.lane = data,
          .bytes_per_page = index_page_bytes(page_size, dim, format),
          .pages = seq.pages,
          .page_size = page_size,
          .dim = dim,
          .format = format};
}

void store_index_keys(const float* k, int64_t stride, const IndexLane& lane,
                      std::span<const kernels::AttentionSeq> seqs, Stream& stream) {
  FOVEAL_INVARIANT(lane.data != nullptr && k != nullptr && stride >= lane.dim);
  const kernels::cpu::IndexKernels& isa = index_kernels();
  constexpr int32_t kRows = 16;  // enough work for a hand-out
  struct Task {
    const kernels::AttentionSeq* seq;
    int32_t begin;
    int32_t end;
  };
  std::vector<Task> tasks;
  for (const kernels::AttentionSeq& seq : seqs) {
    for (int32_t row = 0; row < seq.q_len; row += kRows) {
      tasks.push_back({&seq, row, std::min(row + kRows, seq.q_len)});
    }
  }
  stream.pool().run(static_cast<int64_t>(tasks.size()), [&](int64_t idx, int) {
    const auto& [seq, begin, end] = tasks[static_cast<size_t>(idx)];
    const kernels::cpu::IndexKeys keys = lane.of(*seq);
    for (int32_t row = begin; row < end; ++row) {
      isa.store(keys, seq->kv_len - seq->q_len + row, k + (int64_t{seq->q_begin} + row) * stride);
    }
  });
}

}  // namespace foveal::attention::dsa
