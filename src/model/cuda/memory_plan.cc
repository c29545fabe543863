#include "model/cuda/memory_plan.h"

#include <algorithm>

#include "base/math.h"
#include "kernels/cuda/prefill_plan.h"
#include "model/cuda/fp8_device.h"
#include "model/cuda/scratch.h"

namespace foveal::model {
namespace {

constexpr int64_t kBf16 = 2;
constexpr int64_t kF32 = 4;
/// What no formula here covers: the context's own growth, workspaces of products and of split
/// decode, recorded graphs, staging. Generous, for running out of it would be in the middle of a
/// step.
constexpr int64_t kReserve = int64_t{768} << 20;

int64_t latent_weights(const ModelConfig& config, bool indexer) {
  const LatentConfig& dims = *config.latent;
  const int64_t hidden = config.hidden_size;
  const int64_t heads = config.num_heads;
  const int64_t q_from = dims.q_rank > 0 ? dims.q_rank : hidden;
  int64_t low = dims.q_rank + dims.width();
  int64_t q = heads * config.head_dim;
  if (indexer) {
    low += config.indexer->head_dim + config.indexer->num_heads;
    q += int64_t{config.indexer->num_heads} * config.indexer->head_dim;
  }
  return low * hidden + q * q_from + heads * (2 * dims.nope_dim + dims.value_dim) * dims.kv_rank +
         heads * dims.value_dim * hidden;
}

int64_t layer_weights(const ModelConfig& config, size_t layer) {
  const int64_t hidden = config.hidden_size;
  const bool experts = config.num_experts > 0 && config.moe_layers.at(layer) != 0;
  const int64_t heads = int64_t{config.num_heads} * 2 + int64_t{config.num_kv_heads} * 2;
  const bool indexer = config.indexer && config.indexer->full.at(layer) != 0;
  const int64_t attention =
      config.latent ? latent_weights(config, indexer) : heads * config.head_dim * hidden;
  if (!experts) return attention + 3 * hidden * config.intermediate_size;
  const int64_t widths =
      int64_t{config.moe_intermediate_size} * config.num_experts + config.shared_intermediate_size;
  return attention + hidden * config.num_experts + 3 * hidden * widths;
}

/// cos and sin, of half the rotated channels each.
int64_t rope_bytes(const ModelConfig& config, int64_t max_positions) {
  const int64_t table = max_positions * config.rotary_dim * kF32;
  return config.local_rope ? 2 * table : table;
}

/// What prefill lays keys and values of an e4m3 cache out in (what a method adds is its own to
/// plan, AttentionMethod::workspace_bytes); see DeviceWorkspace for the fourth.
int64_t prefill_scratch_bytes(const ModelConfig& config, const ModelLimits& limits) {
  if (limits.kv_dtype != DType::kF8E4M3 || config.latent) return 0;
  const kernels::cuda::PrefillLimits prefill{.num_seqs = limits.max_logit_rows,
                                             .max_kv_len = limits.max_positions,
                                             .num_kv_heads = config.num_kv_heads,
                                             .head_dim = config.head_dim,
                                             .laid_out_bytes = limits.e4m3_prefill ? 1 : kBf16};
  return kernels::cuda::most_scratch_bytes(prefill) / 4 * 5;
}

/// What weights that stay in e4m3 take less than they would in bf16: a byte a value, but for their
/// scales, of which a block has as many as a row at most.
int64_t fp8_saving(const Checkpoint& checkpoint) {
  int64_t out = 0;
  const Fp8OnDevice fp8(checkpoint);
  for (const std::string& name : fp8.kept()) {
    const TensorView* tensor = checkpoint.find(name);
    const int64_t cols = tensor->shape.back();
    const int64_t rows = tensor->num_elements() / cols;
    out += rows * (cols - kF32 * std::max(int64_t{1}, ceil_div(cols, int64_t{128 * 128})));
  }
  return out;
}

}  // namespace

MemoryPlan plan_cuda_memory(const Checkpoint& checkpoint, const ModelLimits& limits) {
  const ModelConfig& config = checkpoint.config();
  const int64_t matrices = config.tie_embeddings ? 1 : 2;  // embedding and output
  int64_t weights = matrices * config.vocab_size * config.hidden_size;
  for (size_t layer = 0; layer < static_cast<size_t>(config.num_layers); ++layer) {
    weights += layer_weights(config, layer);
  }
  const DecoderScratch scratch = lay_out_scratch(config, limits, nullptr);
  return {.weights_bytes =
              weights * kBf16 - fp8_saving(checkpoint) + rope_bytes(config, limits.max_positions),
          .workspace_bytes = static_cast<int64_t>(scratch.bytes) + kReserve +
                             prefill_scratch_bytes(config, limits)};
}

}  // namespace foveal::model
