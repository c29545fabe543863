#pragma once

#include <optional>

#include "model/arch/registry.h"
#include "model/checkpoint.h"
#include "model/cuda/fp8_device.h"
#include "model/cuda/weight_loader.h"

namespace foveal::model {

/// A projection on the device; `bias` is empty where there is none.
struct DeviceLinear {
  std::vector<DeviceTensor> parts;  ///< one under another: as many as there are types of weights
  DeviceTensor bias;

  bool empty() const { return parts.empty(); }
  int64_t rows() const {
    int64_t out = 0;
    for (const DeviceTensor& part : parts) out += part.rows;
    return out;
  }
  int64_t cols() const { return parts.front().cols; }
  const void* bias_data() const { return bias.empty() ? nullptr : bias.buffer.data(); }
};

/// The matrices of a mixture of experts, expert after expert.
struct DeviceExperts {
  DeviceLinear router;
  DeviceTensor gate_up;  ///< [num_experts * 2 * intermediate, hidden]: gate rows, then up rows
  DeviceTensor down;     ///< [num_experts * hidden, intermediate]
  DeviceTensor bias;     ///< [num_experts] where routing is by sigmoids
  DeviceLinear shared_gate_up, shared_down;  ///< of the expert that every row takes; or empty
};

/// Multi-head latent attention's, and its indexer's, fused by what they read.
struct DeviceLatent {
  DeviceLinear low;        ///< of the hidden row: query latent, index key, latent and rotating
                           ///< channels, index weights; each where the model has it
  DeviceLinear q;          ///< of the query latent (or the row): query heads, index query heads
  DeviceTensor q_norm;     ///< [q_rank], or empty
  DeviceTensor kv_norm;    ///< [kv_rank]
  DeviceTensor to_latent;  ///< [num_heads * kv_rank, nope_dim]: W_UK^T
  DeviceTensor heads;      ///< [num_heads * (nope_dim + value_dim), kv_rank]: W_UK, W_UV of each
  DeviceTensor index_norm, index_bias;  ///< [index head_dim], or empty

  bool indexed() const { return !index_norm.empty(); }
};

/// One layer's weights on the device.
struct DeviceLayer {
  DeviceLinear qkv;  ///< q rows, k rows, v rows; empty with `latent`
  std::optional<DeviceLatent> latent;
  DeviceLinear o;
  DeviceTensor q_norm, k_norm;  ///< [head_dim], or empty
  DeviceLinear gate_up;         ///< gate rows, up rows; empty where there are experts
  DeviceLinear down;
  std::optional<DeviceExperts> experts;
  DeviceTensor input_norm;
  DeviceTensor post_attention_norm;  ///< sandwich norms: after attention; else before the mlp
  DeviceTensor pre_mlp_norm;         ///< sandwich norms only
  DeviceTensor post_mlp_norm;        ///< sandwich norms only
};

/// Throws kCorruptFile or kUnsupported, naming the tensor.
DeviceLayer load_device_layer(const Checkpoint& checkpoint, const Fp8OnDevice& fp8,
                              const DecoderTraits& traits, int32_t layer, WeightLoader& loader);

}  // namespace foveal::model
