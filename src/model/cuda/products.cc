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
          .y = y,
          .bias = linear.bias_data(),
          .n = linear.rows(),
          .k = linear.cols(),
          .x_stride = linear.cols(),
          .weight_stride = linear.cols(),
          .y_stride = linear.rows(),
          .y_dtype = y_dtype};
}

/// The library takes rows with block scales four at a time.
constexpr int64_t kFp8Rows = 4;

/// The columns of y that one part of a linear makes, from column `first` on.
DenseGemmParams columns_of(DenseGemmParams params, const DeviceTensor& part, int64_t first) {
  const int64_t y_size = params.y_dtype == DType::kF32 ? 4 : 2;
  params.weight = part.buffer.data();
  params.y = static_cast<std::byte*>(params.y) + first * y_size;
  if (params.bias != nullptr) params.bias = static_cast<const uint16_t*>(params.bias) + first;
  params.n = part.rows;
  return params;
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

bool Products::decodes(const DeviceTensor& weight, int64_t count, GemmRoute route) const {
  if (route != GemmRoute::kAuto) return route == GemmRoute::kDecode;
  return gemm_.decodes(count, weight.fp8() ? DType::kF8E4M3 : DType::kBF16, weight.scaling,
                       weight.rows * weight.cols);
}

void Products::multiply(const DeviceLinear& linear, const DenseGemmParams& params,
                        const StepRows& rows, Stream& stream) {
  each_run(rows, [&](int64_t first, int64_t count, GemmRoute route) {
    const DenseGemmParams run = rows_of(params, first, count, route);
    int64_t column = 0;
    for (const DeviceTensor& part : linear.parts) {
      run_part(part, columns_of(run, part, column), stream);
      column += part.rows;
    }
  });
}

void Products::run_part(const DeviceTensor& part, DenseGemmParams params, Stream& stream) {
  if (!part.fp8()) return gemm_.run(params, stream);
  params.dtype = DType::kF8E4M3;
  params.scaling = part.scaling;
  params.weight_scale = part.scale_data();
  if (decodes(part, params.m, params.route)) {
    params.route = GemmRoute::kDecode;
    return gemm_.run(params, stream);
  }
  // Rows past the last are zeros: they add nothing to a residual stream, and what they leave in
  // other products is overwritten by the rows' own, which come later.
  const int64_t padded = round_up(params.m, kFp8Rows);
  const kernels::cuda::QuantizeParams quantize{.x = static_cast<const uint16_t*>(params.x),
                                               .y = fp8_.x,
                                               .scale = fp8_.scales,
                                               .m = params.m,
                                               .k = params.k,
                                               .x_stride = params.x_stride,
                                               .y_stride = params.k,
                                               .scale_stride = padded,
                                               .padded_m = padded};
  if (part.scaling == kernels::cuda::GemmScaling::kBlock) {
    quantize_e4m3_blocks(quantize, stream);
  } else {
    quantize_e4m3_rows(quantize, stream);
  }
  params.x = fp8_.x;
  params.x_stride = params.k;
  params.x_scale = fp8_.scales;
  params.m = padded;
  params.route = GemmRoute::kLibrary;
  gemm_.run(params, stream);
}

void Products::run(const DeviceLinear& linear, const uint16_t* x, uint16_t* y, const StepRows& rows,
                   Stream& stream) {
  multiply(linear, params_of(linear, x, y, DType::kBF16), rows, stream);
}

void Products::run(const DeviceLinear& linear, const uint16_t* x, float* y, const StepRows& rows,
                   Stream& stream) {
  DenseGemmParams params = params_of(linear, x, y, DType::kF32);
  params.y_stride = f32_stride(linear);
  multiply(linear, params, rows, stream);
}

void Products::add(const DeviceLinear& linear, const uint16_t* x, float alpha, float* y,
                   const StepRows& rows, Stream& stream) {
  DenseGemmParams params = params_of(linear, x, y, DType::kF32);
  params.accumulate = true;
  params.alpha = alpha;
  multiply(linear, params, rows, stream);
}

void Products::run_gated(const DeviceLinear& linear, const uint16_t* x, uint16_t* fused,
                         uint16_t* y, kernels::Activation act, const StepRows& rows,
                         Stream& stream) {
  const int64_t n = linear.rows() / 2;
  const DeviceTensor& weight = linear.parts.front();
  const bool one_part = linear.parts.size() == 1 &&
                        (weight.scaling != kernels::cuda::GemmScaling::kBlock || n % 128 == 0);
  each_run(rows, [&](int64_t first, int64_t count, GemmRoute route) {
    if (one_part && decodes(weight, count, route)) {
      gemm_.run_gated({.x = x + first * linear.cols(),
                       .weight = weight.buffer.data(),
                       .y = y + first * n,
                       .bias = linear.bias_data(),
                       .m = count,
                       .n = n,
                       .k = linear.cols(),
                       .x_stride = linear.cols(),
                       .weight_stride = linear.cols(),
                       .y_stride = n,
                       .dtype = weight.fp8() ? DType::kF8E4M3 : DType::kBF16,
                       .act = act,
                       .scaling = weight.scaling,
                       .weight_scale = weight.scale_data()},
                      stream);
      return;
    }
    const DenseGemmParams run =
        rows_of(params_of(linear, x, fused, DType::kBF16), first, count, route);
    int64_t column = 0;
    for (const DeviceTensor& part : linear.parts) {
      run_part(part, columns_of(run, part, column), stream);
      column += part.rows;
    }
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
