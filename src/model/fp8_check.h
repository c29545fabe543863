#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/tensor_view.h"
#include "model/checkpoint.h"

namespace foveal::model {

/// Whether some of these e4m3 values are NaN. Reads as fast as memory gives.
bool has_e4m3_nan(const std::byte* values, int64_t count);

/// Fails with kCorruptFile, naming the tensor and the first of its NaN.
[[noreturn]] void refuse_e4m3_nan(const std::string& where, std::string_view name,
                                  const WeightView& matrix);

/// Throws kCorruptFile, naming a tensor, where the file's matrices in e4m3, its scales and the
/// config contradict each other: a scale of nothing, of a matrix in another type, a second one, or
/// none; or a matrix in e4m3 in a module of `exempt` (ModelConfig::fp8_exempt). Scales' values and
/// matrices' are looked at when they are read.
void check_fp8_tensors(const Checkpoint& checkpoint, std::span<const std::string> exempt);

}  // namespace foveal::model
