#pragma once

#include "kernels/cpu/attention_item.h"
#include "kernels/paged_attention.h"

// What prefill, decode and kv_store share on their way to the active instruction-set level.

namespace foveal::kernels {

const cpu::AttentionKernels& attention_kernels();
cpu::KvFormat kv_format(DType dtype);
cpu::KvHead kv_head(const KvLayerView& kv, const AttentionSeq& seq, int32_t head);

/// Off when the factor is 0 or reaches the length, where the threshold would be 1 or more.
cpu::SkipRule skip_rule(const PagedAttentionParams& params, const AttentionSeq& seq);

/// Softmax scale for scores in the log2 domain.
float scale_log2(const PagedAttentionParams& params);

/// Adds what dense attention would do to every sequence's counters; a task's own counts, which
/// several workers may add at once, take the dropped pairs off again.
void add_dense_pairs(const PagedAttentionParams& params);
void add_counts(const PagedAttentionParams& params, int64_t seq_idx, const cpu::TileCounts& counts);

}  // namespace foveal::kernels
