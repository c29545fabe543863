#pragma once

#include <optional>

#include "model/arch/registry.h"
#include "model/checkpoint.h"
#include "model/cuda/weight_loader.h"

namespace foveal::model {

/// A projection on the device; `bias` is empty where there is none.
struct DeviceLinear {
  DeviceTensor weight;
  DeviceTensor bias;

  int64_t rows() const { return weight.rows; }
  int64_t cols() const { return weight.cols; }
  const void* bias_data() const { return bias.empty() ? nullptr : bias.buffer.data(); }
};

/// The matrices of a mixture of experts, expert after expert.
struct DeviceExperts {
  DeviceLinear router;
  DeviceTensor gate_up;  ///< [num_experts * 2 * intermediate, hidden]: gate rows, then up rows
  DeviceTensor down;     ///< [num_experts * hidden, intermediate]
};

/// One layer's weights on the device.
struct DeviceLayer {
  DeviceLinear qkv;  ///< q rows, k rows, v rows
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
DeviceLayer load_device_layer(const Checkpoint& checkpoint, const DecoderTraits& traits,
                              int32_t layer, WeightLoader& loader);

}  // namespace foveal::model
