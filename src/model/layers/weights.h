#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/gemm.h"
#include "model/checkpoint.h"

namespace foveal::model {

/// A projection as stored, with its bias widened.
struct Linear {
  WeightView weight;
  std::vector<float> bias;  ///< empty: none

  kernels::GemmOutput output(float* y, int64_t y_stride, bool accumulate = false) const {
    return {.weight = weight,
            .bias = bias.empty() ? nullptr : bias.data(),
            .y = y,
            .y_stride = y_stride,
            .accumulate = accumulate};
  }
};

/// `prefix`.weight [rows, cols], and `prefix`.bias [rows] where the file holds one. Throws
/// kCorruptFile when it does not and `need_bias`.
Linear load_linear(const Checkpoint& checkpoint, const std::string& prefix, int64_t rows,
                   int64_t cols, bool need_bias);

/// The bias alone.
std::vector<float> load_bias(const Checkpoint& checkpoint, const std::string& prefix, int64_t rows,
                             bool need_bias);

/// One expert's matrices: from tensors of its own, from stacked ones, or as transformers holds
/// them, all experts in one tensor with gate and up together. `prefix`:
/// "model.layers.3.mlp.experts.".
struct ExpertWeights {
  WeightView gate, up, down;
};
ExpertWeights load_expert(const Checkpoint& checkpoint, const std::string& prefix, int32_t idx);

/// What a router of sigmoids adds to its scores to choose experts. `prefix`: "model.layers.3.mlp.".
std::vector<float> load_router_bias(const Checkpoint& checkpoint, const std::string& prefix);

/// Throws kCorruptFile where the file holds more experts of this layer than the config says.
/// `prefix`: "model.layers.3.mlp.experts.".
void check_expert_count(const Checkpoint& checkpoint, const std::string& prefix);

/// Throws kCorruptFile where the model (by its config) has no shared experts and the file has one
/// for this layer. `prefix`: "model.layers.3.mlp.shared_experts.".
void check_no_shared_experts(const Checkpoint& checkpoint, const std::string& prefix);

/// Throws kCorruptFile where the layer (by its config) has no indexer and the file has one for it.
/// `prefix`: "model.layers.3.self_attn.indexer.".
void check_no_indexer(const Checkpoint& checkpoint, const std::string& prefix);

/// Throws kCorruptFile when the file holds more layers than the config says: half a model would
/// run, and talk nonsense. Layers that predict further tokens (multi-token prediction) are no part
/// of it: a line of the log says that they are left out.
void check_layer_count(const Checkpoint& checkpoint);

/// A run of rows of a fused projection (phi3's qkv_proj and gate_up_proj).
Linear slice_rows(const Linear& fused, int64_t first, int64_t count);

}  // namespace foveal::model
