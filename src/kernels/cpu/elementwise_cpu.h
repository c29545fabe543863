#pragma once

#include <cstdint>

#include "kernels/elementwise.h"

namespace foveal::kernels::cpu {

/// The row loops of one instruction-set level. Each does rows [begin, end) of its params on the
/// calling thread; the flat ones do elements [begin, end).
struct ElementwiseTable {
  void (*rms_norm)(const RmsNormParams& params, int64_t begin, int64_t end);
  void (*rope)(const RopeParams& params, int64_t begin, int64_t end);
  void (*gated_act)(const GatedActParams& params, int64_t begin, int64_t end);
  void (*add_scaled)(const float* x, float alpha, float* y, int64_t begin, int64_t end);
  void (*scale)(float* x, float alpha, int64_t begin, int64_t end);
  double (*log_sum_exp)(const float* x, int64_t n);
};

/// The table of `active_isa()`.
const ElementwiseTable& elementwise_table();

namespace portable {
extern const ElementwiseTable elementwise_rows;
}
namespace avx2 {
extern const ElementwiseTable elementwise_rows;
}
namespace avx512 {
extern const ElementwiseTable elementwise_rows;
}
namespace avx512bf16 {
extern const ElementwiseTable elementwise_rows;
}

}  // namespace foveal::kernels::cpu
