#include "kernels/attention_dispatch.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numbers>

#include "kernels/cpu/isa.h"

namespace foveal::kernels {

uint64_t dense_pairs(const AttentionSeq& seq, int32_t window, int32_t num_heads) {
  const auto heads = static_cast<uint64_t>(num_heads);
  const auto sum_to = [](uint64_t n) { return n * (n + 1) / 2; };  // 1 + 2 + ... + n
  const auto rows_end = static_cast<uint64_t>(seq.evicted) + static_cast<uint64_t>(seq.kv_len);
  const uint64_t rows_begin = rows_end - static_cast<uint64_t>(seq.q_len);
  if (window == 0) return heads * (sum_to(rows_end) - sum_to(rows_begin));
  const auto full = static_cast<uint64_t>(window);  // rows from here on see `window` keys
  const uint64_t ramp_begin = std::min(rows_begin, full);
  const uint64_t ramp_end = std::min(rows_end, full);
  return heads * (sum_to(ramp_end) - sum_to(ramp_begin) +
                  full * ((rows_end - ramp_end) - (rows_begin - ramp_begin)));
}

uint64_t present_pairs(const AttentionSeq& seq, int32_t window, int32_t num_heads) {
  AttentionSeq present = seq;
  present.evicted = 0;
  return dense_pairs(present, window, num_heads);
}

const cpu::AttentionKernels& attention_kernels() {
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

cpu::KvFormat kv_format(DType dtype) {
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
          .format = kv_format(kv.dtype)};
}

cpu::SkipRule skip_rule(const PagedAttentionParams& params, const AttentionSeq& seq) {
  const float factor = seq.skip_factor(params.skip_factor);
  if (factor <= 0 || factor >= static_cast<float>(seq.threshold_len)) return {};
  const double ratio = static_cast<double>(factor) / seq.threshold_len;
  return {.on = true, .threshold = static_cast<float>(std::log2(ratio))};
}

float scale_log2(const PagedAttentionParams& params) {
  return params.softmax_scale * std::numbers::log2e_v<float>;
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
    const AttentionSeq& seq = params.seqs[idx];
    params.counters[idx].pairs += dense_pairs(seq, params.window, params.num_heads);
    params.counters[idx].pairs_used += present_pairs(seq, params.window, params.num_heads);
  }
}

}  // namespace foveal::kernels
