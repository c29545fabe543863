#include "model/cuda/memory_plan.h"

#include <algorithm>

#include "base/math.h"

namespace foveal::model {
namespace {

constexpr int64_t kBf16 = 2;
constexpr int64_t kF32 = 4;
/// The CUDA context's own growth, GEMM workspaces, recorded graphs, split results of decode: what
/// no formula here covers. Measured generously rather than run out of in the middle of a step.
constexpr int64_t kReserve = int64_t{768} << 20;

int64_t layer_weights(const ModelConfig& config, bool experts) {
  const int64_t hidden = config.hidden_size;
  const int64_t heads = int64_t{config.num_heads} * 2 + int64_t{config.num_kv_heads} * 2;
  const int64_t attention = heads * config.head_dim * hidden;
  if (!experts) return attention + 3 * hidden * config.intermediate_size;
  return attention + hidden * config.num_experts +
         3 * hidden * config.moe_intermediate_size * config.num_experts;
}

int64_t rope_bytes(const ModelConfig& config, int64_t max_positions) {
  const int64_t table = max_positions * config.rotary_dim * kF32;  // cos and sin of half of it each
  return config.local_rope ? 2 * table : table;
}

}  // namespace

MemoryPlan plan_cuda_memory(const ModelConfig& config, const ModelLimits& limits) {
  MemoryPlan plan;
  int64_t weights =
      int64_t{config.vocab_size} * config.hidden_size * (config.tie_embeddings ? 1 : 2);
  bool any_experts = false;
  for (size_t layer = 0; layer < static_cast<size_t>(config.num_layers); ++layer) {
    const bool experts = config.num_experts > 0 && config.moe_layers.at(layer) != 0;
    any_experts = any_experts || experts;
    weights += layer_weights(config, experts);
  }
  plan.weights_bytes = weights * kBf16 + rope_bytes(config, limits.max_positions);

  const int64_t qkv =
      (int64_t{config.num_heads} + 2 * int64_t{config.num_kv_heads}) * config.head_dim;
  const int64_t out = int64_t{config.num_heads} * config.head_dim;
  int64_t row = config.hidden_size * (2 * kF32 + kBf16) + (qkv + out) * kBf16 +
                3 * int64_t{config.intermediate_size} * kBf16;
  if (any_experts) {
    // Gathered inputs, both projections and the product of every chosen expert.
    const int64_t chosen = config.experts_per_token;
    row += chosen * (3 * int64_t{config.moe_intermediate_size} * kBf16 +
                     config.hidden_size * (kBf16 + kF32)) +
           int64_t{config.num_experts} * kF32;
  }
  plan.workspace_bytes =
      limits.max_rows * row + limits.max_logit_rows * int64_t{config.vocab_size} * kF32 + kReserve;
  return plan;
}

}  // namespace foveal::model
