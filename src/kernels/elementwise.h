#pragma once

#include <cstdint>
#include <span>

#include "base/tensor_view.h"
#include "device/stream.h"

namespace foveal::kernels {

// Row-wise operations around the GEMMs. Each row is computed by one worker in a fixed order, so
// results do not depend on batch or thread count.

/// y = x / sqrt(mean(x^2) + eps) * (weight + weight_offset), row by row. In place allowed (y == x).
struct RmsNormParams {
  const float* x = nullptr;       ///< [m, n], row stride x_stride
  float* y = nullptr;             ///< [m, n], row stride y_stride
  const float* weight = nullptr;  ///< [n]
  int64_t m = 0;
  int64_t n = 0;
  int64_t x_stride = 0;
  int64_t y_stride = 0;
  float eps = 0;
  float weight_offset = 0;  ///< 1 for Gemma checkpoints in Hugging Face's layout, else 0
};
void rms_norm(const RmsNormParams& params, Stream& stream);

/// y = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias, row by row. In place allowed.
struct LayerNormParams {
  const float* x = nullptr;       ///< [m, n], row stride x_stride
  float* y = nullptr;             ///< [m, n], row stride y_stride
  const float* weight = nullptr;  ///< [n]
  const float* bias = nullptr;    ///< [n]
  int64_t m = 0;
  int64_t n = 0;
  int64_t x_stride = 0;
  int64_t y_stride = 0;
  float eps = 0;
};
void layer_norm(const LayerNormParams& params, Stream& stream);

/// Which channels of a head form a rotated pair.
enum class RopeStyle : uint8_t {
  kHalf,         ///< (i, i + rotary_dim / 2): Hugging Face, "neox"
  kInterleaved,  ///< (2i, 2i + 1): GGUF files of the llama architecture, whose rows are permuted
};

/// Rotates the first rotary_dim channels of every head in place.
struct RopeParams {
  float* x = nullptr;  ///< [m, num_heads, head_dim], row stride x_stride
  int64_t m = 0;
  int64_t x_stride = 0;
  int32_t num_heads = 0;
  int32_t head_dim = 0;
  int32_t rotary_dim = 0;              ///< even, <= head_dim
  const int32_t* positions = nullptr;  ///< [m]
  const float* cos_table = nullptr;    ///< [max_position, rotary_dim / 2]
  const float* sin_table = nullptr;    ///< likewise
  RopeStyle style = RopeStyle::kHalf;
};
void rope(const RopeParams& params, Stream& stream);

enum class Activation : uint8_t { kSilu, kGeluTanh, kGeluErf };

/// y = act(gate) * up. In place allowed (y == gate).
struct GatedActParams {
  const float* gate = nullptr;  ///< [m, n], row stride gate_stride
  const float* up = nullptr;    ///< [m, n], row stride up_stride
  float* y = nullptr;           ///< [m, n], row stride y_stride
  int64_t m = 0;
  int64_t n = 0;
  int64_t gate_stride = 0;
  int64_t up_stride = 0;
  int64_t y_stride = 0;
  Activation act = Activation::kSilu;
};
void gated_act(const GatedActParams& params, Stream& stream);

/// y += alpha * x, elementwise over n values.
void add_scaled(const float* x, float alpha, float* y, int64_t n, Stream& stream);

/// x *= alpha.
void scale(float* x, float alpha, int64_t n, Stream& stream);

/// y[row] = alpha * table[ids[row]], each row dequantised to float.
struct EmbedParams {
  WeightView table;              ///< [vocab, n]
  const int32_t* ids = nullptr;  ///< [m], each in [0, vocab)
  float* y = nullptr;            ///< [m, n]
  int64_t m = 0;
  float alpha = 1;
};
void embed(const EmbedParams& params, Stream& stream);

/// Router of a mixture of experts: a score for each expert, the top k (ties: lowest index), their
/// scores as weights, renormalised to sum to 1 if asked, times `scale`. `indices` are in descending
/// order of what they were chosen by.
///
/// The scores are a softmax over the experts, or with `sigmoid` each expert's own sigmoid. Then
/// (DeepSeek-V3, arXiv 2412.19437, section 2.1.2) experts are chosen by score + bias, and only from
/// the topk_groups of num_groups equal groups whose two best sum to the most.
struct MoeRouteParams {
  const float* logits = nullptr;  ///< [m, num_experts]
  int64_t m = 0;
  int32_t num_experts = 0;
  int32_t k = 0;
  bool normalize = false;
  int32_t* indices = nullptr;  ///< [m, k]
  float* weights = nullptr;    ///< [m, k]
  bool sigmoid = false;
  const float* bias = nullptr;  ///< sigmoid: [num_experts]
  int32_t num_groups = 1;       ///< sigmoid: divides num_experts; if not 1, of 2 or more each
  int32_t topk_groups = 1;
  float scale = 1;
};
void moe_route(const MoeRouteParams& params, Stream& stream);

/// log(sum(e^x)) of n >= 1 values below +inf, at least one of them finite; on the calling thread.
/// Within 2e-6 absolute: exponentials in float, their sum in double.
double log_sum_exp(const float* x, int64_t n);

/// One row of a weight as float32, exactly as its format defines.
void dequantize_row(const WeightView& weight, int64_t row, float* out);

}  // namespace foveal::kernels
