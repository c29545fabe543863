#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "model/layers/weights.h"

namespace foveal::model {

/// kv_b_proj taken apart: for each head, what makes the head's keys of a latent and what makes its
/// values. The first is turned over, for it is applied to queries.
struct LatentHeads {
  std::unique_ptr<std::byte[]> memory;  ///< what to_latent views, unless that has no data
  WeightView to_latent;                 ///< [num_heads * kv_rank, nope_dim]: W_UK^T, in bf16 or
                                        ///< float32 unless the file has it so
  std::vector<WeightView> to_values;    ///< a head's [value_dim, kv_rank], as stored: W_UV

  WeightView to_latent_of(int64_t head) const;
};

/// `prefix`: "model.layers.3.self_attn.".
LatentHeads load_latent_heads(const Checkpoint& checkpoint, const std::string& prefix);

}  // namespace foveal::model
