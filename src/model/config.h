#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/elementwise.h"

namespace foveal::model {

/// How rotation angles follow positions.
struct RopeConfig {
  double theta = 10000.0;
  enum class Scaling : uint8_t {
    kNone,
    kLinear,
    kLlama3,
    kYarn,
    kLongRope
  } scaling = Scaling::kNone;
  double factor = 1.0;
  double low_freq_factor = 1.0;   ///< llama3
  double high_freq_factor = 4.0;  ///< llama3
  int64_t original_max_positions = 0;
  double beta_fast = 32;  ///< yarn
  double beta_slow = 1;
  bool truncate = true;         ///< yarn: the band between them begins and ends at whole channels
  double attention_factor = 0;  ///< yarn, longrope; 0: derived
  double mscale = 0;
  double mscale_all_dim = 0;
  std::vector<double> short_factor;  ///< longrope, [rotary_dim / 2]
  std::vector<double> long_factor;
  std::vector<float>
      freq_factors;  ///< GGUF rope_freqs.weight, [rotary_dim / 2]; divides frequencies
};

/// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values of all heads are
/// products of one latent a token, which is what the cache holds, beside channels that rotate.
struct LatentConfig {
  int32_t q_rank = 0;  ///< 0: queries are projected in one step
  int32_t kv_rank = 0;
  int32_t nope_dim = 0;   ///< channels of a query or key head that do not rotate; they come first
  int32_t rope_dim = 0;   ///< and those that do, which all heads' keys share
  int32_t value_dim = 0;  ///< of a head
  int32_t width() const { return kv_rank + rope_dim; }  ///< of a cached row
};

/// DeepSeek Sparse Attention's indexer, which chooses the keys that a query attends to.
struct IndexerConfig {
  int32_t num_heads = 0;
  int32_t head_dim = 0;  ///< the first LatentConfig::rope_dim channels rotate
  int32_t topk = 0;
  bool rope_interleave = false;  ///< pairs (2i, 2i + 1) rotate, else (i, i + rope_dim / 2)
  std::vector<uint8_t> full;     ///< [num_layers]: 0 = uses the choice of the last layer with 1
};

/// How a mixture chooses experts and weighs them.
struct RouterConfig {
  /// DeepSeek-V3: scores are sigmoids; a bias of each expert counts in the choice alone; whole
  /// groups drop out first, by the sum of their two best. Else: a softmax, and its largest.
  bool sigmoid = false;
  int32_t num_groups = 1;
  int32_t topk_groups = 1;
  double scale = 1;  ///< of the experts' sum
};

/// Hyperparameters of a decoder, the same fields for every family and file format. Arch files give
/// family-specific meaning; readers fill what the file says.
struct ModelConfig {
  std::string
      architecture;        ///< registry name: llama, mistral, qwen2, qwen3, qwen3_moe, gemma3, ...
  std::string name;        ///< as the file calls itself; may be empty
  bool from_gguf = false;  ///< GGUF conventions: norm weights with +1 baked in, llama rope permuted
  int32_t hidden_size = 0;
  int32_t intermediate_size = 0;
  int32_t num_layers = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;                  ///< of queries and keys
  std::optional<LatentConfig> latent;    ///< absent: K and V per KV head
  std::optional<IndexerConfig> indexer;  ///< of latent attention alone
  int32_t rotary_dim = 0;  ///< channels of a head that rotate (partial_rotary_factor applied)
  int32_t vocab_size = 0;
  int64_t max_positions = 0;  ///< context length
  double norm_eps = 1e-5;
  kernels::Activation activation = kernels::Activation::kSilu;
  bool tie_embeddings = false;
  bool attention_bias = false;  ///< q, k, v have biases; o has one where the file holds it
  bool mlp_bias = false;
  RopeConfig rope;  ///< of full-attention layers
  /// kInterleaved for GGUF files whose q and k rows were permuted (llama, smollm3, granite).
  kernels::RopeStyle rope_style = kernels::RopeStyle::kHalf;
  std::optional<RopeConfig> local_rope;  ///< of sliding layers where it differs (gemma3)
  std::vector<int32_t> windows;     ///< [num_layers]: sliding window, 0 = full attention; where
                                    ///< local_rope is set, nonzero also means "rotates by it"
  std::vector<uint8_t> use_rope;    ///< [num_layers]: 0 = no rotation (smollm3)
  double attention_scale = 0;       ///< softmax scale; 0: head_dim^-1/2
  double embedding_multiplier = 1;  ///< granite; gemma: sqrt(hidden)
  double residual_multiplier = 1;   ///< granite
  double logits_divisor = 1;        ///< granite logits_scaling
  double final_logit_softcap = 0;   ///< 0: none
  // mixture of experts; num_experts 0 means dense
  int32_t num_experts = 0;
  int32_t experts_per_token = 0;
  int32_t moe_intermediate_size = 0;
  int32_t shared_intermediate_size = 0;  ///< of the expert that every token takes; 0: none
  bool norm_topk_prob = false;
  RouterConfig router;
  std::vector<uint8_t> moe_layers;  ///< [num_layers]: 1 = experts, 0 = dense mlp
  /// Of weights in e4m3 that have a scale a block: rows and columns of one.
  std::array<int64_t, 2> fp8_block{128, 128};
  bool fp8_weights = false;   ///< by the config or the file, some weights are in e4m3
  bool fp8_by_block = false;  ///< by the config, with a scale a block, not a tensor
  /// Modules ("model.layers.3.mlp", "lm_head") whose weights the config says are not.
  std::vector<std::string> fp8_exempt;
  std::optional<int32_t> bos_token;
  std::vector<int32_t> eos_tokens;
  /// config.json's `sparse_attention_config` object as JSON text, as exported by ModelOpt; or
  /// empty.
  std::string sparse_attention_json;
};

}  // namespace foveal::model
