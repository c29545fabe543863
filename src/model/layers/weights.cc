#include "model/layers/weights.h"

#include <fmt/format.h>

#include "base/check.h"
#include "base/log.h"

namespace foveal::model {

Linear load_linear(const Checkpoint& checkpoint, const std::string& prefix, int64_t rows,
                   int64_t cols, bool need_bias) {
  Linear out;
  out.weight = checkpoint.matrix(prefix + ".weight", rows, cols);
  const bool has_bias = checkpoint.find(prefix + ".bias") != nullptr;
  if (need_bias || has_bias) out.bias = checkpoint.vector(prefix + ".bias", rows);
  return out;
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
