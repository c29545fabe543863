#pragma once

#include <cstdint>
#include <span>

#include "kernels/gemm.h"

namespace foveal::model {

/// Rows of a step by phase: the first `prefill` belong to prompts, the rest are one row each of
/// decoding requests. The phase chooses a GEMM's path, so the two are never mixed in one call.
struct StepRows {
  int64_t prefill = 0;
  int64_t total = 0;
  bool exact = false;  ///< float32 throughout, both phases
};

/// y_i = x W_i^T + b_i for all rows of a step, each phase on its own path. `outputs` may be changed
/// (their y is advanced between the phases).
void linear(const StepRows& rows, const float* x, int64_t x_stride, int64_t k,
            std::span<kernels::GemmOutput> outputs, Stream& stream);

}  // namespace foveal::model
