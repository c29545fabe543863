#pragma once

#include "base/math.h"
#include "kernels/cuda/dense_gemm.h"
#include "model/cuda/layer.h"
#include "model/layers/step_rows.h"

namespace foveal::model {

/// Where rows are put in e4m3 for products with such weights; null where there are none.
struct Fp8Scratch {
  uint8_t* x = nullptr;
  float* scales = nullptr;
};

/// The products of a step. Rows are those of the step, prompts first. In batch-invariant mode each
/// phase takes its own route, in calls of a fixed shape, so that a row does not depend on its
/// neighbours; else a call's size decides. With weights in e4m3 the decode route leaves x in bf16;
/// for the library x is put in e4m3 too, with a scale a row, or a row and 128 columns.
class Products {
 public:
  Products(Device device, bool batch_invariant);
  void set_fp8_scratch(const Fp8Scratch& scratch) { fp8_ = scratch; }
  bool batch_invariant() const { return batch_invariant_; }

  /// Values from a row of a float32 product to the next: its columns, rounded up for wide accesses.
  static int64_t f32_stride(const DeviceLinear& linear) {
    return round_up(linear.rows(), int64_t{4});
  }

  /// y = x W^T + bias, in bf16 or float32 (rows f32_stride apart).
  void run(const DeviceLinear& linear, const uint16_t* x, uint16_t* y, const StepRows& rows,
           Stream& stream);
  void run(const DeviceLinear& linear, const uint16_t* x, float* y, const StepRows& rows,
           Stream& stream);
  /// y += alpha * x W^T + bias.
  void add(const DeviceLinear& linear, const uint16_t* x, float alpha, float* y,
           const StepRows& rows, Stream& stream);
  /// y = act(gate) * up of the fused product, which `fused` holds where it is a step of its own.
  void run_gated(const DeviceLinear& linear, const uint16_t* x, uint16_t* fused, uint16_t* y,
                 kernels::Activation act, const StepRows& rows, Stream& stream);
  /// A product a head (DenseGemmParams::batch) over all rows of a step, by the library in either
  /// mode: its shape is the head's, whatever the rows.
  void heads(const kernels::cuda::DenseGemmParams& params, Stream& stream);
  /// Of rows that all are the last of something: always the same route in batch-invariant mode.
  void logits(const DeviceTensor& weight, const uint16_t* x, float* y, int64_t y_stride,
              int64_t count, Stream& stream);

 private:
  /// Calls `issue(first, count, route)` for runs of rows.
  template <class Issue>
  void each_run(const StepRows& rows, const Issue& issue) const;
  bool decodes(const DeviceTensor& weight, int64_t count, kernels::cuda::GemmRoute route) const;
  void multiply(const kernels::cuda::DenseGemmParams& params, const StepRows& rows, Stream& stream);
  /// `params` of all columns of y: each part of the weight makes its own.
  void multiply(const DeviceLinear& linear, const kernels::cuda::DenseGemmParams& params,
                const StepRows& rows, Stream& stream);
  void run_part(const DeviceTensor& part, kernels::cuda::DenseGemmParams params, Stream& stream);

  kernels::cuda::DenseGemm gemm_;
  Fp8Scratch fp8_;
  bool batch_invariant_;
};

}  // namespace foveal::model
