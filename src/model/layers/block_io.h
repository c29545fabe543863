#pragma once

#include <string_view>

#include "attention/step.h"
#include "model/layers/activations.h"
#include "model/model.h"

namespace foveal::model {

/// Where a block's result goes: into `y`, or added to it.
struct BlockOutput {
  float* y = nullptr;  ///< [rows, hidden]
  bool accumulate = false;
};

/// Gives [rows.total, cols] of a layer to the trace, where one wants `<what>.<layer>`.
void trace_rows(const ForwardInput& input, std::string_view what, int32_t layer, const float* data,
                int64_t cols);

/// One layer's attention over the sequences of both phases. `args` says all but these.
void attend_phases(int32_t layer, attention::AttendArgs args, const ForwardInput& input,
                   attention::AttentionStep& attention, Stream& stream);

}  // namespace foveal::model
