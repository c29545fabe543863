#include "model/cuda/fp8_device.h"

#include <fmt/format.h>

#include <charconv>
#include <vector>

namespace foveal::model {
namespace {

constexpr int64_t kBlock = 128;   // rows and columns
constexpr int64_t kColumns = 16;  // that a lane reads at once

/// "model.layers.3.mlp.experts." of one of a layer's experts, else empty.
std::string_view experts_of(std::string_view name) {
  constexpr std::string_view kExperts = ".mlp.experts.";
  const size_t at = name.find(kExperts);
  return at == std::string_view::npos ? std::string_view() : name.substr(0, at + kExperts.size());
}

/// The number of the layer that the name belongs to; -1: none.
int32_t layer_of(std::string_view name) {
  constexpr std::string_view kLayers = "model.layers.";
  int32_t out = -1;
  if (name.starts_with(kLayers)) {
    std::from_chars(name.data() + kLayers.size(), name.data() + name.size(), out);
  }
  return out;
}

StoredMatrix as_stored(std::string_view name, Fp8Matrix&& matrix) {
  return {.weight = matrix.weight, .scales = std::move(matrix.scales), .name = std::string(name)};
}

/// Why products cannot read the matrix where it lies by itself, or experts side by side; or empty.
std::string why_not(const StoredMatrix& matrix) {
  const std::string_view name = matrix.name;
  const auto ends = [&](std::string_view end) { return name.ends_with(end); };
  if (ends("embed_tokens.weight") || ends("lm_head.weight")) {
    return "embeddings and output matrices are in bf16";
  }
  if (ends("kv_b_proj.weight")) return "latent attention takes them apart";
  const WeightView& weight = matrix.weight;
  if (weight.cols % kColumns != 0) {
    return fmt::format("rows of {} values, no multiple of {}", weight.cols, kColumns);
  }
  if (!matrix.by_block()) return {};
  if (matrix.scales->rows != kBlock || matrix.scales->cols != kBlock) {
    return fmt::format("scales of {} x {} values, not of {} x {}", matrix.scales->rows,
                       matrix.scales->cols, kBlock, kBlock);
  }
  if (!experts_of(name).empty() && weight.rows % kBlock != 0) {
    return fmt::format("experts of {} rows, no multiple of {}", weight.rows, kBlock);
  }
  return {};
}

/// What is found of a layer's experts.
struct Experts {
  std::vector<std::string> fp8;     ///< names
  std::string why;                  ///< they are expanded; or empty
  std::optional<bool> by_block[2];  ///< gate and up; down

  void add(const StoredMatrix& matrix) {
    fp8.push_back(matrix.name);
    if (why.empty()) why = why_not(matrix);
    std::optional<bool>& kind = by_block[matrix.name.ends_with("down_proj.weight") ? 1 : 0];
    if (!kind) kind = matrix.by_block();
    if (why.empty() && *kind != matrix.by_block()) why = "experts with scales of different kinds";
  }
};

}  // namespace

Fp8OnDevice::Fp8OnDevice(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {
  if (!checkpoint.config().fp8_weights) return;
  std::map<std::string, Experts, std::less<>> layers;
  for (const std::string& name : checkpoint.names()) {
    if (layer_of(name) >= checkpoint.config().num_layers) continue;
    const std::string experts(experts_of(name));
    std::optional<Fp8Matrix> matrix = checkpoint.fp8_layout(name);
    if (matrix && experts.empty()) {
      put(name, why_not(as_stored(name, *std::move(matrix))));
    } else if (matrix) {
      layers[experts].add(as_stored(name, *std::move(matrix)));
    } else if (!experts.empty() && name.ends_with(".weight")) {
      layers[experts].why = "experts of different types";
    }
  }
  for (const auto& [prefix, experts] : layers) {
    for (const std::string& name : experts.fp8) put(name, experts.why);
  }
}

void Fp8OnDevice::put(const std::string& name, const std::string& why) {
  if (why.empty()) {
    kept_.insert(name);
  } else {
    expanded_.emplace(name, why);
  }
}

std::optional<StoredMatrix> Fp8OnDevice::stored(std::string_view name) const {
  if (!kept_.contains(name)) return std::nullopt;
  return as_stored(name, *checkpoint_.fp8_matrix(name));
}

std::string Fp8OnDevice::summary() const {
  std::map<std::string, std::vector<std::string>> names;  // by reason
  for (const auto& [name, why] : expanded_) names[why].push_back(name);
  std::string out;
  for (const auto& [why, those] : names) {
    out += fmt::format("{}{} ({}{}): {}", out.empty() ? "" : "; ", those.size(), those.front(),
                       those.size() > 1 ? ", ..." : "", why);
  }
  return out;
}

}  // namespace foveal::model
