#include "model/layers/weights.h"

#include <fmt/format.h>

#include "base/check.h"
#include "base/log.h"

namespace foveal::model {

Linear load_linear(const Checkpoint& checkpoint, const std::string& prefix, int64_t rows,
                   int64_t cols, bool need_bias) {
  Linear out;
  out.weight = checkpoint.matrix(prefix + ".weight", rows, cols);
  out.bias = load_bias(checkpoint, prefix, rows, need_bias);
  return out;
}

std::vector<float> load_bias(const Checkpoint& checkpoint, const std::string& prefix, int64_t rows,
                             bool need_bias) {
  const std::string name = prefix + ".bias";
  if (!need_bias && checkpoint.find(name) == nullptr) return {};
  return checkpoint.vector(name, rows);
}

ExpertWeights load_expert(const Checkpoint& checkpoint, const std::string& prefix, int32_t idx) {
  const int64_t hidden = checkpoint.config().hidden_size;
  const int64_t width = checkpoint.config().moe_intermediate_size;
  if (checkpoint.find(prefix + "gate_up_proj") != nullptr) {
    Linear both;
    const int32_t count = checkpoint.config().num_experts;
    both.weight = checkpoint.stacked_matrix(prefix + "gate_up_proj", idx, count, 2 * width, hidden);
    return {.gate = slice_rows(both, 0, width).weight,
            .up = slice_rows(both, width, width).weight,
            .down = checkpoint.stacked_matrix(prefix + "down_proj", idx, count, hidden, width)};
  }
  const auto part = [&](const char* name, int64_t rows, int64_t cols) {
    return checkpoint.expert_matrix(prefix + "{}." + name + ".weight", idx, rows, cols);
  };
  return {.gate = part("gate_proj", width, hidden),
          .up = part("up_proj", width, hidden),
          .down = part("down_proj", hidden, width)};
}

std::vector<float> load_router_bias(const Checkpoint& checkpoint, const std::string& prefix) {
  return checkpoint.vector(prefix + "gate.e_score_correction_bias",
                           checkpoint.config().num_experts);
}

void check_expert_count(const Checkpoint& checkpoint, const std::string& prefix) {
  const int32_t count = checkpoint.config().num_experts;
  for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
    const std::string unread = fmt::format("{}{}.{}.weight", prefix, count, part);
    FOVEAL_CHECK(checkpoint.find(unread) == nullptr, ErrorKind::kCorruptFile, "model",
                 "got '{}' in a model of {} experts; need a config that fits the file", unread,
                 count);
  }
}

void check_no_shared_experts(const Checkpoint& checkpoint, const std::string& prefix) {
  for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
    const std::string unread = prefix + part + ".weight";
    // transformers writes one of no width.
    const TensorView* found = checkpoint.find(unread);
    FOVEAL_CHECK(found == nullptr || found->num_elements() == 0, ErrorKind::kCorruptFile, unread,
                 "got a shared expert, and a number of shared experts of 0 or none (GGUF: "
                 "expert_shared_count, config.json: n_shared_experts); need a number that agrees");
  }
}

void check_no_indexer(const Checkpoint& checkpoint, const std::string& prefix) {
  const std::string name = prefix + "wk.weight";
  FOVEAL_CHECK(checkpoint.find(name) == nullptr, ErrorKind::kCorruptFile, "model",
               "got '{}' in a layer that has no indexer by its config; need a config and a file "
               "that agree",
               name);
}

void check_layer_count(const Checkpoint& checkpoint) {
  const int32_t layers = checkpoint.config().num_layers;
  const auto has = [&](int32_t layer, const char* name) {
    return checkpoint.find(fmt::format("model.layers.{}.{}.weight", layer, name)) != nullptr;
  };
  int32_t next = layers;
  while (has(next, "eh_proj")) ++next;
  if (next > layers) {
    log_info(
        "layer {} predicts further tokens (multi-token prediction) and is left out",
        next == layers + 1 ? fmt::format("{}", layers) : fmt::format("{} to {}", layers, next - 1));
  }
  FOVEAL_CHECK(!has(next, "input_layernorm"), ErrorKind::kCorruptFile, "model",
               "got tensors of layer {} in a model of {} layers; need a config that fits the file",
               next, layers);
}

Linear slice_rows(const Linear& fused, int64_t first, int64_t count) {
  FOVEAL_INVARIANT(first >= 0 && count > 0 && first + count <= fused.weight.rows);
  Linear out;
  out.weight = fused.weight;
  out.weight.data = fused.weight.row(first);
  out.weight.rows = count;
  if (!fused.bias.empty()) {
    out.bias.assign(fused.bias.begin() + first, fused.bias.begin() + first + count);
  }
  return out;
}

}  // namespace foveal::model
