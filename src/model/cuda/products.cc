#include "model/cuda/products.h"

#include <algorithm>

#include "kernels/cuda/elementwise.h"

namespace foveal::model {
namespace {

using kernels::cuda::DenseGemmParams;
using kernels::cuda::GemmRoute;
using kernels::cuda::kMaxDecodeRows;

/// Rows [first, first + count) of a call.
DenseGemmParams rows_of(DenseGemmParams params, int64_t first, int64_t count, GemmRoute route) {
  const int64_t y_size = params.y_dtype == DType::kF32 ? 4 : 2;
  params.x = static_cast<const std::byte*>(params.x) + first * params.x_stride * 2;
  params.y = static_cast<std::byte*>(params.y) + first * params.y_stride * y_size;
  params.m = count;
  params.route = route;
  return params;
}

DenseGemmParams params_of(const DeviceLinear& linear, const uint16_t* x, void* y, DType y_dtype) {
  return {.x = x,
          .weight = linear.weight.bf16(),
          .y = y,
          .bias = linear.bias_data(),
          .n = linear.rows(),
          .k = linear.cols(),
          .x_stride = linear.cols(),
          .weight_stride = linear.cols(),
          .y_stride = linear.rows(),
          .y_dtype = y_dtype};
}

}  // namespace

Products::Products(Device device, bool batch_invariant)
    : gemm_(device, {.batch_invariant = batch_invariant}), batch_invariant_(batch_invariant) {}

template <class Issue>
void Products::each_run(const StepRows& rows, const Issue& issue) const {
  if (!batch_invariant_) return issue(int64_t{0}, rows.total, GemmRoute::kAuto);
  if (rows.prefill > 0) issue(int64_t{0}, rows.prefill, GemmRoute::kLibrary);
  for (int64_t first = rows.prefill; first < rows.total; first += kMaxDecodeRows) {
    issue(first, std::min(kMaxDecodeRows, rows.total - first), GemmRoute::kDecode);
  }
}

void Products::multiply(const DenseGemmParams& params, const StepRows& rows, Stream& stream) {
  each_run(rows, [&](int64_t first, int64_t count, GemmRoute route) {
    gemm_.run(rows_of(params, first, count, route), stream);
  });
}

void Products::run(const DeviceLinear& linear, const uint16_t* x, uint16_t* y, const StepRows& rows,
                   Stream& stream) {
  multiply(params_of(linear, x, y, DType::kBF16), rows, stream);
}

void Products::run(const DeviceLinear& linear, const uint16_t* x, float* y, const StepRows& rows,
                   Stream& stream) {
  DenseGemmParams params = params_of(linear, x, y, DType::kF32);
  params.y_stride = f32_stride(linear);
  multiply(params, rows, stream);
}

void Products::add(const DeviceLinear& linear, const uint16_t* x, float alpha, float* y,
                   const StepRows& rows, Stream& stream) {
  DenseGemmParams params = params_of(linear, x, y, DType::kF32);
  params.accumulate = true;
  params.alpha = alpha;
  multiply(params, rows, stream);
}

void Products::run_gated(const DeviceLinear& linear, const uint16_t* x, uint16_t* fused,
                         uint16_t* y, kernels::Activation act, const StepRows& rows,
                         Stream& stream) {
  const int64_t n = linear.rows() / 2;
  each_run(rows, [&](int64_t first, int64_t count, GemmRoute route) {
    const bool one_kernel =
        route == GemmRoute::kDecode || (route == GemmRoute::kAuto && gemm_.decodes(count));
    if (one_kernel) {
      gemm_.run_gated({.x = x + first * linear.cols(),
                       .weight = linear.weight.bf16(),
                       .y = y + first * n,
                       .bias = linear.bias_data(),
                       .m = count,
                       .n = n,
                       .k = linear.cols(),
                       .x_stride = linear.cols(),
                       .weight_stride = linear.cols(),
                       .y_stride = n,
                       .act = act},
                      stream);
      return;
    }
    gemm_.run(rows_of(params_of(linear, x, fused, DType::kBF16), first, count, route), stream);
    kernels::cuda::act_mul({.gate_up = fused + first * 2 * n,
                            .y = y + first * n,
                            .m = count,
                            .n = n,
                            .x_stride = 2 * n,
                            .y_stride = n,
                            .act = act},
                           stream);
  });
}

void Products::heads(const DenseGemmParams& params, Stream& stream) {
  DenseGemmParams call = params;
  call.route = GemmRoute::kLibrary;
  gemm_.run(call, stream);
}

void Products::logits(const DeviceTensor& weight, const uint16_t* x, float* y, int64_t y_stride,
                      int64_t count, Stream& stream) {
  multiply({.x = x,
            .weight = weight.bf16(),
            .y = y,
            .n = weight.rows,
            .k = weight.cols,
            .x_stride = weight.cols,
            .weight_stride = weight.cols,
            .y_stride = y_stride,
            .y_dtype = DType::kF32},
           {.prefill = 0, .total = count}, stream);
}

}  // namespace foveal::model
