#pragma once

#include <string_view>

#include "device/stream.h"
#include "model/model.h"

namespace foveal::model {

/// Gives a step's rows that lie on the device, `cols` values each and `stride` apart, to the trace,
/// where one wants `<what>.<layer>`: waits for them then. In bf16 or float32.
void trace_on_device(const ForwardInput& input, std::string_view what, int32_t layer,
                     const uint16_t* data, int64_t cols, int64_t stride, const Stream& stream);
void trace_on_device(const ForwardInput& input, std::string_view what, int32_t layer,
                     const float* data, int64_t cols, int64_t stride, const Stream& stream);

}  // namespace foveal::model
