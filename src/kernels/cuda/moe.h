#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "device/stream.h"
#include "kernels/cuda/dense_gemm.h"

// A mixture of experts on the device, no size of it known to the host. The order of calls:
//   moe_route (logits -> experts and weights of every row), moe_sort (slots grouped by expert),
//   grouped_gemm gate_up (x_divisor = k), act_mul over m * k rows, grouped_gemm down (x_divisor =
//   1), moe_combine (weighted sum of a row's k slots).
// A slot is one (row, choice) pair: slot = row * k + choice.

namespace foveal::kernels::cuda {

/// A score for each expert, the top k (ties: lowest index; NaN after everything), weights
/// renormalised to sum to 1 if asked; descending. The rules of kernels/moe_route.cc, by softmax or
/// by sigmoids.
struct MoeRouteParams {
  const float* logits = nullptr;  ///< [m, num_experts], row stride logits_stride
  int64_t m = 0;
  int64_t logits_stride = 0;
  int32_t num_experts = 0;  ///< <= 1024
  int32_t k = 0;            ///< <= 32
  bool normalize = false;
  int32_t* indices = nullptr;  ///< [m, k]
  float* weights = nullptr;    ///< [m, k]
  bool sigmoid = false;
  const float* bias = nullptr;  ///< sigmoid: [num_experts]
  int32_t num_groups = 1;       ///< sigmoid: at most 32, of 2 experts or more each unless 1
  int32_t topk_groups = 1;
  float scale = 1;  ///< of the weights
};
void moe_route(const MoeRouteParams& params, Stream& stream);

/// Slots in order of expert, within an expert in order of slot.
struct MoeSortParams {
  const int32_t* indices = nullptr;  ///< [num_slots]
  int64_t num_slots = 0;
  int32_t num_experts = 0;     ///< <= 1024
  int32_t* offsets = nullptr;  ///< [num_experts + 1]: where each expert's slots begin
  int32_t* slots = nullptr;    ///< [num_slots]
};
void moe_sort(const MoeSortParams& params, Stream& stream);

/// y[slot] = x[slot / x_divisor] W[expert of slot]^T for every slot.
struct GroupedGemmParams {
  const void* x = nullptr;           ///< [rows, k] bf16, e4m3 with x_scale; row stride x_stride
  const void* weight = nullptr;      ///< [num_experts, n, k] of `dtype`, contiguous
  void* y = nullptr;                 ///< [num_slots, n] y_dtype, row stride y_stride
  const int32_t* offsets = nullptr;  ///< [num_experts + 1], from moe_sort
  const int32_t* slots = nullptr;    ///< [num_slots], from moe_sort
  int64_t num_slots = 0;
  int32_t num_experts = 0;
  int32_t x_divisor = 1;
  int64_t n = 0;  ///< a multiple of 8
  int64_t k = 0;  ///< a multiple of 8
  int64_t x_stride = 0;
  int64_t y_stride = 0;
  DType y_dtype = DType::kBF16;  ///< kBF16 or kF32
  /// kDecode: 8 slots of an expert at a time, weights streamed; kLibrary: tiles of 128 slots;
  /// kAuto: by num_slots / num_experts. The two add up in different orders, so batch-invariant
  /// callers choose one. e4m3: the decode route takes x in bf16, the other in e4m3, so that callers
  /// choose (grouped_decodes).
  GemmRoute route = GemmRoute::kAuto;
  DType dtype = DType::kBF16;                ///< kBF16, or kF8E4M3 with k a multiple of 16
  GemmScaling scaling = GemmScaling::kNone;  ///< e4m3: kRow or kBlock
  const float* weight_scale = nullptr;       ///< an expert's after another's, as in DenseGemmParams
  /// kLibrary with e4m3: [ceil(k / 128), x_scale_stride], as quantize_e4m3_blocks makes them
  /// whatever the scaling; with kBlock n a multiple of 128.
  const float* x_scale = nullptr;
  int64_t x_scale_stride = 0;
};
/// What kAuto does with so many slots.
constexpr bool grouped_decodes(int64_t num_slots, int32_t num_experts) {
  return num_slots <= 8 * int64_t{num_experts};
}
void grouped_gemm(const GroupedGemmParams& params, Stream& stream);

/// out[row] (+)= alpha * sum over j of weights[row, j] * y[row * k + j], in order of j, float32.
struct MoeCombineParams {
  const void* y = nullptr;         ///< [m * k, n] y_dtype, row stride y_stride
  const float* weights = nullptr;  ///< [m, k]
  float* out = nullptr;            ///< [m, n], row stride out_stride
  int64_t m = 0;
  int64_t n = 0;  ///< a multiple of 8
  int32_t k = 0;
  int64_t y_stride = 0;
  int64_t out_stride = 0;
  DType y_dtype = DType::kBF16;  ///< kBF16 or kF32
  bool accumulate = false;
  float alpha = 1;
};
void moe_combine(const MoeCombineParams& params, Stream& stream);

}  // namespace foveal::kernels::cuda
