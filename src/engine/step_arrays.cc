#include "engine/step_arrays.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "base/math.h"
#include "engine/graph_sizes.h"

namespace foveal::engine {
namespace {

using kernels::AttentionSeq;
using kernels::DeviceSeqs;

int32_t most_pages(std::span<const AttentionSeq> seqs, int32_t page_size) {
  int32_t most = 0;
  for (const AttentionSeq& seq : seqs) {
    most = std::max(most, static_cast<int32_t>(ceil_div(seq.kv_len, page_size)));
  }
  return most;
}

size_t upload_bytes(const StepLimits& limits) {
  constexpr size_t kArrays = 32;  // each rounded up to the alignment of an array
  constexpr size_t kAlignment = 256;
  const auto rows = static_cast<size_t>(limits.max_rows);
  const auto seqs = static_cast<size_t>(limits.max_seqs);
  const size_t tables = seqs * static_cast<size_t>(limits.max_pages);
  // Every sequence may begin a page, and a prompt's rows fill whole ones.
  const size_t pages = rows / static_cast<size_t>(limits.page_size) + 2 * seqs;
  const size_t places = pages * 2 * static_cast<size_t>(limits.num_layers);
  return (2 * rows + 16 * seqs + tables + places) * sizeof(int32_t) +
         rows * (sizeof(kernels::cuda::SampleRow) + 2 * sizeof(int32_t)) +
         StepArrays::kMaxEdits * sizeof(kernels::cuda::LogitEdit) + kArrays * kAlignment;
}

}  // namespace

StepShape choose_shape(const Batch& batch, std::span<const int32_t> sizes, bool padding,
                       const StepLimits& limits) {
  const auto decodes = static_cast<int32_t>(batch.decode().size());
  const int32_t pages = most_pages(batch.decode(), limits.page_size);
  StepShape shape{.decode_rows = decodes,
                  .prefill_stride = most_pages(batch.prefill(), limits.page_size)};
  if (decodes == 0) return shape;
  shape.decode_stride = graph_table_stride(pages, limits.max_pages);
  if (!batch.prefill().empty() || batch.traced()) return shape;
  const std::optional<int32_t> size = choose_graph_size(sizes, decodes, padding);
  shape.padded = size.has_value();
  shape.decode_rows = size.value_or(decodes);
  return shape;
}

StepArrays::StepArrays(Device device, const StepLimits& limits)
    : limits_(limits), upload_(device, upload_bytes(limits)) {}

void StepArrays::send(const Batch& batch, const StepShape& shape, std::span<const int32_t> places,
                      const SamplePlan& sampling, const Stream& stream) {
  upload_.begin();
  input_ = {};
  // What a recorded step reads comes first, in an order and size that follow from its shape.
  add_tokens(batch.tokens(), shape, batch.prefill_rows());
  const attention::AttentionStep::States states = batch.states();
  input_.prefill = add_prefill(batch.prefill(), states.prefill, shape.prefill_stride);
  input_.decode = add_decode(batch.decode(), states.decode, shape);
  if (shape.padded) {
    logit_rows_.resize(static_cast<size_t>(shape.decode_rows));
    std::iota(logit_rows_.begin(), logit_rows_.end(), 0);
  } else {
    logit_rows_.assign(batch.rows_with_logits().begin(), batch.rows_with_logits().end());
  }
  input_.logit_rows = add_copy(std::span<const int32_t>(logit_rows_));
  add_rest(places, sampling);
  upload_.send(stream);
}

void StepArrays::add_tokens(std::span<const int32_t> tokens, const StepShape& shape,
                            int64_t prefill_rows) {
  const auto rows = static_cast<size_t>(prefill_rows + shape.decode_rows);
  const auto array = upload_.add<int32_t>(rows);
  std::copy(tokens.begin(), tokens.end(), array.host.begin());
  std::fill(array.host.begin() + static_cast<ptrdiff_t>(tokens.size()), array.host.end(), 0);
  input_.token_ids = array.device;
}

DeviceSeqs StepArrays::add_prefill(std::span<const AttentionSeq> seqs, States states,
                                   int32_t stride) {
  DeviceSeqs out{.num_seqs = static_cast<int32_t>(seqs.size()), .page_table_stride = stride};
  if (seqs.empty()) return out;
  const auto cu_q = upload_.add<int32_t>(seqs.size() + 1);
  for (size_t idx = 0; idx < seqs.size(); ++idx) {
    cu_q.host[idx] = out.num_rows;
    out.num_rows += seqs[idx].q_len;
    out.max_q_len = std::max(out.max_q_len, seqs[idx].q_len);
    out.max_kv_len = std::max(out.max_kv_len, seqs[idx].kv_len);
    out.total_kv_len += seqs[idx].kv_len;
  }
  cu_q.host[seqs.size()] = out.num_rows;
  out.cu_q = cu_q.device;
  add_seqs(seqs, states, out);
  return out;
}

DeviceSeqs StepArrays::add_decode(std::span<const AttentionSeq> seqs, States states,
                                  const StepShape& shape) {
  // Bounds follow from the shape alone, as a recorded launch has no others.
  DeviceSeqs out{.num_seqs = shape.decode_rows,
                 .num_rows = shape.decode_rows,
                 .max_q_len = 1,
                 .max_kv_len = shape.decode_stride * limits_.page_size,
                 .page_table_stride = shape.decode_stride};
  if (shape.decode_rows > 0) add_seqs(seqs, states, out);
  return out;
}

// Rows past `seqs` fill up the step: one key each, on the page that is nobody's.
void StepArrays::add_seqs(std::span<const AttentionSeq> seqs, States states, DeviceSeqs& out) {
  const auto count = static_cast<size_t>(out.num_seqs);
  const auto stride = static_cast<size_t>(out.page_table_stride);
  FOVEAL_INVARIANT(seqs.size() <= count);
  const auto kv_len = upload_.add<int32_t>(count);
  const auto evicted = upload_.add<int32_t>(count);
  const auto threshold_len = upload_.add<int32_t>(count);
  const auto factors = upload_.add<float>(count);
  const auto held = upload_.add<const void*>(count);
  const auto table = upload_.add<int32_t>(count * stride);
  for (size_t idx = 0; idx < count; ++idx) {
    const std::span<int32_t> row = table.host.subspan(idx * stride, stride);
    size_t pages = 0;
    if (idx < seqs.size()) {
      const AttentionSeq& seq = seqs[idx];
      pages = static_cast<size_t>(ceil_div(seq.kv_len, limits_.page_size));
      FOVEAL_INVARIANT(pages <= stride);
      std::copy_n(seq.pages, pages, row.begin());
    }
    kv_len.host[idx] = idx < seqs.size() ? seqs[idx].kv_len : 1;
    evicted.host[idx] = idx < seqs.size() ? seqs[idx].evicted : 0;
    const attention::SequenceState* state = idx < states.size() ? states[idx] : nullptr;
    held.host[idx] = state != nullptr ? state->device_data() : nullptr;
    threshold_len.host[idx] = idx < seqs.size() ? seqs[idx].threshold_len : 1;
    factors.host[idx] = idx < seqs.size() ? seqs[idx].own_skip_factor : -1.0F;
    // Kernels may prefetch a page id past the length.
    std::fill(row.begin() + static_cast<ptrdiff_t>(pages), row.end(), limits_.scratch_page);
  }
  out.kv_len = kv_len.device;
  out.evicted = evicted.device;
  out.states = held.device;
  out.threshold_len = threshold_len.device;
  out.skip_factors = factors.device;
  out.page_table = table.device;
}

template <class T>
const T* StepArrays::add_copy(std::span<const T> values) {
  const auto array = upload_.add<T>(values.size());
  std::copy(values.begin(), values.end(), array.host.begin());
  return array.device;
}

void StepArrays::add_rest(std::span<const int32_t> places, const SamplePlan& sampling) {
  places_ = add_copy(places);
  sample_rows_ = add_copy(std::span(sampling.rows));
  edits_ = sampling.edits.empty() ? nullptr : add_copy(std::span(sampling.edits));
  edit_begin_ = sampling.edits.empty() ? nullptr : add_copy(std::span(sampling.edit_begin));
  scored_ = sampling.scored.empty() ? nullptr : add_copy(std::span(sampling.scored));
}

}  // namespace foveal::engine
