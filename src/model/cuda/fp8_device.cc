#include "model/cuda/fp8_device.h"

#include <algorithm>

namespace foveal::model {
namespace {

constexpr int64_t kBlock = 128;  // rows and columns

}  // namespace

std::optional<StoredMatrix> stored_fp8(const Checkpoint& checkpoint, std::string_view name) {
  std::optional<Fp8Matrix> stored = checkpoint.fp8_matrix(name);
  if (!stored || stored->weight.cols % 16 != 0) return std::nullopt;
  StoredMatrix out{.weight = stored->weight, .scales = std::move(stored->scales)};
  if (!out.by_block()) return out;
  const bool expert = name.find(".mlp.experts.") != std::string_view::npos;
  const bool whole = !expert || out.weight.rows % kBlock == 0;
  if (out.scales->rows != kBlock || out.scales->cols != kBlock || !whole) return std::nullopt;
  return out;
}

bool is_fp8_on_device(const Checkpoint& checkpoint, std::string_view name) {
  const auto ends = [&](std::string_view end) { return name.ends_with(end); };
  if (ends("embed_tokens.weight") || ends("lm_head.weight") || ends("kv_b_proj.weight")) {
    return false;
  }
  return stored_fp8(checkpoint, name).has_value();
}

}  // namespace foveal::model
