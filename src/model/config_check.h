#pragma once

#include <string>
#include <string_view>

#include "model/config.h"

namespace foveal::model {

/// Bounds of what a file may claim. They leave room over any released model and keep products of
/// two in int64.
struct ConfigLimits {
  static constexpr int32_t kHidden = 1 << 20;
  static constexpr int32_t kIntermediate = 1 << 22;
  static constexpr int32_t kLayers = 4096;
  static constexpr int32_t kHeads = 1 << 14;
  static constexpr int32_t kHeadDim = 1 << 13;
  static constexpr int32_t kVocab = 1 << 24;
  static constexpr int64_t kPositions = 1 << 30;
  static constexpr int32_t kExperts = 1 << 14;
  static constexpr int32_t kIndexTopk = 1 << 20;
};

/// "llama, mistral, ...": what ModelConfig::architecture can be.
std::string known_architectures();

/// Fails with kUnsupported when `architecture` (as the file spells it) is none of ours; says so
/// apart for families that are known but not built in.
[[noreturn]] void refuse_architecture(std::string_view architecture, const std::string& source);

/// Of `count` shared experts, which are one MLP. Throws kCorruptFile where that is too wide.
int32_t shared_experts_width(const ModelConfig& config, int32_t count, const std::string& source);

/// Throws kCorruptFile, or kUnsupported, naming the field, unless sizes fit each other: heads are a
/// multiple of KV heads, head_dim and rotary_dim even, per-layer vectors num_layers long, ...
void check_config(const ModelConfig& config, const std::string& source);

}  // namespace foveal::model
