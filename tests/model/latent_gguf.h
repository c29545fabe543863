#pragma once

#include <string>

#include "latent_files.h"
#include "model/test_files.h"

namespace foveal::test {

/// How a GGUF file of a checkpoint with latent attention is written.
struct GgufStyle {
  bool apart = true;       ///< kv_b_proj as attn_k_b and attn_v_b, as files since 2025; else whole
  bool list_types = true;  ///< attention.indexer.types, where the config has them
};

/// The checkpoint in GGUF, under the names and keys that llama.cpp's converter uses: nothing is
/// permuted, experts are stacked, the keys' half of kv_b_proj is turned over. Its config must say
/// rms_norm_eps, a rope theta, routed_scaling_factor and index_topk where they apply.
model::GgufBuilder to_gguf(const Files& files, const GgufStyle& style = {});

/// A checkpoint's files as Files; it has one safetensors file.
Files load_files(const std::string& folder);

}  // namespace foveal::test
