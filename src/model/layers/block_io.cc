#include "model/layers/block_io.h"

#include <fmt/format.h>

namespace foveal::model {

void trace_rows(const ForwardInput& input, std::string_view what, int32_t layer, const float* data,
                int64_t cols) {
  if (input.trace == nullptr) return;
  const std::string name = fmt::format("{}.{}", what, layer);
  if (input.trace->wants(name)) input.trace->add(name, data, input.rows.total, cols, cols);
}

void attend_phases(int32_t layer, attention::AttendArgs args, const ForwardInput& input,
                   attention::AttentionStep& attention, Stream& stream) {
  args.exact = input.rows.exact;
  args.trace = input.trace;
  if (!input.prefill.empty()) {
    args.seqs = input.prefill;
    attention.attend(layer, attention::Phase::kPrefill, args, stream);
  }
  if (!input.decode.empty()) {
    args.seqs = input.decode;
    attention.attend(layer, attention::Phase::kDecode, args, stream);
  }
}

}  // namespace foveal::model
