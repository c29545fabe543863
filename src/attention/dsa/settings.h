#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "attention/method.h"
#include "foveal/config.h"

namespace foveal::attention::dsa {

inline constexpr int32_t kDefaultChunk = 32768;

/// What a configuration comes to for one model.
struct Settings {
  int32_t num_heads = 0;  ///< of the indexer
  int32_t head_dim = 0;
  int32_t topk = 0;
  int32_t max_chunk = kDefaultChunk;  ///< rows whose scores are kept at once
  bool skip_short = true;             ///< no scores where every row is within topk
  bool reference = false;             ///< float32 index keys, neither Hadamard transform nor e4m3
  bool configured = false;            ///< by the user; else the checkpoint's own
  std::vector<uint8_t> full;          ///< [num_layers]: 1 = the layer has an indexer
  std::vector<int32_t> owner;         ///< [num_layers]: the layer whose set it uses

  /// Whether rows that see so many keys or fewer need no scores: their sets are all they see.
  bool unscored(int32_t keys) const { return skip_short && keys <= topk; }
};

/// Throws kInvalidArgument or kUnsupported, naming the field, for what this model cannot have.
/// `config` null: the checkpoint's values.
Settings make_settings(const DeepSeekSparseAttentionConfig* config, const MethodContext& context);

/// Says in the log what of a configuration changes nothing here.
void log_synonyms(const DeepSeekSparseAttentionConfig& config);

}  // namespace foveal::attention::dsa
