#include "model/layers/step_rows.h"

namespace foveal::model {

void linear(const StepRows& rows, const float* x, int64_t x_stride, int64_t k,
            std::span<kernels::GemmOutput> outputs, Stream& stream) {
  using kernels::GemmPath;
  kernels::GemmParams params{.x = x, .m = rows.prefill, .k = k, .x_stride = x_stride};
  params.outputs = outputs;
  params.path = rows.exact ? GemmPath::kExact : GemmPath::kPrefill;
  kernels::gemm(params, stream);
  if (rows.total == rows.prefill) return;
  for (kernels::GemmOutput& output : outputs) output.y += rows.prefill * output.y_stride;
  params.x = x + rows.prefill * x_stride;
  params.m = rows.total - rows.prefill;
  params.path = rows.exact ? GemmPath::kExact : GemmPath::kDecode;
  kernels::gemm(params, stream);
}

}  // namespace foveal::model
