#pragma once

#include <cstdint>
#include <vector>

#include "kernels/latent_attention.h"

namespace foveal::kernels::reference {

struct LatentResult {
  std::vector<double> out;         ///< [rows, num_heads, value_dim], row r of q at r
  std::vector<double> magnitude;   ///< same shape: the weights' mean of |value|
  std::vector<double> score_norm;  ///< [rows, num_heads]: largest sum of |q k|, log2 domain
};

/// The definition in kernels/latent_attention.h, key by key in double precision. `round_q`: queries
/// are scaled and rounded to bf16 first, as on the bf16 path.
LatentResult latent_attention(const LatentAttentionParams& params, bool round_q);

/// A channel of a key.
double latent_value(const KvLayerView& kv, int32_t page, int32_t slot, int32_t channel);

}  // namespace foveal::kernels::reference
